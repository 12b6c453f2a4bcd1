//! What was refused, whole.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sqlx::PgConnection;

use super::failure::WriteFailure;
use crate::batch::Refused;
use crate::consume::KafkaRecord;

/// Bytes of values in one statement; a batch full of megabyte records takes several.
const MAX_STATEMENT_BYTES: usize = 8 * 1024 * 1024;

/// Stores what was refused, whole; `incarnation` is of the record's partition.
///
/// # Errors
/// As [`WriteFailure`] says, but never for a record's sake: every column takes any bytes.
pub async fn insert(connection: &mut PgConnection, letters: &[(&Refused, i32)]) -> Result<(), WriteFailure> {
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
        insert_some(connection, now).await?;
        rest = later;
    }
    Ok(())
}

async fn insert_some(
    connection: &mut PgConnection,
    letters: &[([u8; 32], &Refused, i32)],
) -> Result<(), WriteFailure> {
    let records = || letters.iter().map(|(_, refused, _)| &refused.record);
    let rejections = || letters.iter().map(|(_, refused, _)| &refused.rejection);
    sqlx::query(include_str!("dead_letters.sql"))
        .bind(letters.iter().map(|(digest, _, _)| digest.to_vec()).collect::<Vec<_>>())
        .bind(records().map(|record| &*record.topic).collect::<Vec<_>>())
        .bind(records().map(|record| record.partition).collect::<Vec<_>>())
        .bind(letters.iter().map(|(_, _, incarnation)| *incarnation).collect::<Vec<_>>())
        .bind(records().map(|record| record.offset).collect::<Vec<_>>())
        .bind(records().map(|record| record.key.as_deref()).collect::<Vec<_>>())
        .bind(records().map(|record| record.value.as_deref()).collect::<Vec<_>>())
        .bind(records().map(headers).collect::<Vec<_>>())
        .bind(records().map(|record| record.timestamp.map(|timestamp| timestamp.at)).collect::<Vec<_>>())
        .bind(
            records()
                .map(|record| record.timestamp.map(|timestamp| timestamp.kind.as_str()))
                .collect::<Vec<_>>(),
        )
        .bind(rejections().map(|rejection| rejection.class().as_str()).collect::<Vec<_>>())
        .bind(rejections().map(|rejection| rejection.sentence()).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

/// `[["name", "value in base64" or null], …]` in the record's order. Where a name is no text that jsonb can hold, it is
/// there as far as it is, and its bytes in base64 are the third element.
fn headers(record: &KafkaRecord) -> String {
    let headers = record.headers.iter().map(|(name, value)| {
        let value = value.as_ref().map(|bytes| BASE64.encode(bytes));
        let text = String::from_utf8_lossy(name).replace('\0', "\u{fffd}");
        if text.as_bytes() == name {
            serde_json::json!([text, value])
        } else {
            serde_json::json!([text, value, BASE64.encode(name)])
        }
    });
    serde_json::Value::Array(headers.collect()).to_string()
}
