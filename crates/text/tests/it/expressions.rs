//! Small templates, compared with the Jinja environment of `transformers` (see `fixtures/expressions.py`).

use serde::Deserialize;
use serde_json::{Map, Value};
use upcycle_text::{ChatTemplate, Message, TemplateTokens};

#[derive(Deserialize)]
struct Fixture {
    messages: Vec<Turn>,
    tools: Value,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Turn {
    role: String,
    content: String,
}

#[derive(Deserialize)]
struct Case {
    source: String,
    text: Option<String>,
    refused: Option<String>,
}

#[test]
fn small_templates_render_as_transformers_renders_them() {
    let fixture: Fixture = serde_json::from_str(include_str!("../fixtures/expressions.json")).unwrap();
    let tokens = TemplateTokens { bos: Some("<s>".to_owned()), eos: Some("</s>".to_owned()) };
    let messages: Vec<Message> =
        fixture.messages.iter().map(|turn| Message::new(&turn.role, &turn.content)).collect();
    let mut wrong = Vec::new();
    for Case { source, text, refused } in &fixture.cases {
        let tools = Map::from_iter([("tools".to_owned(), fixture.tools.clone())]);
        let found = ChatTemplate::new(source.as_str(), &tokens)
            .and_then(|template| template.with_variables(tools))
            .and_then(|template| template.render(&messages, true));
        match (text, refused, &found) {
            (Some(expected), _, Ok(found)) if found == expected => (),
            // minijinja accepts some of what Jinja refuses. What a template itself refuses must be refused.
            (None, Some(reason), Ok(_)) if !reason.starts_with("TemplateError") => (),
            (None, Some(_), Err(_)) => (),
            _ => wrong.push(format!("{source:?}\n  found    {found:?}\n  expected {text:?} {refused:?}")),
        }
    }
    assert!(fixture.cases.len() > 350);
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), fixture.cases.len(), wrong.join("\n"));
}
