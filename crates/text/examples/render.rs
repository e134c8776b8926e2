//! Renders conversations with a chat template:
//!
//! ```sh
//! echo '{"messages": [{"role": "user", "content": "Hi"}], "variables": {"enable_thinking": false}}' |
//!     cargo run -p upcycle-text --example render -- chat_template.jinja
//! ```
//!
//! Each line of standard input is a conversation. Prints a line of JSON with `text` or `error` for each.

use std::error::Error;
use std::io::{BufRead, Write, stdin, stdout};

use serde_json::{Value, json};
use upcycle_text::{ChatTemplate, Message, TemplateTokens};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("expected a template: render TEMPLATE < CONVERSATIONS")?;
    let tokens = TemplateTokens { bos: Some("<s>".to_owned()), eos: Some("</s>".to_owned()) };
    let template = ChatTemplate::from_file(path, &tokens)?;
    for line in stdin().lock().lines() {
        render(&template, &serde_json::from_str(&line?)?, &mut stdout())?;
    }
    Ok(())
}

fn render(template: &ChatTemplate, case: &Value, printed: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let messages = case["messages"].as_array().ok_or("no messages")?;
    let parse = |message: &Value| Some(Message::new(message["role"].as_str()?, message["content"].as_str()?));
    let messages: Vec<Message> =
        messages.iter().map(parse).collect::<Option<_>>().ok_or("no role or content")?;
    let variables = case["variables"].as_object().cloned().unwrap_or_default();
    let template = template.clone().with_variables(variables)?;
    let rendered = match template.render(&messages, case["add_generation_prompt"].as_bool().unwrap_or(true)) {
        Ok(text) => json!({ "text": text }),
        Err(error) => json!({ "error": error.to_string() }),
    };
    writeln!(printed, "{rendered}")?;
    Ok(())
}

#[test]
fn a_conversation_is_rendered() {
    let source = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ sign }}{% endfor %}";
    let template = ChatTemplate::new(source, &TemplateTokens::default()).unwrap();
    let case = json!({"messages": [{"role": "user", "content": "Hi"}], "variables": {"sign": "!"}});
    let mut printed = Vec::new();
    render(&template, &case, &mut printed).unwrap();
    assert_eq!(printed, b"{\"text\":\"user: Hi!\"}\n");
    assert!(render(&template, &json!({}), &mut printed).is_err());
}
