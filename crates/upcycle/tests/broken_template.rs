//! Models whose chat template does not compile.

use std::io::Cursor;
use std::path::Path;

use upcycle::{ConfigBuilder, PromptError, PromptStyle, Registry, Text};
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_checkpoint::gguf::{Gguf, StringArray};
use upcycle_text::{Message, TextError};

/// A vocabulary of the lower-case letters, with this template.
fn model(template: &str) -> Gguf {
    let writer = GgufWriter::new()
        .metadata("tokenizer.ggml.model", "gpt2")
        .metadata("tokenizer.ggml.pre", "gpt-2")
        .metadata("tokenizer.ggml.tokens", ('a'..='z').map(String::from).collect::<StringArray>())
        .metadata("tokenizer.ggml.token_type", vec![1; 26])
        .metadata("tokenizer.ggml.merges", StringArray::new())
        .metadata("tokenizer.chat_template", template);
    Gguf::read(&mut Cursor::new(writer.to_bytes().unwrap())).unwrap()
}

#[test]
fn plain_prompts_need_no_template() {
    let config = ConfigBuilder::new(&Registry::builtin()).build().unwrap();
    for template in ["{% if %}", "{{ 1 +", "{% for x in %}{% endfor %}", "{% unknown %}"] {
        let text = Text::load(&config, Path::new("model.gguf"), Some(&model(template))).unwrap();
        assert_eq!(text.encode("ab", PromptStyle::Raw).unwrap(), [0, 1]);
        let messages = [Message::user("ab")];
        let error = text.encode_conversation(&messages).unwrap_err();
        assert!(
            matches!(&error, PromptError::Template(source) if matches!(**source, TextError::TemplateSyntax { .. }))
        );
        let reason = error.to_string();
        assert!(reason.contains("`model.template`") && reason.contains("--raw"), "{reason}");
    }
    let gguf = model("{{ messages[0].content }}");
    let text = Text::load(&config, Path::new("model.gguf"), Some(&gguf)).unwrap();
    assert_eq!(text.encode("ab", PromptStyle::Chat).unwrap(), [0, 1]);
}
