/// Why a value type refused what it was given. The sentence names the field, what came and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// A text is too short or too long, in characters.
    #[error("{field} has {length} characters, allowed are {min} to {max}")]
    Length {
        /// The field's name on the wire.
        field: &'static str,
        /// Characters found.
        length: usize,
        /// Fewest allowed.
        min: usize,
        /// Most allowed.
        max: usize,
    },
    /// PostgreSQL's text cannot hold U+0000.
    #[error("{field} contains the character U+0000, which PostgreSQL cannot store")]
    NulCharacter {
        /// The field's name on the wire, or `payload`.
        field: &'static str,
    },
    /// An id is what a field holds that nobody set.
    #[error("id is {found}, which identifies nothing")]
    UnsetId {
        /// Which.
        found: &'static str,
    },
    /// A payload is an array, a string, a number, a boolean or null.
    #[error("payload is {found}, not a JSON object")]
    PayloadNotObject {
        /// What it is.
        found: &'static str,
    },
    /// Objects and arrays within each other.
    #[error("payload is nested more than {max} levels deep")]
    PayloadDepth {
        /// Most allowed.
        max: u16,
    },
    /// `\ud800` to `\udfff` that do not come as a pair.
    #[error("payload contains half of a UTF-16 surrogate pair ({escape})")]
    LoneSurrogate {
        /// As it stands in the text.
        escape: String,
    },
    /// A number beyond PostgreSQL's `numeric`: 131072 digits before and 16383 after the decimal point.
    #[error("payload contains a number beyond PostgreSQL's numeric range ({number})")]
    NumberRange {
        /// As it stands in the text, shortened.
        number: String,
    },
    /// Its text would be too long.
    #[error("payload takes {bytes} bytes when PostgreSQL writes it out, allowed are {max}")]
    PayloadBytes {
        /// All numbers written out in full.
        bytes: u64,
        /// Most allowed.
        max: u32,
    },
}
