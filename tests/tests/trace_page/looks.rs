//! The page on a phone, in dark colours, and for screen readers.

use serde_json::Value;
use upcycle_tests::browser;

use crate::traces::{REAL, SYNTHETIC};
use crate::{assert_quiet, open};

#[test]
fn a_phone_shows_every_step_without_scrolling_sideways() {
    for trace in [&*REAL, &*SYNTHETIC] {
        browser::with(|browser| {
            browser.resize(360, 740).unwrap();
            let _page = open(browser, trace, "");
            let wide = "const found = [];
                for (let step = 0; step <= arguments[0]; step++) {
                  go(step);
                  if (document.documentElement.scrollWidth > 360 || innerWidth !== 360) found.push(step);
                }
                return found";
            assert_eq!(
                browser.run(wide, &[trace.steps.len().min(60).into()]).unwrap(),
                Value::Array(Vec::new())
            );
            for button in ["#first", "#next", "#next", "#previous", "#play", "#play", "#last"] {
                browser.click(button).unwrap();
            }
            assert_quiet(browser);
        });
    }
}

#[test]
fn dark_mode_is_dark_and_both_can_be_read() {
    browser::with(|browser| {
        let _page = open(browser, &REAL, "#step=4");
        // The relative luminance of a colour (WCAG 2.2), and the contrast of each text with its background.
        let contrasts = "
            const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
            const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
            const luminance = (colour) => parse(colour).slice(0, 3)
                .reduce((sum, c, i) => sum + [0.2126, 0.7152, 0.0722][i] * linear(c / 255), 0);
            const behind = (element) => {
                const colour = getComputedStyle(element).backgroundColor;
                return parse(colour)[3] === 0 ? behind(element.parentElement) : colour;
            };
            const low = [];
            for (const element of document.querySelectorAll('body *')) {
                const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
                if (!own || element.closest('script, noscript, [aria-disabled=true]')) continue;
                const [a, b] = [luminance(getComputedStyle(element).color), luminance(behind(element))];
                const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
                if (contrast < 4.5) low.push(`${element.tagName}.${element.className} ${contrast.toFixed(2)}`);
            }
            return [luminance(behind(document.body)), low.join()]";
        let light = browser.run(contrasts, &[]).unwrap();
        browser.dark(true).unwrap();
        let dark = browser.run(contrasts, &[]).unwrap();
        assert!(light[0].as_f64().unwrap() > 0.8 && dark[0].as_f64().unwrap() < 0.05, "{light} {dark}");
        assert_eq!((light[1].as_str(), dark[1].as_str()), (Some(""), Some("")), "contrasts below 4.5");
        assert_quiet(browser);
    });
}

#[test]
fn everything_that_can_be_pressed_has_a_name() {
    browser::with(|browser| {
        let _page = open(browser, &REAL, "#step=4");
        let nameless = "return [...document.querySelectorAll('button, input, [role], [tabindex]')].filter((element) => {
            const label = element.getAttribute('aria-label') || element.labels?.[0]?.textContent || element.textContent;
            return !label.trim();
        }).map((element) => element.outerHTML)";
        assert_eq!(browser.run(nameless, &[]).unwrap(), Value::Array(Vec::new()));
        assert!(browser.text("#said").unwrap().starts_with("Step 4 of "));
        assert_quiet(browser);
    });
}
