use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use serde_json::Value;
use upcycle_text::{ChatTemplate, Message, Specials, TemplateTokens, TextError};

use crate::model::{GGUF, TOKENIZER, Tiny};

fn render(source: &str) -> Result<String, TextError> {
    let tokens = TemplateTokens { bos: Some("<s>".to_owned()), eos: Some("</s>".to_owned()) };
    let messages =
        [Message::system("Be brief."), Message::user("Hi"), Message::assistant("Hello <b> & \"é\"")];
    ChatTemplate::new(source, &tokens)?.render_at(
        &messages,
        true,
        UNIX_EPOCH + Duration::from_secs(951_827_696),
    )
}

#[test]
fn the_real_template_adds_its_system_prompt() {
    let template = ChatTemplate::from_gguf(&GGUF, TOKENIZER.template_tokens()).unwrap().unwrap();
    let system = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n";
    assert_eq!(
        template.render(&[Message::user("Hi")], true).unwrap(),
        format!("{system}<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    );
    let own = [Message::system("Be brief."), Message::user("Hi")];
    assert_eq!(
        template.render(&own, false).unwrap(),
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    );
}

#[test]
fn prompts_equal_the_reference_token_for_token() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/paper_trace.json");
    let trace: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let template = ChatTemplate::from_gguf(&GGUF, TOKENIZER.template_tokens()).unwrap().unwrap();
    let prompts = trace["prompts"].as_array().unwrap();
    assert_eq!(prompts.len(), 10);
    for prompt in prompts {
        let text = template.render(&[Message::user(prompt["prompt"].as_str().unwrap())], true).unwrap();
        let tokens = TOKENIZER.encode(&text, Specials::Parse).unwrap();
        let expected: Vec<u32> =
            prompt["prompt_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        assert_eq!(tokens, expected, "{}", prompt["question_id"]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn messages_encode_to_no_special_tokens(
        parts in prop::collection::vec(
            prop_oneof![
                Just("<|im_end|>".to_owned()),
                Just("<|im_start|>".to_owned()),
                Just("<|im_start|>assistant\n".to_owned()),
                Just("<|endoftext|>".to_owned()),
                Just("<|im_".to_owned()),
                Just("\u{F0000}".to_owned()),
                "[a-zé🙂 \n|<>]{0,6}",
            ],
            0..8,
        ),
    ) {
        let template = ChatTemplate::from_gguf(&GGUF, TOKENIZER.template_tokens()).unwrap().unwrap();
        let text = format!("({})", parts.concat());
        let tokens = |text: &str| {
            let messages = [Message::user(text), Message::assistant(text), Message::user("Go on")];
            TOKENIZER.encode_conversation(&template, &messages).unwrap()
        };
        let special = |tokens: &[u32]| {
            tokens.iter().filter(|&&token| TOKENIZER.token_bytes(token).unwrap().is_empty()).count()
        };
        let found = tokens(&text);
        prop_assert_eq!(special(&found), special(&tokens("x")), "{:?}", text);
        prop_assert_eq!(TOKENIZER.decode(&found).unwrap().matches(&text).count(), 2, "{:?}", text);
        if !text.contains("<|") {
            let messages = [Message::user(text.as_str())];
            let rendered = template.render(&messages, true).unwrap();
            prop_assert_eq!(
                TOKENIZER.encode_conversation(&template, &messages).unwrap(),
                TOKENIZER.encode(&rendered, Specials::Parse).unwrap()
            );
        }
    }
}

#[test]
fn names_are_refused_if_no_placeholder_is_left() {
    let template = ChatTemplate::from_gguf(&GGUF, TOKENIZER.template_tokens()).unwrap().unwrap();
    let private: String = (0xF_0000..=0x10_FFFF).filter_map(char::from_u32).collect();
    let refused = TOKENIZER.encode_conversation(&template, &[Message::user(format!("<|im_end|>{private}"))]);
    assert!(matches!(refused, Err(TextError::NoPlaceholder { names: 1 })), "{refused:?}");
    assert!(TOKENIZER.encode_conversation(&template, &[Message::user(private)]).is_ok());
}

#[test]
fn a_file_without_a_template_has_none() {
    assert!(ChatTemplate::from_gguf(&Tiny::default().gguf(), &TemplateTokens::default()).unwrap().is_none());
}

#[test]
fn a_gguf_template_uses_the_special_tokens_of_the_file() {
    let mut tiny = Tiny::default();
    tiny.more.push(("tokenizer.chat_template", "{{ bos_token }}|{{ eos_token }}".into()));
    tiny.more.push(("tokenizer.ggml.bos_token_id", 0_u32.into()));
    let gguf = tiny.gguf();
    let tokenizer = upcycle_text::Tokenizer::from_gguf(&gguf).unwrap();
    let template = ChatTemplate::from_gguf(&gguf, tokenizer.template_tokens()).unwrap().unwrap();
    assert_eq!(template.render(&[], false).unwrap(), "!|");
}

#[test]
fn features_that_templates_use() {
    let cases = [
        ("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", "<s>Be brief.</s>"),
        ("{{ messages[1]['role'] }} {{ messages | length }}", "user 3"),
        ("{% if tools is none %}no{% endif %}{% if tools %}tools{% endif %}", "no"),
        ("{{ messages[2].content }}", "Hello <b> & \"é\""),
        ("{{ messages[2] | tojson }}", r#"{"role": "assistant", "content": "Hello <b> & \"é\""}"#),
        (r#"{{ "é🙂\x7f" | tojson(ensure_ascii=true) }}"#, r#""\u00e9\ud83d\ude42\u007f""#),
        (
            "{{ [none is iterable, [] is iterable, '' is iterable, 1 is iterable] }}",
            "[False, True, True, False]",
        ),
        ("{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}", "21"),
        ("{{ [1, [], {}] | tojson(indent=2) }}", "[\n  1,\n  [],\n  {}\n]"),
        ("{{ {'a': [1.5, none, true]} | tojson }}", r#"{"a": [1.5, null, true]}"#),
        ("{{ ' x '.strip() }}{{ 'a,b'.split(',')[1] }}{{ 'ab'.startswith('a') }}", "xbTrue"),
        (
            "{% for m in messages %}{% if loop.index0 == 1 %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
            "system",
        ),
        ("{{ strftime_now('%d %b %Y') }}", "29 Feb 2000"),
        (
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
            "3",
        ),
        ("a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "a\n  b\nc"),
        ("{{- 'a' -}}   \n b", "ab"),
        ("{{ messages[1:] | map(attribute='role') | join(',') }}", "user,assistant"),
        ("{% if add_generation_prompt %}go{% endif %}{{ undefined_thing }}", "go"),
        ("{{ messages[0].get('tool_calls', 'none') }}", "none"),
    ];
    for (source, expected) in cases {
        assert_eq!(render(source).unwrap_or_else(|error| panic!("{source}: {error}")), expected, "{source}");
    }
}

#[test]
fn undefined_tokens_print_nothing() {
    let template =
        ChatTemplate::new("[{{ bos_token }}]{{ bos_token is defined }}", &TemplateTokens::default()).unwrap();
    assert_eq!(template.render(&[], false).unwrap(), "[]False");
}

#[test]
fn failing_templates_give_a_reason() {
    let refused =
        render("{% if messages[0].role == 'system' %}{{ raise_exception('No system role!') }}{% endif %}");
    assert!(matches!(refused, Err(TextError::TemplateRefused { message }) if message == "No system role!"));
    let nested = render("{% macro f() %}{{ raise_exception('deep') }}{% endmacro %}{{ f() }}");
    assert!(matches!(nested, Err(TextError::TemplateRefused { message }) if message == "deep"));
    let syntax = render("line one\n{% if %}");
    assert!(matches!(syntax, Err(TextError::TemplateSyntax { reason }) if reason.contains("line 2")));
    let failed = render("{{ 1 + [] }}");
    assert!(matches!(failed, Err(TextError::TemplateFailed { .. })));
    assert!(
        matches!(render("{{ strftime_now('%Q') }}"), Err(TextError::TemplateFailed { reason }) if reason.contains("%Q"))
    );
    assert!(matches!(
        render("{{ [1] | tojson(indent=100000000000) }}"),
        Err(TextError::TemplateFailed { .. })
    ));
    // Each step doubles the text.
    for step in [" | tojson", " | replace('a', 'aa')", " | tojson(ensure_ascii=true)"] {
        let doubled = render(&format!("{{{{ ('a\"' {}) | length }}}}", step.repeat(60)));
        assert!(doubled.is_err(), "{step}: {doubled:?}");
    }
}

#[test]
fn endless_templates_are_stopped() {
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{{ c }}{% endfor %}{% endfor %}{% endfor %}";
    assert!(matches!(render(endless), Err(TextError::TemplateOutOfFuel { .. })));
    let huge = "{% set ns = namespace(s='xxxxxxxx') %}{% for a in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}";
    assert!(matches!(render(huge), Err(TextError::TemplateOutOfFuel { .. })));
    // Nested values are printed and freed recursively; fuel bounds the depth.
    let nested = "{% set all = namespace(x=[]) %}{% for _ in range(90000) %}{% set all.x = [all.x] %}{% endfor %}{{ all.x }}";
    assert_eq!(render(nested).map(|text| text.len()).ok(), Some(2 * 90_001));
    // Fuel does not count the work of indenting them.
    assert!(render("{{ messages | pprint }}").is_err() && render("{{ debug() }}").is_err());
    let recursive = render("{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}");
    assert!(recursive.is_err());
}

/// Nothing looks into a namespace, so one that contains itself is harmless.
#[test]
fn a_namespace_may_contain_itself() {
    let ns = "{% set ns = namespace(a=[], n=1) %}";
    for assigned in [
        "{% set ns.n = ns %}",
        "{% set ns.n = [ns, [ns]] %}",
        "{% set ns.n = {'a': ns} %}",
        "{% set ns.n = (1, ns) %}",
        "{% set ns.n, other = ns, 1 %}",
        "{% set (ns.n, ns.m) = (ns, [ns]) %}",
        "{% set other = ns %}{% set ns.n = other %}",
        "{% set ns.n = ns if true else 1 %}",
        "{% set ns.n = x | default(ns) %}",
        "{% set ns.n = dict(a=ns) %}",
        "{% set ns.n = namespace(a=ns) %}",
        "{% for x in [ns] %}{% set ns.n = x %}{% endfor %}",
        "{% with other = ns %}{% set ns.n = other %}{% endwith %}",
        "{% macro m(s) %}{% set s.n = [s, m] %}{% endmacro %}{{ m(ns) }}",
        "{% macro m() %}{% set ns.n = caller %}{% endmacro %}{% call m() %}{{ ns.a }}{% endcall %}",
        "{% for x in [1, 2] %}{{ loop.changed(loop) }}{% set ns.n = loop %}{% endfor %}",
        "{% set ns.n %}{{ ns }}{% endset %}",
        "{% set f = namespace %}{% set ns = f() %}{% set ns.n = ns %}",
    ] {
        for used in [
            "{{ ns }}{{ ns.n }}",
            "{{ ns == ns.n }}{{ [ns] == [ns.n] }}{{ ns < ns.n }}",
            "{{ ns.n | string | length }}{{ ns ~ ns.n }}",
            "{{ ns | tojson }}{{ [ns.n] | tojson(indent=1) }}",
            "{{ [ns, ns.n] | unique | list }}{{ ns in [ns.n] }}{{ [ns.n, ns] | sort }}",
            "{{ {ns: 1}[ns] }}{{ [ns.n] | join }}{{ ns | list }}",
        ] {
            // An error will do.
            let _ = render(&format!("{ns}{assigned}{used}"));
        }
        let count = render(&format!("{ns}{assigned}{{{{ [ns] | length }}}}")).unwrap();
        assert!(count.ends_with('1'), "{assigned}: {count}");
    }
}

#[test]
fn assignments_to_attributes_keep_the_text_and_the_lines_around_them() {
    for (source, expected) in [
        ("{%- set\n  ns.x = 5\n-%}\n a", "5"),
        ("{% set ns.x, y = 1, 2 -%}  \n{{ y }}", "1"),
        ("{% set ns.x | upper %}a{% set z %}b{% endset %}{{ z }}{% endset %}", "AB"),
        ("{% set ns.inner = namespace() %}{% set ns.inner.y = 3 %}{% set ns.x = ns.inner.y %}", "3"),
        ("{% raw %}{% set ns.x = 2 %}{% endraw %}", "0"),
        ("{# {% set ns.x = 2 %} #}", "0"),
        ("{{ '{% set ns.x = 2 %}' | length }}", "0"),
    ] {
        let found = render(&format!("{{% set ns = namespace(x=0) %}}{source}|{{{{ ns.x }}}}")).unwrap();
        assert_eq!(found.rsplit('|').next(), Some(expected), "{source}: {found:?}");
    }
    let failed = render("{% set a = 1 %}\n{% set\na.b = 2\n%}\n{{ 1 + [] }}");
    assert!(
        matches!(&failed, Err(TextError::TemplateFailed { reason }) if reason.contains("namespace")),
        "{failed:?}"
    );
    let line = render("{% set ns = namespace() %}\n{% set\nns.b = 2\n%}\n{{ 1 + [] }}");
    assert!(
        matches!(&line, Err(TextError::TemplateFailed { reason }) if reason.contains("line 5")),
        "{line:?}"
    );
}

#[test]
fn a_model_with_several_templates_has_a_default() {
    let folder = tempfile::tempdir().unwrap();
    let (config, named) =
        (folder.path().join("tokenizer_config.json"), folder.path().join("chat_template.json"));
    let tokens = TemplateTokens::default();
    let from_folder = || ChatTemplate::from_folder(folder.path(), &tokens);
    let text = |template: &ChatTemplate| template.render(&[Message::user("Hi")], true).unwrap();
    assert!(from_folder().unwrap().is_none());

    fs::write(&named, r#"{"chat_template": "json {{ messages[0].content }}"}"#).unwrap();
    assert_eq!(text(&from_folder().unwrap().unwrap()), "json Hi");
    let list = r#"{"chat_template": [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "default"}]}"#;
    fs::write(&config, list).unwrap();
    let template = from_folder().unwrap().unwrap();
    assert_eq!((text(&template), template.source()), ("default".to_owned(), "default"));
    let tools = |value| [("tools".to_owned(), value)];
    let with_tools = template.with_variables(tools(serde_json::json!([{"name": "f"}]))).unwrap();
    assert_eq!(text(&with_tools), "tools");
    assert_eq!(text(&with_tools.with_variables(tools(Value::Null)).unwrap()), "default");

    fs::write(&config, r#"{"chat_template": [{"name": "rag", "template": "only"}]}"#).unwrap();
    assert_eq!(text(&from_folder().unwrap().unwrap()), "only");
    for wrong in
        ["1", r#"[{"name": "a"}]"#, r#"[{"name": "a", "template": "a"}, {"name": "b", "template": "b"}]"#]
    {
        fs::write(&config, format!(r#"{{"chat_template": {wrong}}}"#)).unwrap();
        let error = from_folder().unwrap_err();
        assert!(matches!(error, TextError::Json { .. }), "{wrong}: {error}");
    }
    fs::write(folder.path().join("chat_template.jinja"), "\u{feff}jinja\r\n").unwrap();
    assert_eq!(text(&from_folder().unwrap().unwrap()), "jinja");

    let gguf = |templates: &[(&'static str, &str)]| {
        let mut tiny = Tiny::default();
        tiny.more.extend(templates.iter().map(|&(key, template)| (key, template.into())));
        ChatTemplate::from_gguf(&tiny.gguf(), &tokens)
    };
    let several = gguf(&[("tokenizer.chat_template", "a"), ("tokenizer.chat_template.tool_use", "b")])
        .unwrap()
        .unwrap();
    assert_eq!(text(&several), "a");
    assert_eq!(text(&gguf(&[("tokenizer.chat_template.rag", "b")]).unwrap().unwrap()), "b");
    assert!(gguf(&[("tokenizer.chat_template", "")]).unwrap().is_none());
    let two = gguf(&[("tokenizer.chat_template.a", "a"), ("tokenizer.chat_template.b", "b")]);
    assert!(matches!(&two, Err(TextError::TemplateChoice { reason }) if reason.contains("a, b")), "{two:?}");
}

/// minijinja parses and compiles chains recursively, as deep as they are long.
#[test]
fn long_chains_are_refused_before_they_are_parsed() {
    let chain = |start: &str, link: &str, end: &str, links| format!("{start}{}{end}", link.repeat(links));
    for (start, link, end) in [
        ("{{ 1", " + 1", " }}"),
        ("{{ a", " ~ a", " }}"),
        ("{{ a", " | string", " }}"),
        ("{{ a", ".b", " }}"),
        ("{{ a", "()", " }}"),
        ("{{ ", "not ", "a }}"),
        ("{{ ", "-", "1 }}"),
        ("{{ ", "a if a else ", "a }}"),
        ("{% set a = 1", " ** 1", " %}"),
        ("{% if a %}", "{% elif a %}", "{% endif %}"),
    ] {
        let long = render(&chain(start, link, end, 200_000));
        assert!(
            matches!(&long, Err(TextError::TemplateSyntax { reason }) if reason.contains("at most")),
            "{link}: {long:?}"
        );
        // At the allowed length they end in a text or an error, not a crash.
        let _ = render(&chain(
            start,
            link,
            end,
            if link.contains('%') { 1_000 } else { 4_000 / link.split(' ').count() },
        ));
    }
    assert_eq!(render(&chain("{% if a %}", "{% elif a %}", "{% else %}b{% endif %}", 1_000)).unwrap(), "b");
    assert_eq!(render(&chain("{{ 1", " + 1", " }}", 1_000)).unwrap(), "1001");
}

#[test]
fn long_conversations_have_enough_fuel() {
    let template = ChatTemplate::from_gguf(&GGUF, TOKENIZER.template_tokens()).unwrap().unwrap();
    let messages: Vec<Message> =
        (0..2_000).map(|turn| Message::user(format!("{turn}").repeat(200))).collect();
    let text = template.render(&messages, true).unwrap();
    assert!(text.len() > 1_000_000);
}

#[test]
fn templates_can_be_read_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = TemplateTokens::default();
    let jinja = folder.path().join("chat.jinja");
    fs::write(&jinja, "{{ messages[0].content }}!").unwrap();
    let template = ChatTemplate::from_file(&jinja, &tokens).unwrap();
    assert_eq!(template.render(&[Message::user("Hi")], true).unwrap(), "Hi!");
    assert_eq!(template.source(), "{{ messages[0].content }}!");

    let json = folder.path().join("tokenizer_config.json");
    fs::write(&json, r#"{"chat_template": "{{ messages | length }}"}"#).unwrap();
    assert_eq!(ChatTemplate::from_file(&json, &tokens).unwrap().render(&[], true).unwrap(), "0");
    fs::write(&json, "{}").unwrap();
    assert!(matches!(ChatTemplate::from_file(&json, &tokens), Err(TextError::Json { .. })));
    assert!(matches!(
        ChatTemplate::from_file(folder.path().join("none"), &tokens),
        Err(TextError::Read { .. })
    ));
}

#[test]
fn public_types_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + Clone + std::fmt::Debug>() {}
    shared::<ChatTemplate>();
    shared::<upcycle_text::Tokenizer>();
    shared::<upcycle_text::StopStrings>();
    shared::<upcycle_text::Detokenizer>();
    assert!(format!("{:?}", *TOKENIZER).len() < 200);
    assert!(format!("{:?}", TOKENIZER.detokenizer()).len() < 200);
}

proptest! {
    #[test]
    fn no_template_panics(
        parts in prop::collection::vec(prop::sample::select(vec![
            "{% for m in messages %}", "{% endfor %}", "{% if", " %}", "{% endif %}", "{{", "}}", " messages", "[0]",
            "[-1:9999999999999]", ".content", " | tojson(indent=3)", " | length", " * 1000000000", " + ", " - 1",
            "strftime_now('%Y')", "raise_exception(", ")", "(", "{% set x =", " 'a'", ".strip()", "{% macro f() %}",
            "{% endmacro %}", "f()", "range(10)", "{#", "#}", "\n", "{%- else -%}", "é", " // 0", " % 0", " ** 999",
        ]), 0..16)
    ) {
        let _ = render(&parts.concat());
    }
}
