//! Templates in the style of several model families, compared with Python's Jinja (see `fixtures/templates.py`).

use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde::Deserialize;
use upcycle_text::{ChatTemplate, Message, RESERVED, TemplateTokens, TextError};

#[derive(Deserialize)]
struct Fixture {
    now: u64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    messages: Vec<CaseMessage>,
    add_generation_prompt: bool,
    variables: serde_json::Map<String, serde_json::Value>,
    text: Option<String>,
    refused: Option<String>,
}

#[derive(Deserialize)]
struct CaseMessage {
    role: String,
    content: String,
}

#[test]
fn templates_render_as_python_renders_them() {
    let fixture: Fixture = serde_json::from_str(include_str!("../fixtures/templates.json")).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/templates");
    let tokens = TemplateTokens { bos: Some("<s>".to_owned()), eos: Some("</s>".to_owned()) };
    let now = UNIX_EPOCH + Duration::from_secs(fixture.now);
    let mut wrong = Vec::new();
    for case in &fixture.cases {
        let source = fs::read_to_string(folder.join(format!("{}.jinja", case.template))).unwrap();
        let template = ChatTemplate::new(source, &tokens).unwrap();
        let template = template.with_variables(case.variables.clone()).unwrap();
        let messages: Vec<Message> =
            case.messages.iter().map(|message| Message::new(&message.role, &message.content)).collect();
        let found = template.render_at(&messages, case.add_generation_prompt, now);
        let same = match (&found, &case.text, &case.refused) {
            (Ok(found), Some(expected), None) => found == expected,
            (Err(TextError::TemplateRefused { message }), None, Some(expected)) => message == expected,
            _ => false,
        };
        if !same {
            wrong.push(format!(
                "{}, {} messages: {found:?}\nexpected {:?}",
                case.template,
                messages.len(),
                (&case.text, &case.refused)
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), fixture.cases.len(), wrong.join("\n"));
    let families: std::collections::BTreeSet<&str> =
        fixture.cases.iter().map(|case| case.template.as_str()).collect();
    assert_eq!(families.len(), 11);
}

#[test]
fn reserved_variables_are_refused() {
    let template =
        ChatTemplate::new("{{ tools }}{{ messages[0].content }}", &TemplateTokens::default()).unwrap();
    for name in RESERVED {
        let refused = template.clone().with_variables([(name.to_owned(), "x".into())]);
        assert!(matches!(refused, Err(TextError::ReservedVariable { name: found }) if found == name));
    }
    let with_tools = template.with_variables([("tools".to_owned(), "a hammer, ".into())]).unwrap();
    assert_eq!(with_tools.render(&[Message::user("Hi")], true).unwrap(), "a hammer, Hi");
    let without = with_tools.with_variables([]).unwrap();
    assert_eq!(without.render(&[Message::user("Hi")], true).unwrap(), "NoneHi");
}
