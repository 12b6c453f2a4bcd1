use shared::analytics::InvalidEvent;

/// Longest sentence, in characters.
const MAX_SENTENCE: usize = 300;

/// Why a record can never become an event: a class for counting, a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Rejection {
    class: RejectionClass,
    sentence: String,
}

impl Rejection {
    /// The sentence is made fit for a PostgreSQL text column and for one line of a log: no control character, at most
    /// 300 characters.
    pub fn new(class: RejectionClass, sentence: impl Into<String>) -> Self {
        let mut sentence: String = sentence.into();
        if sentence.contains(char::is_control) {
            sentence = sentence.replace(char::is_control, " ");
        }
        if let Some((end, _)) = sentence.char_indices().nth(MAX_SENTENCE) {
            // Room for the dots that say so.
            let end = sentence.char_indices().nth(MAX_SENTENCE - 3).map_or(end, |(end, _)| end);
            sentence.truncate(end);
            sentence.push_str("...");
        }
        Self { class, sentence }
    }

    /// PostgreSQL refused the row for a reason that `decode` does not know.
    #[must_use]
    pub fn by_database(message: &str) -> Self {
        Self::new(RejectionClass::RefusedByDatabase, format!("PostgreSQL refused the row: {message}"))
    }

    /// For counting.
    #[must_use]
    pub fn class(&self) -> RejectionClass {
        self.class
    }

    /// For people: what came and what was expected.
    #[must_use]
    pub fn sentence(&self) -> &str {
        &self.sentence
    }
}

impl From<InvalidEvent> for Rejection {
    fn from(invalid: InvalidEvent) -> Self {
        Self::new(RejectionClass::of(&invalid), invalid.to_string())
    }
}

/// The classes of dead letters: a closed list, so it is fit for a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectionClass {
    /// The value has more bytes than allowed.
    TooLarge,
    /// The value is not UTF-8.
    NotUtf8,
    /// The value begins with a UTF-8 byte order mark.
    ByteOrderMark,
    /// The value has no bytes, or nothing but space.
    Empty,
    /// The value is not JSON.
    NotJson,
    /// The value is JSON, but not an object.
    NotAnObject,
    /// Objects and arrays are nested deeper than allowed.
    TooDeep,
    /// A string or a name contains U+0000.
    NulCharacter,
    /// A string or a name contains half of a UTF-16 surrogate pair.
    LoneSurrogate,
    /// A number has more digits than PostgreSQL's `numeric`.
    NumberOutOfRange,
    /// The payload's text has more bytes than allowed when PostgreSQL writes its numbers out.
    PayloadTooLarge,
    /// The object is neither a canonical event nor what a known upstream sends.
    UnrecognizedShape,
    /// The shape is known, but something without which there is no event is missing or null.
    MissingField,
    /// A field has another type, length or form than allowed.
    InvalidField,
    /// The event's time cannot be read or is no time of the calendar.
    InvalidTime,
    /// The event's time lies outside the configured limits.
    TimeOutOfRange,
    /// PostgreSQL refused the row.
    RefusedByDatabase,
}

impl RejectionClass {
    /// Every class.
    pub const ALL: &[Self] = &[
        Self::TooLarge,
        Self::NotUtf8,
        Self::ByteOrderMark,
        Self::Empty,
        Self::NotJson,
        Self::NotAnObject,
        Self::TooDeep,
        Self::NulCharacter,
        Self::LoneSurrogate,
        Self::NumberOutOfRange,
        Self::PayloadTooLarge,
        Self::UnrecognizedShape,
        Self::MissingField,
        Self::InvalidField,
        Self::InvalidTime,
        Self::TimeOutOfRange,
        Self::RefusedByDatabase,
    ];

    /// As `dead_letters.class` and the metrics have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::NotUtf8 => "not_utf8",
            Self::ByteOrderMark => "byte_order_mark",
            Self::Empty => "empty",
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::TooDeep => "too_deep",
            Self::NulCharacter => "nul_character",
            Self::LoneSurrogate => "lone_surrogate",
            Self::NumberOutOfRange => "number_out_of_range",
            Self::PayloadTooLarge => "payload_too_large",
            Self::UnrecognizedShape => "unrecognized_shape",
            Self::MissingField => "missing_field",
            Self::InvalidField => "invalid_field",
            Self::InvalidTime => "invalid_time",
            Self::TimeOutOfRange => "time_out_of_range",
            Self::RefusedByDatabase => "refused_by_database",
        }
    }

    /// What it means, in one sentence.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::TooLarge => "the value has more bytes than allowed",
            Self::NotUtf8 => "the value is not UTF-8",
            Self::ByteOrderMark => "the value begins with a UTF-8 byte order mark, which is not JSON",
            Self::Empty => "the value has no bytes, or nothing but space",
            Self::NotJson => "the value is not JSON",
            Self::NotAnObject => "the value is JSON, but an array, a string, a number, a boolean or null",
            Self::TooDeep => "objects and arrays are nested deeper than allowed",
            Self::NulCharacter => "a string or a name contains U+0000, which PostgreSQL cannot store",
            Self::LoneSurrogate => "a string or a name contains half of a UTF-16 surrogate pair",
            Self::NumberOutOfRange => "a number has more digits than PostgreSQL's numeric can hold",
            Self::PayloadTooLarge => {
                "the payload has more bytes than allowed when its numbers are written out in full"
            }
            Self::UnrecognizedShape => {
                "the object is neither a canonical event nor what a known upstream sends"
            }
            Self::MissingField => {
                "the time, the key or another field without which there is no event is missing or null"
            }
            Self::InvalidField => "a field has another type, length or form than allowed",
            Self::InvalidTime => "the event's time cannot be read or is no time of the calendar",
            Self::TimeOutOfRange => "the event's time lies too far in the past or in the future",
            Self::RefusedByDatabase => {
                "PostgreSQL refused the row for a reason that the worker does not check"
            }
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::TooLarge => "send less, or raise the limit on the record's size",
            Self::NotUtf8 => "encode the value as UTF-8",
            Self::ByteOrderMark => "write the value without a byte order mark",
            Self::Empty => "send a JSON object; for a tombstone send a null value",
            Self::NotJson => "use a JSON serializer; the sentence names the line and column",
            Self::NotAnObject => "send one JSON object per record",
            Self::TooDeep => "send a flatter object, or raise the limit on nesting",
            Self::NulCharacter => "remove U+0000 before sending; text with such bytes can travel in Base64",
            Self::LoneSurrogate => "do not cut strings in the middle of a character",
            Self::NumberOutOfRange => "send the number as a string",
            Self::PayloadTooLarge => {
                "send numbers such as 1e131071 as strings, or raise ANALYTICS_PAYLOAD_MAX_BYTES"
            }
            Self::UnrecognizedShape => {
                "send a canonical event (eventType, source, payload), or have a rule added for this shape"
            }
            Self::MissingField => "send the field that the sentence names",
            Self::InvalidField => "send the field as the sentence says",
            Self::InvalidTime => {
                "send RFC 3339 (2025-11-16T18:14:00Z), epoch seconds or milliseconds, or an array of 3 to 7 integers"
            }
            Self::TimeOutOfRange => {
                "correct the producer's clock, or widen ANALYTICS_EVENT_TIME_MIN and ANALYTICS_EVENT_TIME_MAX_AHEAD"
            }
            Self::RefusedByDatabase => {
                "read the sentence: it is PostgreSQL's own; then report it, for the worker should have known"
            }
        }
    }

    pub(crate) fn of(invalid: &InvalidEvent) -> Self {
        match invalid {
            InvalidEvent::Length { .. }
            | InvalidEvent::UnsetId { .. }
            | InvalidEvent::PayloadNotObject { .. } => Self::InvalidField,
            InvalidEvent::NulCharacter { .. } => Self::NulCharacter,
            InvalidEvent::PayloadDepth { .. } => Self::TooDeep,
            InvalidEvent::LoneSurrogate { .. } => Self::LoneSurrogate,
            InvalidEvent::NumberRange { .. } => Self::NumberOutOfRange,
            InvalidEvent::PayloadBytes { .. } => Self::PayloadTooLarge,
        }
    }
}
