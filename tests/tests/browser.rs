//! The browser harness executes commands and detects all faults.

use std::fs;

use upcycle_tests::browser::{self, BrowserError, keys};

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>Page</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width">
<style>body { background: white } @media (prefers-color-scheme: dark) { body { background: black } }</style>
<p id="said" title="a title">nothing</p><button>Say</button><input>
<script>
  const said = document.getElementById("said");
  const say = (what) => { said.textContent += `, ${what}`; };
  document.querySelector("button").onclick = () => say("click");
  document.querySelector("button").onpointerover = () => say("over");
  document.onkeydown = (event) => say(event.key);
</script>"#;

#[test]
fn a_page_is_opened_driven_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("a page.html");
    fs::write(&page, PAGE).unwrap();
    browser::with(|browser| {
        browser.open_file(&page).unwrap();
        assert_eq!(browser.text("#said").unwrap(), "nothing");
        assert_eq!(browser.attribute("#said", "title").unwrap().as_deref(), Some("a title"));
        assert_eq!(browser.attribute("#said", "lang").unwrap(), None);
        browser.hover("button").unwrap();
        browser.click("button").unwrap();
        browser.press(keys::RIGHT).unwrap();
        browser.type_into("input", "x").unwrap();
        assert_eq!(browser.text("#said").unwrap(), "nothing, over, click, ArrowRight, x");
        assert_eq!(browser.run("return 2 * arguments[0]", &[21.into()]).unwrap(), 42);

        for (width, height) in [(360, 740), (1280, 900)] {
            browser.resize(width, height).unwrap();
            assert_eq!(
                browser.run("return `${innerWidth} ${innerHeight}`", &[]).unwrap(),
                format!("{width} {height}")
            );
        }
        let background = "return getComputedStyle(document.body).backgroundColor";
        for (dark, colour) in [(true, "rgb(0, 0, 0)"), (false, "rgb(255, 255, 255)")] {
            browser.dark(dark).unwrap();
            assert_eq!(browser.run(background, &[]).unwrap(), colour);
        }
        let image = folder.path().join("page.png");
        browser.screenshot(&image).unwrap();
        assert!(fs::read(image).unwrap().starts_with(b"\x89PNG"));
        assert_eq!(browser.faults().unwrap(), [""; 0]);
    });
}

#[test]
fn what_is_not_there_is_refused() {
    browser::with(|browser| {
        browser.open("data:text/html,<p>nothing</p>").unwrap();
        assert!(matches!(browser.click("#no-such"), Err(BrowserError::Refused { .. })));
        assert!(matches!(browser.run("throw Error('x')", &[]), Err(BrowserError::Refused { .. })));
        for address in ["http://127.0.0.1:9/", "file:///no-such-page"] {
            assert!(matches!(browser.open(address), Err(BrowserError::NoPage { .. })));
        }
        assert!(matches!(browser.open_file("no-such.html".as_ref()), Err(BrowserError::File { .. })));
    });
}

#[test]
fn errors_and_requests_are_noticed_once() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let faults = |body: &str| {
        fs::write(&page, format!("<!doctype html><link rel=icon href=data:,>{body}")).unwrap();
        browser::with(|browser| {
            browser.open_file(&page).unwrap();
            // A request may be logged after the page has loaded.
            browser.run("return document.readyState", &[]).unwrap();
            let faults = browser.faults().unwrap();
            assert_eq!(browser.faults().unwrap(), [""; 0], "they are told once");
            faults
        })
    };
    assert_eq!(faults("<p>quiet</p>"), [""; 0]);
    for (body, fault) in [
        ("<script>console.error('alas')</script>", "alas"),
        ("<script>missing()</script>", "missing is not defined"),
        ("<img src='other.png'>", "request: file://"),
        ("<script src='http://127.0.0.1:9/x.js'></script>", "request: http://127.0.0.1:9/x.js"),
    ] {
        let found = faults(body);
        assert!(found.iter().any(|found| found.contains(fault)), "{body}: {found:?}");
    }
}
