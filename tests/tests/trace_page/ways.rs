//! Navigation between steps and nodes.

use upcycle_bench::trace::page;
use upcycle_tests::browser::{self, Browser, keys};

use crate::traces::{REAL, STEPS, SYNTHETIC};
use crate::{assert_quiet, go, open, step};

#[test]
fn every_way_leads_to_the_step_that_it_names() {
    let last = REAL.steps.len() as u64;
    assert!(last > 5, "{last}");
    browser::with(|browser| {
        let _page = open(browser, &REAL, "");
        assert_eq!(step(browser), 0);
        for (button, expected) in
            [("#next", 1), ("#next", 2), ("#previous", 1), ("#last", last), ("#first", 0), ("#next", 1)]
        {
            browser.click(button).unwrap();
            assert_eq!(step(browser), expected, "{button}");
        }
        browser.click("h1").unwrap();
        for (key, expected) in [
            (keys::RIGHT, 2),
            (keys::RIGHT, 3),
            (keys::LEFT, 2),
            (keys::END, last),
            (keys::RIGHT, last),
            (keys::HOME, 0),
            (keys::LEFT, 0),
        ] {
            browser.press(key).unwrap();
            assert_eq!(step(browser), expected, "{key:?}");
        }
        for (number, expected) in [("4", 4), ("999999", last), ("-3", 0), ("2", 2)] {
            browser.run("document.getElementById('number').value = ''", &[]).unwrap();
            browser.type_into("#number", &format!("{number}{}", keys::ENTER)).unwrap();
            assert_eq!(step(browser), expected, "{number}");
        }
        let emptied = "const number = document.getElementById('number');
            number.value = ''; number.dispatchEvent(new Event('change'))";
        browser.run(emptied, &[]).unwrap();
        assert_eq!(step(browser), 2, "no number is no step");
        let visit = "return new Promise((resolve) => {
            addEventListener('hashchange', () => resolve(document.getElementById('number').value), { once: true });
            location.hash = arguments[0];
        })";
        for (hash, expected) in [("#step=3", 3), ("#step=999999", last), ("#step=x", last), ("#step=0", 0)] {
            assert_eq!(browser.run(visit, &[hash.into()]).unwrap(), expected.to_string(), "{hash}");
        }
        go(browser, 5);
        assert_eq!(step(browser), 5);
        assert!(
            browser.run("return document.title", &[]).unwrap().as_str().unwrap().starts_with("Step 5 of ")
        );

        let _page = open(browser, &REAL, "#step=4");
        assert_eq!(step(browser), 4, "an address holds the step");
        assert_quiet(browser);
    });
}

#[test]
fn the_buttons_end_where_the_steps_do() {
    browser::with(|browser| {
        let _page = open(browser, &REAL, "");
        let off = |browser: &mut Browser| {
            ["#first", "#previous", "#next", "#last"]
                .map(|button| browser.attribute(button, "aria-disabled").unwrap().unwrap() == "true")
        };
        assert_eq!(off(browser), [true, true, false, false]);
        browser.click("#previous").unwrap();
        assert_eq!(step(browser), 0);
        browser.click("#next").unwrap();
        assert_eq!(off(browser), [false; 4]);
        browser.click("#last").unwrap();
        assert_eq!(off(browser), [false, false, true, true]);
        browser.click("#next").unwrap();
        assert_eq!(step(browser), REAL.steps.len() as u64);
        assert_quiet(browser);
    });
}

#[test]
fn space_plays_to_the_end_and_pauses() {
    browser::with(|browser| {
        let last = REAL.steps.len();
        let _page = open(browser, &REAL, "");
        browser.press(' ').unwrap();
        assert_eq!(browser.text("#play").unwrap(), "Pause");
        browser.press(' ').unwrap();
        assert_eq!(browser.text("#play").unwrap(), "Play");
        go(browser, last - 1);
        browser.click("#play").unwrap();
        let wait = "const done = () => document.getElementById('play').textContent === 'Play';
            return new Promise((resolve) => {
              const look = () => (done() ? resolve(true) : setTimeout(look, 20));
              look();
            })";
        assert_eq!(browser.run(wait, &[]).unwrap(), true);
        assert_eq!(step(browser), last as u64);
        assert_quiet(browser);
    });
}

#[test]
fn the_keyboard_goes_through_the_tree() {
    browser::with(|browser| {
        let _page = open(browser, &SYNTHETIC, "#step=2");
        browser.run("document.querySelector('#tree [tabindex=\"0\"]').focus()", &[]).unwrap();
        browser.run("document.querySelector('#tree [data-node=\"0\"]').focus()", &[]).unwrap();
        let chosen = "return document.activeElement.dataset.node + ' ' +
            document.querySelectorAll('#tree [tabindex=\"0\"]').length + ' ' +
            getComputedStyle(document.activeElement).outlineStyle";
        let nodes = SYNTHETIC.steps[1].tokens.len();
        let mut seen = vec![browser.run(chosen, &[]).unwrap()];
        for _ in 0..nodes {
            browser.press(keys::DOWN).unwrap();
            seen.push(browser.run(chosen, &[]).unwrap());
        }
        assert!(
            seen.iter().all(|one| one.as_str().unwrap().ends_with(" 1 solid")),
            "one stop, in sight: {seen:?}"
        );
        seen.sort_by_key(|one| one.as_str().unwrap().split(' ').next().unwrap().parse::<usize>().unwrap());
        seen.dedup();
        assert_eq!(seen.len(), nodes + 1, "each node once");
        browser.press(keys::RIGHT).unwrap();
        assert_eq!(step(browser), 3);
        assert_eq!(
            browser.run("return document.activeElement.closest('#tree') !== null", &[]).unwrap(),
            true
        );
        assert_quiet(browser);
    });
}

#[test]
fn three_hundred_steps_of_eighty_nodes_are_walked_through() {
    let trace = &*SYNTHETIC;
    browser::with(|browser| {
        let _page = open(browser, trace, "");
        let walk = "const times = [];
            for (let step = 1; step <= arguments[0]; step++) {
              const start = performance.now();
              go(step);
              document.body.offsetHeight;
              times.push(performance.now() - start);
            }
            times.sort((a, b) => a - b);
            return [times.length / 2, times.length - 1].map((at) => times[Math.floor(at)])";
        let times = browser.run(walk, &[STEPS.into()]).unwrap();
        println!(
            "a step is rendered in {times} ms (median, longest); the page has {} bytes",
            page(trace).len()
        );
        assert_eq!(step(browser), STEPS as u64);
        assert_eq!(browser.text("#count").unwrap(), format!("of {STEPS}"));
        assert_quiet(browser);
    });
}
