//! What was refused, whole.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection};

use super::failure::WriteFailure;
use crate::batch::{PartitionRange, Refused};
use crate::consume::KafkaRecord;

/// Bytes of values in one statement; a batch full of megabyte records takes several.
const MAX_STATEMENT_BYTES: usize = 8 * 1024 * 1024;

/// A dead letter of a record that came too early.
#[derive(Debug, sqlx::FromRow)]
pub struct Standing {
    /// Of its record.
    pub digest: Vec<u8>,
    /// Why it was refused.
    pub sentence: String,
    /// When.
    pub refused_at: DateTime<Utc>,
}

/// The dead letters among these ranges whose records may only have come too early.
///
/// # Errors
/// As [`WriteFailure`] says.
pub async fn standing(
    connection: &mut PgConnection,
    ranges: &[PartitionRange],
) -> Result<Vec<Standing>, WriteFailure> {
    Ok(sqlx::query_as(include_str!("dead_letters_standing.sql"))
        .bind(ranges.iter().map(|range| &*range.key.topic).collect::<Vec<_>>())
        .bind(ranges.iter().map(|range| range.key.partition).collect::<Vec<_>>())
        .bind(ranges.iter().map(|range| range.from).collect::<Vec<_>>())
        .bind(ranges.iter().map(|range| range.next).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?)
}

/// How much of a dead letter's text is kept. Key, value and position always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// All of it.
    Whole,
    /// What is not ASCII is replaced; names of headers are there in base64.
    Ascii,
    /// Neither sentence nor headers nor the record's timestamp.
    Bare,
}

/// Stores what was refused, whole; `incarnation` is of the record's partition. `plainly`: what PostgreSQL does not take so
/// is stored with less of its text.
///
/// # Errors
/// `RefusedLetter` if not `plainly`; `Unavailable` for one that is refused in every form, so that it waits for whoever can
/// mend that rather than be lost; else as [`WriteFailure`] says.
pub async fn insert(
    connection: &mut PgConnection,
    letters: &[(&Refused, i32)],
    plainly: bool,
) -> Result<(), WriteFailure> {
    let mut letters: Vec<_> = letters
        .iter()
        .map(|(refused, incarnation)| (refused.record.digest(), *refused, *incarnation))
        .collect();
    // One order for all lanes, and a record that came twice in one batch must not meet itself.
    letters.sort_unstable_by_key(|(digest, _, _)| *digest);
    letters.dedup_by_key(|(digest, _, _)| *digest);
    let mut rest = letters.as_slice();
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest.iter().take_while(|(_, refused, _)| {
            bytes += refused.record.bytes();
            bytes <= MAX_STATEMENT_BYTES
        });
        let (now, later) = rest.split_at(fitting.count().max(1));
        if plainly {
            insert_plainly(connection, now).await?;
        } else {
            let stored = insert_some(connection, now, Form::Whole).await;
            stored.map_err(|failure| match failure {
                WriteFailure::Refused { message, .. } => WriteFailure::RefusedLetter(message),
                other => other,
            })?;
        }
        rest = later;
    }
    Ok(())
}

/// Finds those that PostgreSQL does not take as they are, by halves, and takes text away from them.
async fn insert_plainly(connection: &mut PgConnection, letters: &[Letter<'_>]) -> Result<(), WriteFailure> {
    let mut parts = vec![(letters, Form::Whole)];
    while let Some((part, form)) = parts.pop() {
        let mut attempt = connection.begin().await?; // A savepoint.
        match (insert_some(&mut attempt, part, form).await, part.split_at(part.len() / 2), form) {
            (Ok(()), _, _) => {
                attempt.commit().await?;
                continue;
            }
            (Err(WriteFailure::Refused { .. }), (left @ [_, ..], right), _) => {
                parts.extend([(right, form), (left, form)]);
            }
            (Err(WriteFailure::Refused { .. }), ([], one), Form::Whole) => parts.push((one, Form::Ascii)),
            (Err(WriteFailure::Refused { .. }), ([], one), Form::Ascii) => parts.push((one, Form::Bare)),
            (Err(WriteFailure::Refused { message, .. }), _, Form::Bare) => {
                let sentence = format!("it refuses a dead letter even without its text: {message}");
                return Err(WriteFailure::Unavailable(sentence));
            }
            (Err(failure), _, _) => return Err(failure),
        }
        attempt.rollback().await?;
    }
    Ok(())
}

/// The digest, the record, its partition's incarnation.
type Letter<'l> = ([u8; 32], &'l Refused, i32);

async fn insert_some(
    connection: &mut PgConnection,
    letters: &[Letter<'_>],
    form: Form,
) -> Result<(), WriteFailure> {
    let records = || letters.iter().map(|(_, refused, _)| &refused.record);
    let rejections = || letters.iter().map(|(_, refused, _)| &refused.rejection);
    let timestamps = || records().map(|record| record.timestamp.filter(|_| form != Form::Bare));
    sqlx::query(include_str!("dead_letters.sql"))
        .bind(letters.iter().map(|(digest, _, _)| digest.to_vec()).collect::<Vec<_>>())
        .bind(records().map(|record| &*record.topic).collect::<Vec<_>>())
        .bind(records().map(|record| record.partition).collect::<Vec<_>>())
        .bind(letters.iter().map(|(_, _, incarnation)| *incarnation).collect::<Vec<_>>())
        .bind(records().map(|record| record.offset).collect::<Vec<_>>())
        .bind(records().map(|record| record.key.as_deref()).collect::<Vec<_>>())
        .bind(records().map(|record| record.value.as_deref()).collect::<Vec<_>>())
        .bind(records().map(|record| headers(record, form)).collect::<Vec<_>>())
        .bind(timestamps().map(|timestamp| timestamp.map(|timestamp| timestamp.at)).collect::<Vec<_>>())
        .bind(
            timestamps()
                .map(|timestamp| timestamp.map(|timestamp| timestamp.kind.as_str()))
                .collect::<Vec<_>>(),
        )
        .bind(rejections().map(|rejection| rejection.class().as_str()).collect::<Vec<_>>())
        .bind(rejections().map(|rejection| form.cut(rejection.sentence())).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map_err(WriteFailure::of_rows)?;
    Ok(())
}

impl Form {
    /// As much of a text as this form has room for.
    fn cut(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Whole => Cow::Borrowed(text),
            Self::Ascii => Cow::Owned(text.replace(|character: char| !character.is_ascii(), "?")),
            Self::Bare => Cow::Borrowed("-"),
        }
    }
}

/// `[["name", "value in base64" or null], …]` in the record's order. Where a name is no text that jsonb can hold, it is
/// there as far as it is, and its bytes in base64 are the third element.
fn headers(record: &KafkaRecord, form: Form) -> String {
    let kept = if form == Form::Bare { &[] } else { record.headers.as_slice() };
    let headers = kept.iter().map(|(name, value)| {
        let value = value.as_ref().map(|bytes| BASE64.encode(bytes));
        let text = String::from_utf8_lossy(name).replace('\0', "\u{fffd}");
        let text = form.cut(&text);
        if text.as_bytes() == name {
            serde_json::json!([text, value])
        } else {
            serde_json::json!([text, value, BASE64.encode(name)])
        }
    });
    serde_json::Value::Array(headers.collect()).to_string()
}
