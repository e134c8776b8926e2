//! The messages of a conversation, and the file that holds them.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use upcycle_text::Message;

/// The version of the file format.
const VERSION: u32 = 1;

/// Larger files are refused. Far more than any context holds.
const LARGEST: u64 = 64 << 20;

/// The system prompt and all turns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conversation {
    pub(super) system: Option<String>,
    pub(super) turns: Vec<Turn>,
}

/// A message and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Turn {
    pub(super) user: String,
    pub(super) assistant: String,
}

/// The content of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedConversation {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    turns: Vec<Turn>,
}

/// Why a conversation could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is larger than {LARGEST} bytes; is it a conversation that /save wrote?", path.display())]
    TooLarge { path: PathBuf },
    #[error(
        "{} is not a conversation; expected {{\"version\": {VERSION}, \"system\": \"…\", \"turns\": [{{\"user\": \"…\", \
         \"assistant\": \"…\"}}]}}, as /save writes it", path.display()
    )]
    Form {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{} has version {found}; this program reads version {VERSION}", path.display())]
    Version { path: PathBuf, found: u32 },
}

impl Conversation {
    /// The messages for the chat template: the system prompt, all turns and the new message.
    pub(super) fn messages(&self, message: &str) -> Vec<Message> {
        let turns = self.turns.iter().flat_map(|turn| {
            [Message::user(turn.user.as_str()), Message::assistant(turn.assistant.as_str())]
        });
        (self.system.iter().map(Message::system)).chain(turns).chain([Message::user(message)]).collect()
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let Self { system, turns } = self.clone();
        let mut json = serde_json::to_vec_pretty(&SavedConversation { version: VERSION, system, turns })?;
        json.push(b'\n');
        Ok(json)
    }

    pub(super) fn load(path: &Path) -> Result<Self, LoadError> {
        let read = |source| LoadError::Read { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        fs::File::open(path).map_err(read)?.take(LARGEST + 1).read_to_end(&mut bytes).map_err(read)?;
        if bytes.len() as u64 > LARGEST {
            return Err(LoadError::TooLarge { path: path.to_owned() });
        }
        Self::parse(path, &upcycle::utf8(bytes))
    }

    /// As [`load`](Self::load), from the bytes of the file.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, LoadError> {
        let SavedConversation { version, system, turns } = serde_json::from_slice(bytes)
            .map_err(|source| LoadError::Form { path: path.to_owned(), source })?;
        if version != VERSION {
            return Err(LoadError::Version { path: path.to_owned(), found: version });
        }
        Ok(Self { system, turns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_conversation_is_loaded_unchanged() {
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
            (String::new(), "is not a conversation"),
            ("[]".to_owned(), "is not a conversation"),
            (format!(r#"{{"version": 2, "turns": [{turn}]}}"#), "has version 2"),
            (format!(r#"{{"version": 1, "turns": [{turn}], "more": 1}}"#), "is not a conversation"),
            (r#"{"version": 1, "turns": [{"user": "a"}]}"#.to_owned(), "is not a conversation"),
        ] {
            fs::write(&path, text).unwrap();
            let error = Conversation::load(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(Conversation::load(folder.path()).unwrap_err().to_string().contains("cannot read"));
    }
}
