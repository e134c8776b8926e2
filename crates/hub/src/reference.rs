use std::fmt;

use crate::error::HubError;

/// The prefix of a reference.
const SCHEME: &str = "hf:";

/// The default revision.
const MAIN: &str = "main";

/// The name of a model on the hub: a repository, an optional file, and a revision (a branch, a tag or a commit).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    repo: String,
    file: Option<String>,
    revision: String,
}

impl Reference {
    /// Parses `hf:owner/repo[/file][@revision]`; `None` for a text that does not begin with `hf:`, such as a path.
    ///
    /// # Errors
    /// [`HubError::Reference`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Result<Self, HubError>> {
        let rest = text.strip_prefix(SCHEME)?;
        Some(Self::parts(rest).ok_or_else(|| HubError::Reference { found: text.to_owned() }))
    }

    fn parts(text: &str) -> Option<Self> {
        let (path, revision) = text.rsplit_once('@').unwrap_or((text, MAIN));
        let mut parts = path.splitn(3, '/');
        let (owner, repo, file) = (parts.next()?, parts.next()?, parts.next());
        let sound =
            is_plain(owner) && is_plain(repo) && file.is_none_or(is_plain_path) && is_plain_path(revision);
        sound.then(|| Self {
            repo: format!("{owner}/{repo}"),
            file: file.map(str::to_owned),
            revision: revision.to_owned(),
        })
    }

    /// `owner/repo`.
    #[must_use]
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// The file, if one is named.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// The branch, tag or commit; `main` by default.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// A file of the same repository and revision.
    pub(crate) fn with_file(&self, file: &str) -> Self {
        Self { file: Some(file.to_owned()), ..self.clone() }
    }
}

/// Whether a name is safe as one part of an address and of a path in the cache.
fn is_plain(part: &str) -> bool {
    let allowed = |character: char| character.is_alphanumeric() || "-_.+ ()[],=".contains(character);
    !part.is_empty() && part != "." && part != ".." && part.chars().all(allowed)
}

/// Whether a name is safe with `/` as a separator.
pub(crate) fn is_plain_path(path: &str) -> bool {
    path.split('/').all(is_plain)
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.repo)?;
        if let Some(file) = &self.file {
            write!(f, "/{file}")?;
        }
        if self.revision != MAIN {
            write!(f, "@{}", self.revision)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_parsed_and_displayed() {
        for text in ["hf:a/b", "hf:a/b/c.gguf", "hf:a/b/folder/c d.gguf@v1.0", "hf:a/b@refs/pr/3"] {
            assert_eq!(Reference::parse(text).unwrap().unwrap().to_string(), text);
        }
        let reference = Reference::parse("hf:a/b@main").unwrap().unwrap();
        assert_eq!((reference.to_string().as_str(), reference.file()), ("hf:a/b", None));
    }

    #[test]
    fn unsafe_names_are_refused() {
        for text in [
            "hf:",
            "hf:a",
            "hf:a/",
            "hf:/b",
            "hf:a/..",
            "hf:../b",
            "hf:a/b/",
            "hf:a/b/../c",
            "hf:a/b//c",
            "hf:a/b@",
            "hf:a/b@../c",
            "hf:a/b?x=1",
            "hf:a/b/c#d",
            "hf:a/b\\c",
            "hf:a/b/c%2e",
            "hf:a/b:c",
        ] {
            let refused = Reference::parse(text).unwrap();
            assert!(matches!(refused, Err(HubError::Reference { .. })), "{text}: {refused:?}");
        }
    }
}
