//! Each line of standard input is a message or a command.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

use super::{kept, turns};
use crate::harness::{SIZE, model, run, stdout, upcycle};

fn chat(arguments: &[&str]) -> Command {
    let mut command = upcycle();
    command.arg("chat").arg("--model").arg(model()).args(["-s", SIZE]).args(arguments);
    command
}

fn says(command: &mut Command, lines: &[u8]) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines).unwrap();
    child.wait_with_output().unwrap()
}

/// Standard output, of a conversation that must be a success, and standard error.
fn texts(command: &mut Command, lines: &str) -> (String, String) {
    let output = says(command, lines.as_bytes());
    assert!(output.status.success(), "{output:?}");
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Tokens kept and read for each answer, by `--stats`.
fn caches(stderr: &str) -> Vec<(usize, usize)> {
    let number = |word: &str| word.parse::<usize>().unwrap();
    stderr
        .lines()
        .filter_map(|line| line.strip_prefix("cache    ")?.strip_suffix(" read"))
        .map(|line| line.split_once(" tokens reused, ").unwrap())
        .map(|(kept, read)| (number(kept), number(read)))
        .collect()
}

/// Tokens of each prompt, by `--stats`.
fn prompts(stderr: &str) -> Vec<usize> {
    let lines = stderr.lines().filter_map(|line| line.strip_prefix("prompt   "));
    lines.map(|line| line.split_once(' ').unwrap().0.parse().unwrap()).collect()
}

#[test]
fn the_first_answer_is_that_of_run() {
    let prompt = "What is the capital of France?";
    let expected = stdout(run(&["--prompt", prompt, "-n", "20", "-s", SIZE]).stdin(Stdio::null()));
    let (said, errors) = texts(&mut chat(&["-n", "20"]), &format!("{prompt}\n"));
    assert_eq!(said, expected);
    assert!(!said.contains('\u{1b}') && !errors.contains('\u{1b}'), "no codes in a pipe: {said}{errors}");
}

#[test]
fn only_new_tokens_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let save = format!("/save {}\n", kept(&folder).display());
    let lines = format!("Name three colours.\nAnd three animals.\n{save}/set stop [\"zzz\"]\nThank you.\n");
    let (said, errors) = texts(&mut chat(&["-n", "24", "--stats", "--system", "Be brief."]), &lines);
    let (caches, prompts) = (caches(&errors), prompts(&errors));
    assert_eq!(caches.len(), 3, "{errors}");
    assert_eq!(caches[0], (0, prompts[0]));
    for turn in 1..3 {
        let (kept, read) = caches[turn];
        assert_eq!(kept + read, prompts[turn]);
        // The prompt before it, and all of its answer but what the template puts at its end.
        assert!(kept > prompts[turn - 1], "turn {turn}: {caches:?}, {prompts:?}");
        assert!(read < 24, "turn {turn}: {caches:?}, {prompts:?}");
    }

    // The same conversation, read anew, goes on in the same words.
    let load = kept(&folder);
    let (again, errors) =
        texts(&mut chat(&["-n", "24", "--stats", "--load", load.to_str().unwrap()]), "Thank you.\n");
    assert_eq!(self::caches(&errors), [(0, prompts[2])]);
    assert!(said.ends_with(&again), "{said:?} ends with {again:?}");
}

#[test]
fn a_template_that_rewrites_earlier_messages_is_read_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("counting.jinja");
    // The first line changes with every turn; so nothing but what stands before the number can be kept.
    let text = "<|im_start|>system\nMessages: {{ messages|length }}<|im_end|>\n{% for m in messages %}<|im_start|>{{ \
                m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n";
    fs::write(&template, text).unwrap();
    let set = format!("model.template={:?}", template.display().to_string());
    let (_, errors) = texts(&mut chat(&["-n", "8", "--stats", "-s", &set]), "Hello.\nHello again.\n");
    let caches = caches(&errors);
    assert!(caches[1].0 > 0 && caches[1].0 < 8 && caches[1].1 > caches[0].1, "{caches:?}");
}

#[test]
fn the_template_is_told_what_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("told.jinja");
    let text = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                <|im_start|>assistant\n{% if thinking is false %}<think>\n\n</think>\n\n{% endif %}";
    fs::write(&template, text).unwrap();
    let set = format!("model.template={:?}", template.display().to_string());
    let lines = "Hi.\n/reset\n/set template_variables.thinking false\nHi.\n/reset\n\
                 /set model.template_variables.thinking true\nHi.\n";
    let (_, errors) = texts(&mut chat(&["-n", "4", "--stats", "-s", &set]), lines);
    let prompts = prompts(&errors);
    assert!(prompts[1] > prompts[0] && prompts[2] == prompts[0], "{prompts:?}");
}

#[test]
fn commands_affect_later_answers() {
    let folder = tempfile::tempdir().unwrap();
    let save = |name: &str| format!("/save {}\n", folder.path().join(name).display());
    let read = |name: &str| turns(&folder.path().join(name));
    let lines = [
        "Tell me a story.\n/retry\n".to_owned(),
        save("greedy"),
        "/set temperature 0.9\n/retry\n".to_owned(),
        save("drawn"),
        "/retry\n".to_owned(),
        save("drawn again"),
        "//reset\n/reset\n".to_owned(),
        save("empty"),
        format!("/load {}\n/retry\n", folder.path().join("drawn").display()),
        save("loaded"),
    ];
    let (said, _) = texts(&mut chat(&["-n", "16"]), &lines.concat());
    let [greedy, drawn, again] = ["greedy", "drawn", "drawn again"].map(|name| read(name).remove(0));
    assert_eq!(said.matches(&greedy.1).count(), 2, "greedy decoding says the same again: {said}");
    assert!(greedy != drawn && drawn != again && greedy.0 == again.0, "{greedy:?}, {drawn:?}, {again:?}");
    assert_eq!(read("empty"), []);
    assert_eq!(read("loaded").len(), 1);
}

#[test]
fn settings_and_system_prompt_are_shown() {
    let lines = "/system\n/system Rhyme.\n/system\n/set seed 7\n/set\n/system -\n/system\n/help\n";
    let (said, _) = texts(&mut chat(&["-n", "16"]), lines);
    for expected in ["no system prompt", "\nRhyme.\n", "[decode]", "seed = 7", "max_tokens = 16", "/retry"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn errors_in_a_script_end_the_conversation() {
    let missing = tempfile::tempdir().unwrap().path().join("none");
    let missing = missing.display();
    for (lines, expected) in [
        ("/nonsense\n".to_owned(), "unknown command `/nonsense`"),
        ("/retry\n".to_owned(), "there is no message to answer"),
        ("/stats\n".to_owned(), "nothing has been answered"),
        ("/save\n".to_owned(), "/save needs a file name"),
        (format!("/save {missing}/chat.json\n"), "cannot be written"),
        (format!("/load {missing}\n"), "cannot read"),
        ("/set temperature -1\n".to_owned(), "temperature"),
        ("/set temprature 1\n".to_owned(), "temperature"),
        ("/set template_variables.messages 1\n".to_owned(), "expected other names than messages"),
        ("/set model.path x\n".to_owned(), "cannot be changed while the model is loaded"),
    ] {
        let output = says(&mut chat(&["-n", "4"]), lines.as_bytes());
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{lines}: {errors}");
        assert!(errors.starts_with("error: ") && errors.contains(expected), "{lines}: {errors}");
    }
    let output = says(&mut chat(&["-n", "4"]), b"caf\xe9\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not UTF-8"));
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_message() {
    let folder = tempfile::tempdir().unwrap();
    let save = format!("/save {}\n", kept(&folder).display());
    texts(&mut chat(&["-n", "4"]), &format!("\u{feff}/system Be brief.\nHello.\n{save}"));
    assert_eq!(turns(&kept(&folder))[0].0, "Hello.");
    let text = fs::read_to_string(kept(&folder)).unwrap();
    fs::write(kept(&folder), format!("\u{feff}{text}")).unwrap();
    let load = kept(&folder).display().to_string();
    let (said, _) = texts(&mut chat(&["-n", "4", "--load", &load]), "/system\n/save -\n");
    assert_eq!(said, format!("Be brief.\n{text}"), "and `-` is standard output");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_a_conversation_that_waits() {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = folder.path().join("matrix");
    let set = format!("drafter.snapshot={}", snapshot.display());
    let mut command = chat(&["-n", "4", "--stats", "-s", &set]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = child.stdin.take().unwrap();
    lines.write_all(b"Hello.\n").unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut answer = String::new();
    said.read_line(&mut answer).unwrap();
    let kill = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", child.id())).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143), "{output:?}");
    assert!(fs::metadata(&snapshot).unwrap().len() > 0);
    drop(lines);
}

#[test]
fn the_matrix_is_kept_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let kept = |name: &str, lines: &str| {
        let snapshot = folder.path().join(name);
        let set = format!("drafter.snapshot={:?}", snapshot.display().to_string());
        texts(&mut chat(&["-n", "8", "-s", &set]), lines);
        fs::read(&snapshot)
    };
    let taught = kept("taught", "Hello.\n/quit\nnever read\n").unwrap();
    assert_ne!(taught, kept("untaught", "/quit\n").unwrap_or_default(), "the answer has taught it something");
    assert_eq!(taught, kept("again", "Hello.\n").unwrap(), "nothing is read after /quit");
}
