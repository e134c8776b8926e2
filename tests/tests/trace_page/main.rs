//! The page of a trace in a real browser: content, looks and navigation.

mod looks;
mod shown;
mod traces;
mod ways;

use serde_json::Value;
use tempfile::TempDir;
use upcycle_bench::trace::{Trace, page};
use upcycle_tests::browser::Browser;

/// Opens the page of a trace, which lies in the returned folder.
pub(crate) fn open(browser: &mut Browser, trace: &Trace, hash: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.html");
    std::fs::write(&file, page(trace)).unwrap();
    browser.open(&format!("file://{}{hash}", file.display())).unwrap();
    folder
}

/// The current step, checked to be the same everywhere on the page. The address follows with a delay.
pub(crate) fn step(browser: &mut Browser) -> u64 {
    let script = "const [number, slider] = ['number', 'slider'].map((id) => document.getElementById(id).value);
        return new Promise((resolve) => {
            const end = Date.now() + 20000;
            const look = () => {
                if (location.hash === `#step=${number}` || Date.now() > end) resolve([number, slider, location.hash]);
                else setTimeout(look, 10);
            };
            look();
        })";
    let shown = browser.run(script, &[]).unwrap();
    let number = shown[0].as_str().unwrap();
    assert_eq!(strings(&shown)[1..], [number, &format!("#step={number}")]);
    number.parse().unwrap()
}

pub(crate) fn go(browser: &mut Browser, step: usize) {
    let script = "const slider = document.getElementById('slider');
                  slider.value = arguments[0]; slider.dispatchEvent(new Event('input'))";
    browser.run(script, &[step.into()]).unwrap();
}

pub(crate) fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// The texts of all elements that match a selector, from left to right in a picture.
pub(crate) fn texts(browser: &mut Browser, selector: &str) -> Value {
    let script = "return [...document.querySelectorAll(arguments[0])]
        .sort((a, b) => (parseFloat(a.parentElement.style.left) || 0) - (parseFloat(b.parentElement.style.left) || 0))
        .map((element) => element.textContent)";
    browser.run(script, &[selector.into()]).unwrap()
}

pub(crate) fn assert_quiet(browser: &mut Browser) {
    assert_eq!(browser.faults().unwrap(), [""; 0]);
}
