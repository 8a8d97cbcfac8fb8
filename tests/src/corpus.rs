//! JSON texts and what RFC 8259 says of them.

use std::fs;
use std::path::Path;

/// One text of a conformance corpus.
#[derive(Clone, Debug)]
pub struct Text {
    /// Its name; `y_` must be accepted, `n_` refused, `i_` is left open.
    pub name: String,
    /// What it consists of.
    pub bytes: Vec<u8>,
}

/// The texts in a folder, by name.
///
/// # Panics
/// When the folder cannot be read.
#[must_use]
pub fn texts(folder: &Path) -> Vec<Text> {
    let entries = fs::read_dir(folder).expect("the corpus can be read");
    let mut texts: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("the corpus can be read");
            let name = entry.file_name().to_string_lossy().into_owned();
            Text { name, bytes: fs::read(entry.path()).expect("the corpus can be read") }
        })
        .collect();
    texts.sort_by(|a, b| a.name.cmp(&b.name));
    texts
}

/// Frames with a length of four bytes before them, the most significant first.
///
/// # Panics
/// When a text is longer than such a length can say.
#[must_use]
pub fn frames<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in texts {
        let length = u32::try_from(text.len()).expect("texts are short");
        bytes.extend(length.to_be_bytes());
        bytes.extend(text);
    }
    bytes
}
