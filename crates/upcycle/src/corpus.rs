//! `drafter.corpus_dir`: the files of a folder, as a corpus to copy from.

use std::ffi::OsStr;
use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use upcycle_core::TokenId;
use upcycle_core::mixed::{Corpus, CorpusBuilder};
use upcycle_text::{Specials, TextError, Tokenizer};

/// Limits of a corpus: tokens of all texts together (8 MiB of tables), and bytes of one file.
const LIMITS: Limits = Limits { tokens: 1 << 20, file: 4 << 20 };

#[derive(Clone, Copy, Debug)]
struct Limits {
    tokens: usize,
    file: u64,
}

/// Why a folder of texts cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CorpusError {
    /// The folder, or a file in it, cannot be read.
    #[error("drafter.corpus_dir: {path} cannot be read; make it readable, or move it elsewhere", path = path.display())]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The folder contains no text.
    #[error(
        "drafter.corpus_dir: nothing to copy from in {folder}; expected a file of UTF-8 text that is not hidden, found {files}",
        folder = folder.display()
    )]
    NoText {
        /// The folder.
        folder: PathBuf,
        /// Its files that are not hidden, all of them empty or skipped.
        files: usize,
    },
}

/// A warning while a folder is read.
#[derive(Debug, thiserror::Error)]
enum Notice {
    #[error("{path} is skipped: it is not text ({why})", path = path.display())]
    NoText { path: PathBuf, why: &'static str },
    #[error("{path} is skipped: it has more than {limit} bytes", path = path.display())]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("{path} is skipped: {source}", path = path.display())]
    NoTokens { path: PathBuf, source: TextError },
    #[error("the texts have more than {limit} tokens: everything after token {taken} of {path} is skipped", path = path.display())]
    CutOff { path: PathBuf, taken: usize, limit: usize },
}

/// Reads the corpus of a folder for a model of `vocab` tokens. Logs a warning for each file that is skipped or cut off.
///
/// # Errors
/// [`CorpusError`].
pub(crate) fn corpus(folder: &Path, tokenizer: &Tokenizer, vocab: usize) -> Result<Corpus, CorpusError> {
    let mut tell = |notice: Notice| tracing::warn!("drafter.corpus_dir: {notice}");
    let corpus = read(folder, tokenizer, vocab, LIMITS, &mut tell)?;
    tracing::info!(folder = %folder.display(), tokens = corpus.len(), "texts read");
    Ok(corpus)
}

fn read(
    folder: &Path,
    tokenizer: &Tokenizer,
    vocab: usize,
    limits: Limits,
    tell: &mut dyn FnMut(Notice),
) -> Result<Corpus, CorpusError> {
    let mut builder = CorpusBuilder::new(vocab, limits.tokens);
    let mut files = 0;
    for path in Files::below(folder)? {
        let path = path?;
        files += 1;
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(limits.file + 1).read_to_end(&mut bytes))
            .map_err(|source| CorpusError::Read { path: path.clone(), source })?;
        if bytes.len() as u64 > limits.file {
            tell(Notice::TooLarge { path, limit: limits.file });
            continue;
        }
        if bytes.contains(&0) {
            tell(Notice::NoText { path, why: "a NUL byte" });
            continue;
        }
        let Ok(text) = String::from_utf8(bytes) else {
            tell(Notice::NoText { path, why: "not UTF-8" });
            continue;
        };
        match encode(&text, tokenizer, limits.tokens - builder.len()) {
            Ok(tokens) => {
                let taken = builder.push(&tokens);
                if taken < tokens.len() {
                    tell(Notice::CutOff { path, taken, limit: limits.tokens });
                    break;
                }
            }
            Err(source) => tell(Notice::NoTokens { path, source }),
        }
    }
    if builder.is_empty() {
        return Err(CorpusError::NoText { folder: folder.to_owned(), files });
    }
    Ok(builder.build())
}

/// Bytes to tokenize at once. A tokenizer needs more than a hundred times as much memory.
const PIECE: usize = 64 << 10;

/// The tokens of a text, piece by piece, until there are more than `enough`. Tokens at the end of a piece may differ from those
/// of the whole text, so a draft may be wrong there.
fn encode(text: &str, tokenizer: &Tokenizer, enough: usize) -> Result<Vec<TokenId>, TextError> {
    let (mut tokens, mut rest) = (Vec::new(), text);
    while !rest.is_empty() && tokens.len() <= enough {
        let (piece, after) = rest.split_at(cut(rest, PIECE));
        tokens.extend(tokenizer.encode(piece, Specials::Plain)?);
        rest = after;
    }
    Ok(tokens)
}

/// The end of the first piece of a text: after the last line end in its first `most` bytes (at least 4). Without a line end:
/// after the last complete character.
fn cut(text: &str, most: usize) -> usize {
    if text.len() <= most {
        return text.len();
    }
    let end = (0..=most).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(text.len());
    text[..end].rfind('\n').map_or(end, |line_end| line_end + 1)
}

/// The regular files below a folder in the order of their paths, without hidden ones and those in hidden folders.
/// Symbolic links are not followed.
#[derive(Debug)]
pub(crate) struct Files {
    /// The entries left to visit, the next one last.
    stack: Vec<(PathBuf, FileType)>,
}

impl Files {
    pub(crate) fn below(folder: &Path) -> Result<Self, CorpusError> {
        let mut files = Self { stack: Vec::new() };
        files.enter(folder)?;
        Ok(files)
    }

    fn enter(&mut self, folder: &Path) -> Result<(), CorpusError> {
        let first = self.stack.len();
        let mut list = || -> io::Result<()> {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                if !is_hidden(&entry.file_name()) && (kind.is_dir() || kind.is_file()) {
                    self.stack.push((entry.path(), kind));
                }
            }
            Ok(())
        };
        list().map_err(|source| CorpusError::Read { path: folder.to_owned(), source })?;
        self.stack[first..].sort_by(|(a, _), (b, _)| b.cmp(a));
        Ok(())
    }
}

impl Iterator for Files {
    type Item = Result<PathBuf, CorpusError>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some((path, kind)) = self.stack.pop() {
            if kind.is_file() {
                return Some(Ok(path));
            }
            if let Err(error) = self.enter(&path) {
                return Some(Err(error));
            }
        }
        None
    }
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().first() == Some(&b'.')
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use upcycle_checkpoint::gguf::{Gguf, StringArray, write::GgufWriter};
    use upcycle_core::SeqId;
    use upcycle_core::mixed::{CandidateSource, CorpusMatcher, PredictionContext, Proposals};

    use super::*;

    /// Letters, `<`, `|`, `>`, a line end, and one special token.
    const TOKENS: [&str; 10] = ["<|end|>", "a", "b", "c", "d", "e", "<", "|", ">", "n"];

    fn tokenizer() -> Tokenizer {
        let strings = |strings: &[&str]| strings.iter().copied().collect::<StringArray>();
        let mut types = vec![1; TOKENS.len()];
        types[0] = 3;
        let file = GgufWriter::new()
            .metadata("tokenizer.ggml.model", "gpt2")
            .metadata("tokenizer.ggml.pre", "gpt-2")
            .metadata("tokenizer.ggml.tokens", strings(&TOKENS))
            .metadata("tokenizer.ggml.token_type", types)
            .metadata("tokenizer.ggml.merges", strings(&[]))
            .metadata("tokenizer.ggml.eos_token_id", 0_u32)
            .to_bytes()
            .unwrap();
        Tokenizer::from_gguf(&Gguf::read(&mut io::Cursor::new(file)).unwrap()).unwrap()
    }

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    /// The corpus, and the warnings.
    fn read_all(folder: &Path, limits: Limits) -> (Result<Corpus, CorpusError>, Vec<String>) {
        let mut said = Vec::new();
        let mut tell = |notice: Notice| said.push(notice.to_string());
        let corpus = read(folder, &tokenizer(), TOKENS.len(), limits, &mut tell);
        (corpus, said)
    }

    /// The letters that followed `text`, the best guess first.
    fn after(corpus: &Corpus, text: &str) -> String {
        let recent = tokenizer().encode(text, Specials::Plain).unwrap();
        let mut proposals = Proposals::default();
        let context = PredictionContext { seq: SeqId::new(1), recent: &recent, depth: 0 };
        CorpusMatcher::new(Arc::new(corpus.clone())).propose(context, &mut proposals);
        proposals.items().iter().map(|&(token, _)| TOKENS[token as usize]).collect()
    }

    #[test]
    fn files_come_in_path_order_without_hidden_ones_and_links() {
        let folder = folder(&[
            ("b.txt", b""),
            ("a/z.txt", b""),
            ("a/.secret", b""),
            (".git/config", b""),
            ("a.txt", b""),
            ("a/b/c", b""),
        ]);
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
            std::os::unix::fs::symlink(folder.path().join("b.txt"), folder.path().join("link.txt")).unwrap();
        }
        let found: Vec<PathBuf> = Files::below(folder.path()).unwrap().map(Result::unwrap).collect();
        let mut expected = ["a/b/c", "a/z.txt", "a.txt", "b.txt"].map(|name| folder.path().join(name));
        assert_eq!(found, expected);
        expected.sort();
        assert_eq!(found, expected, "in any order of the system");
    }

    #[test]
    fn files_that_are_not_text_are_skipped_with_a_warning() {
        let folder = folder(&[
            ("1-nul", b"ab\0cd"),
            ("2-latin", b"ab\xffcd"),
            ("3-large", b"abcdeabcdeabcde"),
            ("4-strange", "ab\u{e9}cd".as_bytes()),
            ("5-empty", b""),
            ("6-good", b"abcd"),
        ]);
        let (corpus, said) = read_all(folder.path(), Limits { tokens: 100, file: 14 });
        assert_eq!(after(&corpus.unwrap(), "abc"), "d");
        let expected = [
            ("1-nul", "not text (a NUL byte)"),
            ("2-latin", "not text (not UTF-8)"),
            ("3-large", "more than 14 bytes"),
            ("4-strange", "skipped"),
        ];
        assert_eq!(said.len(), expected.len(), "{said:?}");
        for (said, (name, why)) in said.iter().zip(expected) {
            assert!(said.contains(name) && said.contains(why), "{said}");
        }
    }

    #[test]
    fn texts_do_not_run_into_each_other_and_special_tokens_are_text() {
        let folder = folder(&[("1", b"abc"), ("2", b"cde<|end|>a")]);
        let (corpus, said) = read_all(folder.path(), LIMITS);
        let corpus = corpus.unwrap();
        assert_eq!(said, [""; 0]);
        assert_eq!(after(&corpus, "abc"), "");
        assert_eq!(after(&corpus, "abcde"), "<");
        assert_eq!(after(&corpus, "end|>"), "a");
        assert_eq!(corpus.len(), 3 + 3 + 11, "letter by letter");
    }

    #[test]
    fn a_long_text_is_cut_into_pieces_at_line_ends() {
        let pieces = |mut text: &'static str| {
            let mut pieces = Vec::new();
            while !text.is_empty() {
                let (piece, rest) = text.split_at(cut(text, 6));
                pieces.push(piece);
                text = rest;
            }
            pieces
        };
        assert_eq!(pieces("ab\ncd\nefg\nh"), ["ab\ncd\n", "efg\nh"]);
        assert_eq!(pieces("abcdefgh\n"), ["abcdef", "gh\n"]);
        assert_eq!(pieces("abcd\u{1f600}\u{e9}"), ["abcd", "\u{1f600}\u{e9}"]);
        // All of it is found again, as one text.
        let mut text = "a".repeat(PIECE - 3);
        text.push_str("bcdebcad");
        let folder = folder(&[("long", text.as_bytes())]);
        let (corpus, said) = read_all(folder.path(), LIMITS);
        let corpus = corpus.unwrap();
        assert_eq!((corpus.len(), said), (text.len() + 2, Vec::new()));
        assert_eq!(after(&corpus, "bcde"), "b", "from one piece to the next");
    }

    #[test]
    fn too_many_tokens_are_cut_off_with_a_warning() {
        let folder = folder(&[("1", b"abcd"), ("2", b"bcdbe"), ("3", b"dada")]);
        let (corpus, said) = read_all(folder.path(), Limits { tokens: 11, file: 100 });
        let corpus = corpus.unwrap();
        assert_eq!(corpus.len(), 11);
        assert_eq!(after(&corpus, "bcd"), "b", "the beginning is there");
        assert_eq!(after(&corpus, "cdb"), "", "the end is not");
        let [said] = &said[..] else { panic!("{said:?}") };
        assert!(said.contains("more than 11 tokens") && said.contains("after token 4 of "), "{said}");
        let whole = Limits { tokens: 17, file: 100 };
        assert_eq!(read_all(folder.path(), whole).1, [""; 0]);
    }

    #[test]
    fn a_folder_without_text_is_an_error() {
        let binary = folder(&[("a", b"\0"), ("b", b"")]);
        let error = read_all(binary.path(), LIMITS).0.unwrap_err().to_string();
        assert!(error.contains("expected a file of UTF-8 text") && error.contains("found 2"), "{error}");
        let gone = binary.path().join("gone");
        assert!(matches!(read_all(&gone, LIMITS).0, Err(CorpusError::Read { path, .. }) if path == gone));
    }
}
