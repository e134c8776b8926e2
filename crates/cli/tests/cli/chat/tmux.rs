//! A terminal of a test's own.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{SIZE, model};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(120);

/// A tmux server with one window, in which a conversation runs; it ends with the test.
pub(super) struct Terminal {
    /// For the socket, the exit code, and what the program keeps.
    folder: tempfile::TempDir,
    /// Prompts of the editor that had been shown when the last line was sent.
    prompts: Cell<usize>,
}

impl Terminal {
    /// `upcycle chat` with these arguments in a window of this size.
    pub(super) fn chat(size: (u32, u32), variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let terminal = Self { folder: tempfile::tempdir().unwrap(), prompts: Cell::new(0) };
        let state = terminal.folder.path().join("state");
        let mut words: Vec<String> = vec!["env".to_owned(), format!("XDG_STATE_HOME={}", state.display())];
        words.push(format!("XDG_CACHE_HOME={}", env!("CARGO_TARGET_TMPDIR")));
        words.extend(variables.iter().map(|(name, value)| format!("{name}={value}")));
        words.extend([env!("CARGO_BIN_EXE_upcycle"), "chat", "--model"].map(str::to_owned));
        words.push(model().display().to_string());
        words.extend(["-s", SIZE].iter().chain(arguments).map(|&word| word.to_owned()));
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let code = terminal.code_file();
        let (words, mode) = (quoted.join(" "), terminal.mode_file());
        let command = format!(
            "{words}; code=$?; stty -a >'{}'; echo $code >'{}'; sleep 600",
            mode.display(),
            code.display()
        );
        let size = [size.0.to_string(), size.1.to_string()];
        let started = terminal.tmux(&["new-session", "-d", "-x", &size[0], "-y", &size[1], &command]);
        assert!(started.status.success(), "tmux could not start: {started:?}");
        terminal.wait("> ");
        terminal
    }

    fn code_file(&self) -> std::path::PathBuf {
        self.folder.path().join("code")
    }

    fn mode_file(&self) -> std::path::PathBuf {
        self.folder.path().join("mode")
    }

    /// What `stty -a` says of the terminal after the program's end.
    pub(super) fn mode(&self) -> String {
        fs::read_to_string(self.mode_file()).unwrap()
    }

    /// Sends SIGTERM to the program.
    pub(super) fn terminate(&self) {
        let shell = String::from_utf8(self.tmux(&["list-panes", "-F", "#{pane_pid}"]).stdout).unwrap();
        let shell = shell.trim();
        let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
        assert!(Command::new("kill").args(["-TERM", children.trim()]).status().unwrap().success());
    }

    /// Where the history is kept.
    pub(super) fn history(&self) -> std::path::PathBuf {
        self.folder.path().join("state").join("upcycle").join("history")
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn tmux(&self, arguments: &[&str]) -> Output {
        let socket = self.folder.path().join("socket");
        let output = Command::new("tmux")
            .arg("-u")
            .arg("-S")
            .arg(socket)
            .args(["-f", "/dev/null"])
            .args(arguments)
            .output();
        output.unwrap_or_else(|error| panic!("tmux is needed (scripts/setup.sh tests installs it): {error}"))
    }

    /// Types a text as it stands.
    pub(super) fn types(&self, text: &str) {
        assert!(self.tmux(&["send-keys", "-l", text]).status.success());
    }

    /// Presses a key by tmux's name: `Enter`, `C-c`, `Up`.
    pub(super) fn press(&self, key: &str) {
        if key == "Enter" {
            self.prompts.set(self.count_prompts());
        }
        assert!(self.tmux(&["send-keys", key]).status.success());
    }

    /// Types a line, and ends it once it is shown.
    pub(super) fn says(&self, line: &str) {
        self.types(line);
        let shown = line.chars().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect::<String>();
        self.wait_for(line, |screen| screen.replace('\n', "").contains(shown.trim_end()));
        self.press("Enter");
    }

    /// Pastes as a terminal does that brackets what is pasted.
    pub(super) fn pastes(&self, text: &str) {
        assert!(self.tmux(&["set-buffer", text]).status.success());
        assert!(self.tmux(&["paste-buffer", "-p", "-r"]).status.success());
    }

    pub(super) fn resize(&self, (width, height): (u32, u32)) {
        let arguments = ["resize-window", "-x", &width.to_string(), "-y", &height.to_string()];
        assert!(self.tmux(&arguments).status.success());
    }

    /// What the screen shows, with lines that were too long put together again.
    pub(super) fn screen(&self) -> String {
        String::from_utf8(self.tmux(&["capture-pane", "-p", "-J"]).stdout).unwrap()
    }

    /// The same with colours, and with what has scrolled away.
    pub(super) fn colours(&self) -> String {
        String::from_utf8(self.tmux(&["capture-pane", "-p", "-e", "-S", "-"]).stdout).unwrap()
    }

    /// Waits until the screen shows `text`.
    pub(super) fn wait(&self, text: &str) -> String {
        self.wait_for(text, |screen| screen.contains(text))
    }

    /// Waits until the screen is as it should be.
    pub(super) fn wait_for(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            if is(&screen) {
                return screen;
            }
            assert!(start.elapsed() < PATIENCE, "{what} did not come: {screen}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the editor waits for the line after the last one that was sent: what is typed before is lost.
    pub(super) fn ready(&self) -> String {
        self.wait_for("the next line", |screen| {
            let last = screen.trim_end().lines().next_back();
            last.is_some_and(|line| line.trim_end() == ">") && self.count_prompts() > self.prompts.get()
        })
    }

    /// Lines that the editor has begun, with those that have scrolled away.
    fn count_prompts(&self) -> usize {
        let all = self.tmux(&["capture-pane", "-p", "-J", "-S", "-"]).stdout;
        String::from_utf8_lossy(&all).lines().filter(|line| line.starts_with('>')).count()
    }

    /// Waits for the program to end, and gives its exit code.
    pub(super) fn code(&self) -> i32 {
        let start = Instant::now();
        loop {
            if let Some(code) = fs::read_to_string(self.code_file()).ok().filter(|code| code.ends_with('\n'))
            {
                return code.trim().parse().unwrap();
            }
            assert!(start.elapsed() < PATIENCE, "the program goes on: {}", self.screen());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}
