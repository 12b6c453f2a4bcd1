//! PostgreSQL's binary COPY format (documentation of COPY, "Binary Format"), for the columns of `analytics_events`.
//! The client library has no encoder for it.

use chrono::{DateTime, Utc};
use shared::analytics::{AnalyticsEvent, Payload};

/// The columns in the order in which [`CopyBuffer::push`] writes them; `ingested_at` takes its default, the start of the
/// transaction.
pub const COLUMNS: &str =
    "(id, event_type, source, occurred_at, tenant_id, payload, actor_id, payload_bytes)";

const COLUMN_COUNT: i16 = 8;
/// Signature, flags, length of the header extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
const JSONB_VERSION: u8 = 1;
/// 2000-01-01T00:00:00Z in microseconds of the Unix epoch.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Rows on their way, sent in pieces so that a dead socket shows early.
#[derive(Debug)]
pub struct CopyBuffer {
    bytes: Vec<u8>,
}

impl CopyBuffer {
    /// Bytes that make a piece.
    pub const PIECE: usize = 256 * 1024;

    /// Begins with the header.
    #[must_use]
    pub fn new() -> Self {
        let mut bytes = Vec::with_capacity(Self::PIECE + 64 * 1024);
        bytes.extend_from_slice(HEADER);
        Self { bytes }
    }

    /// Appends a row.
    pub fn push(&mut self, event: &AnalyticsEvent) {
        self.bytes.extend_from_slice(&COLUMN_COUNT.to_be_bytes());
        self.field(event.id().uuid().as_bytes());
        self.field(event.event_type().as_str().as_bytes());
        self.field(event.source().as_str().as_bytes());
        self.field(&micros(event.occurred_at()).to_be_bytes());
        self.optional(event.tenant().map(|tenant| tenant.as_str().as_bytes()));
        self.payload(event.payload());
        self.optional(event.actor().map(|actor| actor.as_str().as_bytes()));
        let written = event.payload().written_bytes().map(|bytes| i64::from(bytes).to_be_bytes());
        self.optional(written.as_ref().map(<[u8; 8]>::as_slice));
    }

    /// Ends the data.
    pub fn finish(&mut self) {
        self.bytes.extend_from_slice(&TRAILER);
    }

    /// Whether a piece is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= Self::PIECE
    }

    /// What is to be sent now.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// After sending.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    fn field(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    fn payload(&mut self, payload: &Payload) {
        let text = payload.as_str().as_bytes();
        self.length(text.len() + 1);
        self.bytes.push(JSONB_VERSION);
        self.bytes.extend_from_slice(text);
    }

    fn optional(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.field(bytes),
            None => self.bytes.extend_from_slice(&(-1_i32).to_be_bytes()),
        }
    }

    fn length(&mut self, length: usize) {
        self.bytes.extend_from_slice(&encoded(length));
    }
}

impl Default for CopyBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// Records are bounded far below 2 GiB; a longer one would be refused by PostgreSQL as malformed.
fn encoded(length: usize) -> [u8; 4] {
    i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes()
}

fn micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros() - POSTGRES_EPOCH_MICROS
}
