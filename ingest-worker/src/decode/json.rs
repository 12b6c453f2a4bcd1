use serde_json::value::RawValue;
use shared::json::{Members, kind};

use super::{Rejection, RejectionClass};

/// Reads bytes that must be one JSON object; `subject` is what the sentences call them.
///
/// # Errors
/// Too long, not UTF-8, a byte order mark, nothing, not JSON, or JSON but no object.
pub fn read<'r>(bytes: &'r [u8], subject: &str, max_bytes: usize) -> Result<Members<'r>, Rejection> {
    let text = unicode(bytes, subject, max_bytes)?;
    Members::of(text).map_err(|error| no_object(text, subject, &error))
}

fn no_object(text: &str, subject: &str, error: &serde_json::Error) -> Rejection {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(value) if !value.get().starts_with('{') => {
            let sentence = format!("{subject} is {}, not a JSON object", kind(value.get()));
            Rejection::new(RejectionClass::NotAnObject, sentence)
        }
        read => {
            // What is wrong with the text itself, rather than with reading it as an object.
            let error = read.as_ref().err().unwrap_or(error);
            Rejection::new(RejectionClass::NotJson, format!("{subject} is not JSON: {error}"))
        }
    }
}

/// The id that the serializers of a schema registry put before JSON, Avro or Protobuf, behind a byte 0.
fn schema_id(bytes: &[u8]) -> Option<u32> {
    let ([0, id @ ..], [_, ..]) = bytes.split_first_chunk::<5>()? else { return None };
    Some(u32::from_be_bytes(*id))
}

fn unicode<'r>(bytes: &'r [u8], subject: &str, max_bytes: usize) -> Result<&'r str, Rejection> {
    let refuse = |class, what: String| Err(Rejection::new(class, format!("{subject} {what}")));
    if bytes.len() > max_bytes {
        let what = format!("has {} bytes, allowed are at most {max_bytes}", bytes.len());
        return refuse(RejectionClass::TooLarge, what);
    }
    if let Some(id) = schema_id(bytes) {
        let what = format!(
            "is not JSON: it begins with the five bytes of a schema registry, 0 and the schema's id {id}, expected `{{`"
        );
        return refuse(RejectionClass::NotJson, what);
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return refuse(RejectionClass::ByteOrderMark, "begins with a byte order mark, expected `{`".into());
    }
    match std::str::from_utf8(bytes) {
        Err(error) => {
            let what =
                format!("is not UTF-8: wrong byte at position {}, counted from 0", error.valid_up_to());
            refuse(RejectionClass::NotUtf8, what)
        }
        Ok(text) if text.trim_ascii().is_empty() => {
            refuse(RejectionClass::Empty, "is empty, expected a JSON object".into())
        }
        Ok(text) => Ok(text),
    }
}
