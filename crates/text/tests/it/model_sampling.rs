//! What model files suggest about sampling.

use std::fs;
use std::io::Cursor;

use upcycle_checkpoint::gguf::Gguf;
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_text::{ModelSampling, TextError};

#[test]
fn a_gguf_file_suggests_by_its_sampling_keys() {
    let read = |file: GgufWriter| {
        ModelSampling::from_gguf(&Gguf::read(&mut Cursor::new(file.to_bytes().unwrap())).unwrap())
    };
    assert_eq!(read(GgufWriter::new()).unwrap(), ModelSampling::default());
    let file = GgufWriter::new()
        .metadata("general.sampling.temp", 0.6_f32)
        .metadata("general.sampling.top_k", -1_i32)
        .metadata("general.sampling.top_p", 1_u32)
        .metadata("general.sampling.penalty_repeat", 1.05_f32);
    let expected = ModelSampling {
        temperature: Some(0.6),
        top_k: Some(0),
        top_p: Some(1.0),
        min_p: None,
        repeat_penalty: Some(1.05),
    };
    assert_eq!(read(file).unwrap(), expected);
    let error = read(GgufWriter::new().metadata("general.sampling.temp", "hot")).unwrap_err();
    assert!(matches!(error, TextError::Gguf(_)) && error.to_string().contains("general.sampling.temp"));
}

#[test]
fn the_first_file_of_a_folder_that_has_a_setting_counts() {
    let folder = tempfile::tempdir().unwrap();
    let read = || ModelSampling::from_folder(folder.path());
    assert_eq!(read().unwrap(), ModelSampling::default());
    let genai = r#"{"search": {"temperature": 0.9, "top_k": 50, "repetition_penalty": 1.1}}"#;
    fs::write(folder.path().join("genai_config.json"), genai).unwrap();
    let config = folder.path().join("generation_config.json");
    fs::write(&config, r#"{"do_sample": false, "temperature": 0.7, "top_p": 0.8, "min_p": null}"#).unwrap();
    let expected = ModelSampling {
        temperature: Some(0.7),
        top_k: Some(50),
        top_p: Some(0.8),
        min_p: None,
        repeat_penalty: Some(1.1),
    };
    assert_eq!(read().unwrap(), expected);
    for unsound in ["{", r#"{"temperature": "hot"}"#, r#"{"top_k": [1]}"#] {
        fs::write(&config, unsound).unwrap();
        let error = read().unwrap_err();
        assert!(matches!(&error, TextError::Json { path, .. } if *path == config), "{error}");
    }
}
