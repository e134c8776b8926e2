//! The page of a benchmark run in a real browser: charts and figures, also on a phone and in dark colours.

use serde_json::{Value, json};
use upcycle_bench::report;
use upcycle_tests::browser;

use crate::{plan, results};

#[test]
fn charts_and_figures_are_on_the_page_light_and_dark_wide_and_narrow() {
    let results = results(plan(&["naive", "mask-ignored"], "plain,recycling:4,recycling:16,mixed:4"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    std::fs::write(&file, report::html(&results).unwrap()).unwrap();
    browser::with(|browser| {
        browser.resize(1280, 900).unwrap();
        browser.open_file(&file).unwrap();
        // Each kind of chart draws visible shapes.
        let charts = browser
            .run(
                "return Object.fromEntries([...document.querySelectorAll('.figure')].map((figure) =>
                    [figure.id, [...figure.querySelectorAll('svg[role=img]')].every((svg) =>
                        svg.getBoundingClientRect().width > 100
                        && svg.querySelector('rect, polyline, circle, line, path') !== null)]))",
                &[],
            )
            .unwrap();
        for chart in ["overall", "groups", "sizes", "costs", "depth"] {
            assert_eq!(charts[chart], json!(true), "{chart}: {charts}");
        }
        let text = browser.text("body").unwrap();
        for arm in &results.arms {
            let label = arm.name.split_once(' ').map_or(arm.name.as_str(), |(_, label)| label);
            assert!(text.contains(label), "{}", arm.name);
        }
        for figure in [&*results.machine.cpu, "WRONG", &results.arms[0].model_sha256] {
            assert!(text.contains(figure), "{figure:?} is not on the page");
        }
        assert_eq!(browser.faults().unwrap(), [""; 0], "nothing is fetched, and nothing fails");

        let background = "return getComputedStyle(document.body).backgroundColor";
        let light = browser.run(background, &[]).unwrap();
        browser.dark(true).unwrap();
        assert_ne!(browser.run(background, &[]).unwrap(), light);
        browser.dark(false).unwrap();

        browser.resize(360, 740).unwrap();
        let width = browser.run("return document.documentElement.scrollWidth", &[]).unwrap();
        assert!(width.as_u64().is_some_and(|width| width <= 360), "{width}");
        let panels = browser.run(
            "return [...document.querySelectorAll('.figure svg[role=img]')].filter((svg) => svg.getBoundingClientRect().right > 361).length",
            &[],
        );
        assert_eq!(panels.unwrap(), Value::from(0), "no chart is cut off on a phone");
    });
}
