//! What was said, and the file that it is kept in.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use upcycle_text::Message;

/// The version of the file that is written and read.
const VERSION: u32 = 1;

/// The largest file that is read: far more than any context holds.
const LARGEST: u64 = 64 << 20;

/// Instructions, and turns: a message of the user and its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conversation {
    pub(super) system: Option<String>,
    pub(super) turns: Vec<Turn>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Turn {
    pub(super) user: String,
    pub(super) assistant: String,
}

/// The file: a JSON object.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    turns: Vec<Turn>,
}

/// Why a file holds no conversation.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeptError {
    #[error("{} cannot be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is larger than {LARGEST} bytes; is it a conversation that /save wrote?", path.display())]
    TooLarge { path: PathBuf },
    #[error(
        "{} holds no conversation; expected {{\"version\": {VERSION}, \"system\": \"…\", \"turns\": [{{\"user\": \"…\", \
         \"assistant\": \"…\"}}]}}, as /save writes it", path.display()
    )]
    Form {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{} is of version {found}, and this program reads {VERSION}", path.display())]
    Version { path: PathBuf, found: u32 },
}

impl Conversation {
    /// What the template sees: the instructions, all turns, and a message that is to be answered.
    pub(super) fn messages(&self, question: &str) -> Vec<Message> {
        let turns = self.turns.iter().flat_map(|turn| {
            [Message::user(turn.user.as_str()), Message::assistant(turn.assistant.as_str())]
        });
        (self.system.iter().map(Message::system)).chain(turns).chain([Message::user(question)]).collect()
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let Self { system, turns } = self.clone();
        let mut json = serde_json::to_vec_pretty(&Kept { version: VERSION, system, turns })?;
        json.push(b'\n');
        Ok(json)
    }

    pub(super) fn load(path: &Path) -> Result<Self, KeptError> {
        let read = |source| KeptError::Read { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        fs::File::open(path).map_err(read)?.take(LARGEST + 1).read_to_end(&mut bytes).map_err(read)?;
        if bytes.len() as u64 > LARGEST {
            return Err(KeptError::TooLarge { path: path.to_owned() });
        }
        let Kept { version, system, turns } = serde_json::from_slice(&bytes)
            .map_err(|source| KeptError::Form { path: path.to_owned(), source })?;
        if version != VERSION {
            return Err(KeptError::Version { path: path.to_owned(), found: version });
        }
        Ok(Self { system, turns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.json");
        for system in [None, Some("Be brief.\n\"Quote\" \u{1b}".to_owned())] {
            let turn = Turn { user: "ä\u{0}\n".to_owned(), assistant: String::new() };
            let conversation = Conversation { system, turns: vec![turn; 2] };
            fs::write(&path, conversation.to_json().unwrap()).unwrap();
            assert_eq!(Conversation::load(&path).unwrap(), conversation);
        }
    }

    #[test]
    fn other_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.json");
        let turn = r#"{"user": "a", "assistant": "b"}"#;
        for (text, expected) in [
            (String::new(), "holds no conversation"),
            ("[]".to_owned(), "holds no conversation"),
            (format!(r#"{{"version": 2, "turns": [{turn}]}}"#), "is of version 2"),
            (format!(r#"{{"version": 1, "turns": [{turn}], "more": 1}}"#), "holds no conversation"),
            (r#"{"version": 1, "turns": [{"user": "a"}]}"#.to_owned(), "holds no conversation"),
        ] {
            fs::write(&path, text).unwrap();
            let error = Conversation::load(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(Conversation::load(folder.path()).unwrap_err().to_string().contains("cannot be read"));
    }
}
