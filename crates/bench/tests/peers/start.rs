//! How a server starts, fails to, and ends.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use upcycle_bench::peers::{LlamaServer, PeerError, PeerSpec, Timeouts};

use crate::fake::{BOUND, Http, PID, Script, program, sound};

/// Names the folder of a test that runs again as a program of its own.
const AGAIN: &str = "UPCYCLE_PEERS_TEST_FOLDER";

/// Fields of `/proc/PID/stat` from the state on; none where there is no such process.
fn stat(process: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    Some(stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

/// Whether a process runs; one that has ended and that nobody asked about does not.
fn runs(process: u32) -> bool {
    stat(process).is_some_and(|fields| fields[0] != "Z")
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < BOUND, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn pid(file: &Path) -> u32 {
    wait_until("the script says its id", || file.exists());
    fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

/// This test again, in a process of its own.
fn again(test: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(AGAIN, folder).stdout(Stdio::null());
    command
}

fn start(program: &Path) -> Result<LlamaServer, PeerError> {
    LlamaServer::start(program, Path::new("model.gguf"), &PeerSpec::plain(), 1, 256)
}

#[test]
fn a_missing_program_is_reported_with_how_to_build_it() {
    let folder = tempfile::tempdir().unwrap();
    let error = start(&folder.path().join("llama-server")).unwrap_err();
    assert!(matches!(error, PeerError::Missing { .. }), "{error}");
    assert!(error.to_string().contains("scripts/get-peers.sh"), "{error}");
}

#[test]
fn a_file_that_is_not_executable_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("llama-server");
    fs::write(&file, "#!/bin/sh\n").unwrap();
    for path in [&*file, folder.path()] {
        let error = start(path).unwrap_err();
        assert!(matches!(error, PeerError::NotExecutable { .. }), "{error}");
    }
}

#[test]
fn a_program_without_a_version_is_not_llama_server() {
    let error = start(Path::new("/bin/echo")).unwrap_err();
    assert!(matches!(error, PeerError::InvalidAnswer { .. }), "{error}");
}

#[test]
fn an_end_during_the_start_shows_the_end_of_the_log() {
    let script = Script::new("seq 1000; echo 'error loading model: no tensors' >&2; exit 3\n");
    match script.start() {
        Err(PeerError::DiedAtStart { path, status, log_tail }) => {
            assert_eq!(path, program());
            assert_eq!(status.code(), Some(3));
            assert!(log_tail.ends_with("999\n1000\nerror loading model: no tensors"), "{log_tail}");
            assert!(log_tail.len() < 1000, "the tail of the log, not all of it");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn servers_that_do_not_become_ready_are_stopped() {
    let http = Http::new(503, Vec::new());
    let silent = Script::new(&format!("{PID}echo 'loading the model'\nexec sleep 60\n"));
    let unhealthy = Script::listening(http.port);
    let timeout = Timeouts { start: Duration::from_secs(2), answer: BOUND };
    for (script, said) in [(silent, "loading the model"), (unhealthy, "listening on")] {
        match script.start_within(timeout) {
            Err(PeerError::NotReady { log_tail, .. }) => assert!(log_tail.contains(said), "{log_tail}"),
            other => panic!("{other:?}"),
        }
        assert!(!runs(pid(&script.path("pid"))));
    }
}

#[test]
fn a_server_has_its_own_process_group_and_ends_when_dropped() {
    let http = Http::new(200, Vec::new());
    let script = Script::listening(http.port);
    let server = script.start().unwrap();
    let process = server.id();
    assert_eq!(process, pid(&script.path("pid")));
    assert_eq!(stat(process).unwrap()[2], process.to_string(), "Ctrl-C reaches our own group alone");
    drop(server);
    assert!(!runs(process));
}

#[test]
fn the_largest_resident_set_is_that_of_the_server_and_can_begin_again() {
    let http = Http::new(200, Vec::new());
    let folder = tempfile::tempdir().unwrap();
    // The shell holds some MB for a moment, and gives them back.
    let script = Script::mortal("x=$(seq 1000000); x=", http.port, &folder.path().join("die"));
    let mut server = script.start().unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", pid(&script.path("pid")))).unwrap();
    let peak = server.peak_memory().unwrap();
    assert!(status.contains(&format!("{} kB", peak / 1024)), "{peak} is not in {status}");
    server.reset_peak_memory();
    assert!(server.peak_memory().unwrap() + (1 << 20) < peak);
}

#[test]
fn a_server_ends_when_its_parent_is_killed() {
    if let Some(folder) = std::env::var_os(AGAIN) {
        let http = Http::new(200, Vec::new());
        let script = Script::listening(http.port);
        let _server = script.start().unwrap();
        fs::copy(script.path("pid"), Path::new(&folder).join("part")).unwrap();
        fs::rename(Path::new(&folder).join("part"), Path::new(&folder).join("pid")).unwrap();
        thread::sleep(BOUND);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut parent = again("start::a_server_ends_when_its_parent_is_killed", folder.path()).spawn().unwrap();
    let process = pid(&folder.path().join("pid"));
    assert!(runs(process));
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_until("the server is gone", || !runs(process));
}

#[test]
fn the_environment_does_not_affect_a_server() {
    if std::env::var_os(AGAIN).is_some() {
        let http = Http::new(200, vec![sound(1, &[4])]);
        let script = Script::new(&format!(
            "env >\"$model.env\"\necho \"listening on http://127.0.0.1:{}\"\nexec sleep 60\n",
            http.port
        ));
        let mut server = script.start().unwrap();
        server.answer(&[1], 1).unwrap();
        let environment = fs::read_to_string(script.path("model.env")).unwrap();
        assert!(environment.contains(AGAIN));
        assert!(!environment.contains("LLAMA_ARG") && !environment.contains("GGML_"), "{environment}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = again("start::the_environment_does_not_affect_a_server", folder.path());
    command.env("LLAMA_ARG_N_PREDICT", "1").env("GGML_TEST", "1");
    // A proxy that nobody answers for.
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, "http://127.0.0.1:9");
    }
    assert!(command.status().unwrap().success());
}
