//! `model.template_variables`: a table of the user's own.

use std::path::Path;

use serde_json::json;
use upcycle::{Config, ConfigBuilder, Registry};

use super::{load, message};

fn variables(config: &Config) -> serde_json::Value {
    config.model().template_variables.clone().into()
}

#[test]
fn a_table_is_read_in_every_way_that_toml_writes_one() {
    let expected = json!({"enable_thinking": false, "depth": {"n": 2, "of": [1.5, "x"]}});
    for text in [
        "[model]\ntemplate_variables = { enable_thinking = false, depth = { n = 2, of = [1.5, \"x\"] } }",
        "[model.template_variables]\nenable_thinking = false\n[model.template_variables.depth]\nn = 2\nof = [1.5, \"x\"]",
        "model.template_variables.enable_thinking = false\nmodel.template_variables.depth = { n = 2, of = [1.5, 'x'] }",
    ] {
        let config = load(text).unwrap();
        assert_eq!(variables(&config), expected, "{text}");
        let again = load(&config.to_toml().unwrap()).unwrap();
        assert_eq!(again, config);
    }
    assert_eq!(variables(&load("").unwrap()), json!({}));
    let date = load("model.template_variables.date_string = 2026-01-02").unwrap();
    assert_eq!(variables(&date), json!({"date_string": "2026-01-02"}));
}

/// `tojson` writes the keys in their order.
#[test]
fn entries_keep_their_order() {
    let written = |config: &Config| variables(config).to_string();
    let expected = r#"{"tool":{"name":"f","a":3,"b":[{"z":1,"a":2}]}}"#;
    for text in [
        "model.template_variables = { tool = { name = 'f', a = 3, b = [{ z = 1, a = 2 }] } }",
        "[model.template_variables.tool]\nname = 'f'\na = 3\nb = [{ z = 1, a = 2 }]",
    ] {
        let config = load(text).unwrap();
        assert_eq!(written(&config), expected);
        assert_eq!(written(&load(&config.to_toml().unwrap()).unwrap()), expected);
    }
    let mut builder = ConfigBuilder::new(&Registry::builtin());
    builder.variables([("UPCYCLE_MODEL__TEMPLATE_VARIABLES".into(), "{ z = 1, a = 2 }".into())]).unwrap();
    assert_eq!(written(&builder.build().unwrap()), r#"{"z":1,"a":2}"#);
}

#[test]
fn entries_of_a_stronger_layer_replace_those_of_their_names() {
    let mut builder = ConfigBuilder::new(&Registry::builtin());
    builder.text(Path::new("f.toml"), "[model.template_variables]\na = 1\nb = 1\nc = 1").unwrap();
    builder.variables([("UPCYCLE_MODEL__TEMPLATE_VARIABLES".into(), "{ b = 2, c = 2 }".into())]).unwrap();
    builder.assignment("--set", "model.template_variables.c=3").unwrap();
    builder.assignment("--set", "model.template_variables.d=as it stands").unwrap();
    let config = builder.build().unwrap();
    assert_eq!(variables(&config), json!({"a": 1, "b": 2, "c": 3, "d": "as it stands"}));
}

#[test]
fn variables_of_other_programs_are_ignored() {
    let mut builder = ConfigBuilder::new(&Registry::builtin());
    let variables = [
        ("UPCYCLE_DECODE_SEED", "1"),
        ("UPCYCLE_PORT", "tcp://10.0.0.1:80"),
        ("UPCYCLE_API_SERVICE_HOST", "10.0.0.1"),
        ("UPCYCLE_DECODE__SEED", ""),
        ("UPCYCLE_DECODE__TOP_K", "\t"),
        ("UPCYCLE_KERNELS", "portable"),
        ("UPCYCLE_ZZZ", "1"),
        ("UPCYCLE_MODEL__TEMPLATE", ""),
    ];
    builder.variables(variables.map(|(name, value)| (name.into(), value.into()))).unwrap();
    assert_eq!(builder.build().unwrap(), load("").unwrap());
    let warnings: Vec<&str> = builder.warnings().iter().map(|warning| warning.variable.as_str()).collect();
    assert_eq!(warnings, ["UPCYCLE_DECODE_SEED", "UPCYCLE_ZZZ"]);
    assert!(builder.warnings()[0].to_string().ends_with("did you mean UPCYCLE_DECODE__SEED?"));
    builder.variables([]).unwrap();
    assert!(builder.warnings().is_empty());
}

#[test]
fn what_no_template_can_be_told_is_an_error() {
    assert_eq!(
        message("[model.template_variables]\nmessages = []"),
        "test.toml:1:1: `model.template_variables` is messages; expected other names than messages, \
         add_generation_prompt, bos_token, eos_token, raise_exception, strftime_now"
    );
    for value in ["nan", "[inf]"] {
        let text = format!("model.template_variables = {{ a = {value} }}");
        assert!(message(&text).contains("must be a table of strings, finite numbers"), "{value}");
    }
    assert!(message("model.template_variables = 7").contains("must be a table, such as { enable_thinking"));
    let mut builder = ConfigBuilder::new(&Registry::builtin());
    assert!(builder.assignment("--set", "model.template_variables=7").is_err());
    assert!(builder.assignment("--set", "model.template_variables.=7").is_err());
    assert!(builder.assignment("--set", "model.template_variables.a.b=7").is_err());
}
