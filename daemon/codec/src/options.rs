//! What a source or sink says about its bytes, as plain values.

use ringmain_base::limits::{FRAME_BYTES_DEFAULT, FRAME_BYTES_LIMIT};

/// Bounds of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest frame, without its line end or length prefix.
    pub frame_bytes: u32,
}

impl Limits {
    /// The bound that holds: no configuration may exceed
    /// [`FRAME_BYTES_LIMIT`].
    pub(crate) fn frame_bytes(self) -> usize {
        self.frame_bytes.min(FRAME_BYTES_LIMIT) as usize
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { frame_bytes: FRAME_BYTES_DEFAULT }
    }
}

/// How frames are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// A frame ends with a line feed; a carriage return before it belongs to
    /// the line end. Lines of white space only are skipped.
    #[default]
    Newline,
    /// A big-endian 32-bit length stands before each frame; frames of length
    /// zero are skipped.
    U32Be,
    /// A little-endian 32-bit length stands before each frame; frames of
    /// length zero are skipped.
    U32Le,
    /// A chunk is a frame: datagrams. Empty chunks are skipped.
    Whole,
}

/// What the bytes of a frame are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DecodeOptions {
    /// A JSON text. Its members become fields; what is not an object becomes
    /// the field `value` of a row with the flag `BARE`.
    #[default]
    Json,
    /// UTF-8, the field `message`.
    Text,
    /// Anything, the field `message`.
    Bytes,
    /// A CSV record.
    Csv(CsvOptions),
}

/// What a CSV record looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvOptions {
    /// The first record of every stream holds names: they name the fields, or
    /// are skipped when `columns` does.
    pub header: bool,
    /// Names of the fields; empty when the header names them.
    pub columns: Vec<String>,
    /// The byte between fields.
    pub delimiter: u8,
    /// The byte around fields that hold delimiters, quotes or line ends.
    pub quote: u8,
    /// What becomes of values.
    pub types: CsvTypes,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            header: true,
            columns: Vec::new(),
            delimiter: b',',
            quote: b'"',
            types: CsvTypes::Auto,
        }
    }
}

/// What becomes of the values of CSV fields. Empty fields are absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CsvTypes {
    /// Integers and decimals as JSON writes them become numbers (`7`, `-1.50`);
    /// what has another zero in front, a sign or an exponent may be a code and
    /// is text (`07`, `+1`, `1e3`).
    #[default]
    Auto,
    /// Everything is text.
    Text,
}

/// What a sink writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EncodeOptions {
    /// One JSON object per message, compact, fields in the order of their
    /// slots.
    #[default]
    Json,
    /// The field `message` as it is, line feeds in it included.
    Text,
    /// One CSV record per message.
    Csv(CsvEncodeOptions),
}

/// How CSV is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvEncodeOptions {
    /// Fields, in order.
    pub columns: Vec<String>,
    /// The byte between fields.
    pub delimiter: u8,
}
