//! A real browser for tests of pages: headless Chromium, controlled through ChromeDriver (W3C WebDriver).
//!
//! [`with`] lends one browser to all tests of a program in turn. [`Browser::faults`] returns console errors and requests of a page.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::time::Duration;
use std::{fs, io, thread};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Keys without a character, for [`Browser::press`].
pub mod keys {
    /// Tab.
    pub const TAB: char = '\u{e004}';
    /// Enter.
    pub const ENTER: char = '\u{e007}';
    /// End.
    pub const END: char = '\u{e010}';
    /// Home.
    pub const HOME: char = '\u{e011}';
    /// Left arrow.
    pub const LEFT: char = '\u{e012}';
    /// Up arrow.
    pub const UP: char = '\u{e013}';
    /// Right arrow.
    pub const RIGHT: char = '\u{e014}';
    /// Down arrow.
    pub const DOWN: char = '\u{e015}';
}

/// The longest start of the driver.
const START: Duration = Duration::from_secs(30);
/// The longest time for one command.
const COMMAND: Duration = Duration::from_secs(60);

/// The protocol's key for an element's id.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Why a browser command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrowserError {
    /// The driver cannot be started.
    #[error("chromedriver cannot be run; scripts/setup.sh installs it (Debian: chromium, chromium-driver)")]
    NoDriver(#[source] io::Error),
    /// The driver did not start in time.
    #[error("chromedriver did not say its port within {START:?}; run `chromedriver --port=0` to see why")]
    Silent,
    /// The driver does not answer.
    #[error("no answer to {command}")]
    Unreachable {
        /// The command.
        command: String,
        /// The reason.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The driver refused the command: no such element, an exception in a script, or a dialog.
    #[error("{command}: {reason}")]
    Refused {
        /// The command.
        command: String,
        /// The driver's message.
        reason: String,
    },
    /// There is no page at the address.
    #[error("there is no page at {address}")]
    NoPage {
        /// The address.
        address: String,
    },
    /// A file cannot be written or found.
    #[error("{path}")]
    File {
        /// The file.
        path: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

/// A running browser with one window. Dropping it closes it.
#[derive(Debug)]
pub struct Browser {
    agent: ureq::Agent,
    /// `http://127.0.0.1:PORT`, later with `/session/ID`.
    base: String,
    driver: Child,
    _profile: tempfile::TempDir,
}

/// Runs `test` with the program's browser. It starts with the first test that needs it and closes after the last. Tests take turns;
/// each begins with a window of 1280 x 900 and light colours.
///
/// # Panics
/// If there is no browser.
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
    // The browser is usable after a failed test.
    let mut browser = shared.lock().unwrap_or_else(PoisonError::into_inner);
    browser.resize(1280, 900).expect("the browser has a window");
    browser.dark(false).expect("the browser has colours");
    test(&mut browser)
}

impl Browser {
    /// Starts a driver on a free loopback port, and a browser with an empty profile.
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
            // The bodies of errors contain the driver's messages.
            .http_status_as_error(false)
            .build()
            .new_agent();
        // From here on, dropping `browser` ends the driver.
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
            // A browser controlled through a pipe always ends with its driver.
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

    /// The driver's port, from its standard output.
    fn port(&mut self) -> Result<u16, BrowserError> {
        let output = self.driver.stdout.take().ok_or(BrowserError::Silent)?;
        let (said, heard) = mpsc::channel();
        // Drain the output until the driver ends, so that it never blocks.
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

    /// Opens an address and clears the log.
    ///
    /// # Errors
    /// [`BrowserError::NoPage`].
    pub fn open(&mut self, address: &str) -> Result<(), BrowserError> {
        self.post("/url", &json!({ "url": "about:blank" }))?;
        self.log("browser")?;
        self.log("performance")?;
        self.post("/url", &json!({ "url": address }))?;
        // For a missing page, the browser shows an error page, which is no error to the driver.
        match self.run("return document.URL", &[])?.as_str() {
            Some(url) if !url.starts_with("chrome-error:") => Ok(()),
            _ => Err(BrowserError::NoPage { address: address.to_owned() }),
        }
    }

    /// Opens a file.
    ///
    /// # Errors
    /// [`BrowserError`].
    pub fn open_file(&mut self, path: &Path) -> Result<(), BrowserError> {
        let path = fs::canonicalize(path)
            .map_err(|source| BrowserError::File { path: path.display().to_string(), source })?;
        self.open(&format!("file://{}", path.display()))
    }

    /// Clicks on the first element that matches a CSS selector.
    ///
    /// # Errors
    /// [`BrowserError::Refused`] if there is none, or if something covers it.
    pub fn click(&mut self, selector: &str) -> Result<(), BrowserError> {
        let element = self.find(selector)?;
        self.post(&format!("/element/{element}/click"), &json!({})).map(drop)
    }

    /// Moves the mouse onto the first element that matches a CSS selector.
    ///
    /// # Errors
    /// [`BrowserError::Refused`] if there is none.
    pub fn hover(&mut self, selector: &str) -> Result<(), BrowserError> {
        let origin = json!({ ELEMENT: self.find(selector)? });
        let step = json!({ "type": "pointerMove", "duration": 0, "origin": origin, "x": 0, "y": 0 });
        let mouse = json!({ "type": "pointer", "id": "mouse", "actions": [step] });
        self.post("/actions", &json!({ "actions": [mouse] })).map(drop)
    }

    /// Presses and releases a key.
    ///
    /// # Errors
    /// [`BrowserError`].
    pub fn press(&mut self, key: char) -> Result<(), BrowserError> {
        let steps = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": steps });
        self.post("/actions", &json!({ "actions": [keyboard] })).map(drop)
    }

    /// Types into the first element that matches a CSS selector.
    ///
    /// # Errors
    /// [`BrowserError::Refused`] if there is none that accepts text.
    pub fn type_into(&mut self, selector: &str, text: &str) -> Result<(), BrowserError> {
        let element = self.find(selector)?;
        self.post(&format!("/element/{element}/value"), &json!({ "text": text })).map(drop)
    }

    /// The text of the first element that matches a CSS selector, visible or not.
    ///
    /// # Errors
    /// [`BrowserError::Refused`] if there is none.
    pub fn text(&mut self, selector: &str) -> Result<String, BrowserError> {
        let text = self.run("return document.querySelector(arguments[0]).textContent", &[selector.into()])?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// An attribute of the first element that matches a CSS selector, if it has one.
    ///
    /// # Errors
    /// [`BrowserError::Refused`] if there is no such element.
    pub fn attribute(&mut self, selector: &str, name: &str) -> Result<Option<String>, BrowserError> {
        let element = self.find(selector)?;
        let value = self.get(&format!("/element/{element}/attribute/{name}"))?;
        Ok(value.as_str().map(str::to_owned))
    }

    /// Runs the body of a JavaScript function with `arguments`, and returns its result.
    ///
    /// # Errors
    /// [`BrowserError::Refused`] if it throws.
    pub fn run(&mut self, script: &str, arguments: &[Value]) -> Result<Value, BrowserError> {
        self.post("/execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// Sets the page's size in CSS pixels. A width below 600 emulates a phone.
    ///
    /// # Errors
    /// [`BrowserError`].
    pub fn resize(&mut self, width: u32, height: u32) -> Result<(), BrowserError> {
        // A headless window cannot be as narrow as a phone.
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", &size)
    }

    /// Sets the preference for dark or light colours.
    ///
    /// # Errors
    /// [`BrowserError`].
    pub fn dark(&mut self, dark: bool) -> Result<(), BrowserError> {
        let value = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": value }]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }))
    }

    /// New faults since the last call or the opening of the page: console errors (including exceptions), and requests other than for
    /// the page itself. `data:` URLs are not requests.
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

    /// Writes a screenshot to a PNG file.
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

    /// The log since the last call.
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

/// The value or error in an answer.
fn answer(
    command: &str,
    answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<Value, BrowserError> {
    // Screenshots and logs can exceed the default limit of ten megabytes.
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
        // Close the browser if the driver still answers. It ends with the driver in any case.
        if self.base.contains("/session/") {
            let _ = self.agent.delete(&self.base).call();
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
