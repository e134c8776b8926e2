//! Reads files, of which one may be standard input: `-`.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::failure::Failure;
use crate::output::print_status;

/// Larger files are refused: `/dev/zero` would fill the memory.
const LARGEST: u64 = 1 << 30;

/// The name of standard input in messages.
pub(crate) const STANDARD_INPUT: &str = "standard input";

/// Who reads standard input.
static READER: Mutex<Option<String>> = Mutex::new(None);

/// Whether a path stands for standard input or output.
pub(crate) fn is_stdio(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The path as messages name it.
pub(crate) fn name(path: &Path) -> String {
    if is_stdio(path) { STANDARD_INPUT.to_owned() } else { path.display().to_string() }
}

/// Reserves standard input for `reader`, since it can be read only once.
pub(crate) fn take_standard_input(reader: &str) -> Result<(), Failure> {
    let mut taken = READER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(first) = &*taken {
        return Err(Failure::usage(format!(
            "{reader} reads standard input, but {first} has read it already; name a file for one of the two"
        )));
    }
    *taken = Some(reader.to_owned());
    Ok(())
}

/// The text of a file without a byte order mark. `-` is standard input, and `reader` is who reads it.
pub(crate) fn text(reader: &str, path: &Path) -> Result<String, Failure> {
    String::from_utf8(bytes(reader, path)?)
        .map_err(|error| Failure::usage(format!("{}: {}", name(path), error.utf8_error())))
}

/// The bytes of a text file in UTF-8, without a byte order mark. `-` is standard input, and `reader` is who reads it.
pub(crate) fn bytes(reader: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: io::Error| Failure::usage(format!("{}: {error}", name(path)));
    let mut bytes = Vec::new();
    if is_stdio(path) {
        take_standard_input(reader)?;
        if io::stdin().is_terminal() {
            print_status("reading from the terminal; press Ctrl-D to end the text");
        }
        io::stdin().take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        File::open(path).map_err(failed)?.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    }
    if bytes.len() as u64 > LARGEST {
        return Err(Failure::usage(format!("{} has more than {LARGEST} bytes; is it a text?", name(path))));
    }
    Ok(upcycle::utf8(bytes))
}
