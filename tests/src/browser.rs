//! A real browser for tests of pages: headless Chromium, driven through ChromeDriver by the W3C's WebDriver protocol.
//!
//! [`with`] lends one browser to all tests of a program, one after the other. What a page writes to the console as an
//! error, and all that it fetches, is kept: [`Browser::faults`].

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::time::Duration;
use std::{fs, io, thread};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Keys that have no character, for [`Browser::press`].
pub mod keys {
    /// Tabulator.
    pub const TAB: char = '\u{e004}';
    /// Enter.
    pub const ENTER: char = '\u{e007}';
    /// End.
    pub const END: char = '\u{e010}';
    /// Home.
    pub const HOME: char = '\u{e011}';
    /// Arrow to the left.
    pub const LEFT: char = '\u{e012}';
    /// Arrow up.
    pub const UP: char = '\u{e013}';
    /// Arrow to the right.
    pub const RIGHT: char = '\u{e014}';
    /// Arrow down.
    pub const DOWN: char = '\u{e015}';
}

/// How long the driver may take to start.
const START: Duration = Duration::from_secs(30);
/// How long one command may take.
const COMMAND: Duration = Duration::from_secs(60);

/// By the protocol, an element's id stands under this key.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Why the browser did not do what it was told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrowserError {
    /// The driver cannot be run.
    #[error("chromedriver cannot be run; scripts/setup.sh installs it (Debian: chromium, chromium-driver)")]
    NoDriver(#[source] io::Error),
    /// The driver does not come up.
    #[error("chromedriver did not say its port within {START:?}; run `chromedriver --port=0` to see why")]
    Silent,
    /// The driver does not answer.
    #[error("no answer to {command}")]
    Unreachable {
        /// The command.
        command: String,
        /// Why not.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The driver refuses: no such element, a script that throws, a dialog in the way.
    #[error("{command}: {reason}")]
    Refused {
        /// The command.
        command: String,
        /// In the driver's words.
        reason: String,
    },
    /// No page is at an address.
    #[error("there is no page at {address}")]
    NoPage {
        /// The address.
        address: String,
    },
    /// A file cannot be written or found.
    #[error("{path}")]
    File {
        /// Which.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// A running browser with one window. Dropping it ends it.
#[derive(Debug)]
pub struct Browser {
    agent: ureq::Agent,
    /// `http://127.0.0.1:PORT`, then `/session/ID` once there is one.
    base: String,
    driver: Child,
    _profile: tempfile::TempDir,
}

/// Runs `test` with the program's browser, which starts with the first test that wants one and ends with the last that
/// holds it. Tests take turns; each begins with a window of 1280 x 900 in light colours.
///
/// # Panics
/// If there is no browser: a test cannot go on without.
pub fn with<T>(test: impl FnOnce(&mut Browser) -> T) -> T {
    static SHARED: Mutex<Weak<Mutex<Browser>>> = Mutex::new(Weak::new());
    let shared = {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let browser = Browser::start().unwrap_or_else(|error| panic!("no browser: {error}: {error:?}"));
            let browser = Arc::new(Mutex::new(browser));
            *shared = Arc::downgrade(&browser);
            browser
        })
    };
    // A test that failed leaves the browser as fit as any other.
    let mut browser = shared.lock().unwrap_or_else(PoisonError::into_inner);
    browser.resize(1280, 900).expect("the browser has a window");
    browser.dark(false).expect("the browser has colours");
    test(&mut browser)
}

impl Browser {
    /// Starts a driver on a free port of the loopback, and through it a browser with an empty profile.
    ///
    /// # Errors
    /// [`BrowserError`].
    pub fn start() -> Result<Self, BrowserError> {
        let profile = tempfile::tempdir()
            .map_err(|source| BrowserError::File { path: "a folder for the profile".to_owned(), source })?;
        let driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(BrowserError::NoDriver)?;
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(COMMAND))
            // The driver's own reasons are in the bodies of its errors.
            .http_status_as_error(false)
            .build()
            .new_agent();
        // From here on, a return ends the driver.
        let mut browser = Self { agent, base: String::new(), driver, _profile: profile };
        let port = browser.port()?;
        browser.base = format!("http://127.0.0.1:{port}");
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            // A browser that is led through a pipe ends with its driver, however that one ends.
            "--remote-debugging-pipe",
            &format!("--user-data-dir={}", browser._profile.path().display()),
        ];
        let wanted = json!({
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "timeouts": { "script": 30_000, "pageLoad": 30_000, "implicit": 0 },
        });
        let session = browser.post("/session", &json!({ "capabilities": { "alwaysMatch": wanted } }))?;
        let id = session["sessionId"].as_str().unwrap_or_default();
        browser.base = format!("{}/session/{id}", browser.base);
        browser.open("about:blank")?;
        Ok(browser)
    }

    /// The port that the driver has taken, as it says on its standard output.
    fn port(&mut self) -> Result<u16, BrowserError> {
        let output = self.driver.stdout.take().ok_or(BrowserError::Silent)?;
        let (said, heard) = mpsc::channel();
        // Reads on until the driver ends, so that it never waits for a reader.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let port =
                    line.split_once("successfully on port ").map(|(_, port)| port.trim_end_matches('.'));
                if let Some(port) = port.and_then(|port| port.parse().ok()) {
                    let _ = said.send(port);
                }
            }
        });
        heard.recv_timeout(START).map_err(|_| BrowserError::Silent)
    }

    /// Goes to an address; what was logged before is forgotten.
    ///
    /// # Errors
    /// [`BrowserError::NoPage`] if nothing is there.
    pub fn open(&mut self, address: &str) -> Result<(), BrowserError> {
        self.post("/url", &json!({ "url": "about:blank" }))?;
        self.log("browser")?;
        self.log("performance")?;
        self.post("/url", &json!({ "url": address }))?;
        // Where nothing is, the browser shows a page of its own, and the driver finds nothing wrong with that.
        match self.run("return document.URL", &[])?.as_str() {
            Some(url) if !url.starts_with("chrome-error:") => Ok(()),
            _ => Err(BrowserError::NoPage { address: address.to_owned() }),
        }
    }

    /// Goes to a file.
    ///
    /// # Errors
    /// [`BrowserError`].
    pub fn open_file(&mut self, path: &Path) -> Result<(), BrowserError> {
        let path = fs::canonicalize(path)
            .map_err(|source| BrowserError::File { path: path.display().to_string(), source })?;
        self.open(&format!("file://{}", path.display()))
    }

    /// Clicks on the first element that a CSS selector finds.
    ///
    /// # Errors
    /// [`BrowserError::Refused`] if there is none, or if something covers it.
    pub fn click(&mut self, selector: &str) -> Result<(), BrowserError> {
        let element = self.find(selector)?;
        self.post(&format!("/element/{element}/click"), &json!({})).map(drop)
    }

    /// Moves the mouse onto the first element that a CSS selector finds.
    ///
    /// # Errors
    /// [`BrowserError::Refused`] if there is none.
    pub fn hover(&mut self, selector: &str) -> Result<(), BrowserError> {
        let origin = json!({ ELEMENT: self.find(selector)? });
        let step = json!({ "type": "pointerMove", "duration": 0, "origin": origin, "x": 0, "y": 0 });
        let mouse = json!({ "type": "pointer", "id": "mouse", "actions": [step] });
        self.post("/actions", &json!({ "actions": [mouse] })).map(drop)
    }

    /// Presses a key and lets it go; whatever has the focus gets it.
    ///
    /// # Errors
    /// [`BrowserError`].
    pub fn press(&mut self, key: char) -> Result<(), BrowserError> {
        let steps = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": steps });
        self.post("/actions", &json!({ "actions": [keyboard] })).map(drop)
    }

    /// Types into the first element that a CSS selector finds.
    ///
    /// # Errors
    /// [`BrowserError::Refused`] if there is none that takes text.
    pub fn type_into(&mut self, selector: &str, text: &str) -> Result<(), BrowserError> {
        let element = self.find(selector)?;
        self.post(&format!("/element/{element}/value"), &json!({ "text": text })).map(drop)
    }

    /// The text of the first element that a CSS selector finds, whether or not it is in sight.
    ///
    /// # Errors
    /// [`BrowserError::Refused`] if there is none.
    pub fn text(&mut self, selector: &str) -> Result<String, BrowserError> {
        let text = self.run("return document.querySelector(arguments[0]).textContent", &[selector.into()])?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// An attribute of the first element that a CSS selector finds, if it has it.
    ///
    /// # Errors
    /// [`BrowserError::Refused`] if there is no such element.
    pub fn attribute(&mut self, selector: &str, name: &str) -> Result<Option<String>, BrowserError> {
        let element = self.find(selector)?;
        let value = self.get(&format!("/element/{element}/attribute/{name}"))?;
        Ok(value.as_str().map(str::to_owned))
    }

    /// Runs JavaScript, the body of a function of `arguments`, and gives what it returns.
    ///
    /// # Errors
    /// [`BrowserError::Refused`] if it throws.
    pub fn run(&mut self, script: &str, arguments: &[Value]) -> Result<Value, BrowserError> {
        self.post("/execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// Makes the page's area `width` x `height` CSS pixels; one less than 600 wide is a phone's.
    ///
    /// # Errors
    /// [`BrowserError`].
    pub fn resize(&mut self, width: u32, height: u32) -> Result<(), BrowserError> {
        // A window of a headless browser cannot be as narrow as a phone.
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", &size)
    }

    /// Prefers dark colours, or light ones.
    ///
    /// # Errors
    /// [`BrowserError`].
    pub fn dark(&mut self, dark: bool) -> Result<(), BrowserError> {
        let value = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": value }]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }))
    }

    /// What went wrong since the page was opened, and was not asked for before: errors on the console (exceptions among
    /// them), and requests other than for the page itself. Data that stands in the page is no request.
    ///
    /// # Errors
    /// [`BrowserError`].
    pub fn faults(&mut self) -> Result<Vec<String>, BrowserError> {
        let page = self.get("/url")?;
        let page = page.as_str().and_then(|url| url.split('#').next()).unwrap_or_default();
        let mut faults = Vec::new();
        for entry in self.log("browser")? {
            if entry["level"] == "SEVERE" {
                faults.push(format!("console: {}", entry["message"].as_str().unwrap_or_default()));
            }
        }
        for entry in self.log("performance")? {
            let event: Value = entry["message"]
                .as_str()
                .and_then(|event| serde_json::from_str(event).ok())
                .unwrap_or_default();
            let (method, request) = (&event["message"]["method"], &event["message"]["params"]["request"]);
            let url = request["url"].as_str().unwrap_or_default();
            if method == "Network.requestWillBeSent" && url != page && !url.starts_with("data:") {
                faults.push(format!("request: {url}"));
            }
        }
        Ok(faults)
    }

    /// Writes what the page shows into a PNG file.
    ///
    /// # Errors
    /// [`BrowserError`].
    pub fn screenshot(&mut self, path: &Path) -> Result<(), BrowserError> {
        let image = self.get("/screenshot")?;
        let bytes = STANDARD.decode(image.as_str().unwrap_or_default()).map_err(io::Error::other);
        bytes
            .and_then(|bytes| fs::write(path, bytes))
            .map_err(|source| BrowserError::File { path: path.display().to_string(), source })
    }

    fn find(&mut self, selector: &str) -> Result<String, BrowserError> {
        let found = self.post("/element", &json!({ "using": "css selector", "value": selector }))?;
        Ok(found[ELEMENT].as_str().unwrap_or_default().to_owned())
    }

    /// What was logged since the last call.
    fn log(&mut self, kind: &str) -> Result<Vec<Value>, BrowserError> {
        let log = self.post("/se/log", &json!({ "type": kind }))?;
        Ok(log.as_array().cloned().unwrap_or_default())
    }

    fn devtools(&mut self, command: &str, parameters: &Value) -> Result<(), BrowserError> {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters })).map(drop)
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, BrowserError> {
        answer(path, self.agent.post(format!("{}{path}", self.base)).send_json(body))
    }

    fn get(&self, path: &str) -> Result<Value, BrowserError> {
        answer(path, self.agent.get(format!("{}{path}", self.base)).call())
    }
}

/// The value of an answer, or the error that it tells.
fn answer(
    command: &str,
    answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<Value, BrowserError> {
    // Screenshots and logs are larger than the ten megabytes that are read by default.
    let read = |mut answer: ureq::http::Response<ureq::Body>| {
        answer.body_mut().with_config().limit(1 << 30).read_json::<Value>()
    };
    let mut body = answer.and_then(read).map_err(|source| BrowserError::Unreachable {
        command: command.to_owned(),
        source: Box::new(source),
    })?;
    match body["value"]["error"].as_str() {
        Some(error) => {
            let message = body["value"]["message"].as_str().unwrap_or_default();
            let reason = format!("{error}: {}", message.lines().next().unwrap_or_default());
            Err(BrowserError::Refused { command: command.to_owned(), reason })
        }
        None => Ok(body["value"].take()),
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends well if the driver still answers, and with the driver in any case.
        if self.base.contains("/session/") {
            let _ = self.agent.delete(&self.base).call();
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
