//! A page of events as JSON, made piece by piece: payloads that did not come with their events are read when their turn
//! comes.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::events::EventDto;
use super::long_answers::{IN_ONE_PIECE, LongAnswers, PIECE, Piece, Source};
use crate::projections::events::{EventRow, StoredPayload};
use crate::projections::failure::QueryFailure;
use crate::projections::payloads::Wanted;
use crate::queries::recent_events::{RecentEventsHandler, wanted};

/// What an event takes beside its payload: about, for the budget.
const ENVELOPE: u64 = 512;
/// Payloads that are read by one statement.
const AT_A_TIME: usize = 64;

/// `{"items":[…],"count":n}`
pub struct Page {
    rows: VecDeque<EventRow>,
    handler: Arc<RecentEventsHandler>,
    answers: Arc<LongAnswers>,
    count: usize,
    begun: bool,
    done: bool,
}

impl Page {
    /// Of these events, in their order.
    #[must_use]
    pub fn new(rows: Vec<EventRow>, handler: Arc<RecentEventsHandler>, answers: Arc<LongAnswers>) -> Self {
        Self { rows: rows.into(), handler, answers, count: 0, begun: false, done: false }
    }

    fn longest(&self) -> u64 {
        self.answers.config.payload_max_bytes
    }

    /// Bytes of the payload's text, at most; a marker's if it is too long.
    fn length(&self, row: &EventRow) -> u64 {
        match &row.payload {
            StoredPayload::Text(text) => text.len() as u64,
            StoredPayload::Long(bytes) if *bytes > self.longest() => 0,
            StoredPayload::Long(bytes) => *bytes,
            StoredPayload::Unknown => self.longest(),
        }
    }

    fn is_to_be_read(&self, row: &EventRow) -> bool {
        match row.payload {
            StoredPayload::Text(_) => false,
            StoredPayload::Long(bytes) => bytes <= self.longest(),
            StoredPayload::Unknown => true,
        }
    }

    /// How many of the next events make a piece, one at least, what they take, and what of that is to be read.
    fn plan(&self) -> (usize, u64, u64) {
        let (mut events, mut bytes, mut to_read, mut payloads) = (0, 0, 0, 0);
        for row in &self.rows {
            let length = self.length(row);
            payloads += usize::from(self.is_to_be_read(row));
            if events > 0 && (bytes + length > PIECE as u64 || payloads > AT_A_TIME) {
                break;
            }
            events += 1;
            bytes += length + ENVELOPE;
            to_read += if self.is_to_be_read(row) { length } else { 0 };
        }
        (events, bytes, to_read)
    }

    /// Reads the payloads of the next events that did not come with them.
    async fn read(&mut self, events: usize) -> Result<(), QueryFailure> {
        let to_read = |row: &&EventRow| self.is_to_be_read(row);
        let keys: Vec<Wanted> =
            self.rows.iter().take(events).filter(to_read).map(|row| wanted(row, self.length(row))).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let mut payloads = self.handler.payloads(&keys).await?.into_iter().zip(&keys).peekable();
        for mut row in mem::take(&mut self.rows) {
            let found = payloads.next_if(|(_, key)| (key.occurred_at, key.id) == (row.occurred_at, row.id));
            match found {
                // Retention has taken the event meanwhile.
                Some((None, _)) => continue,
                Some((Some(payload), _)) => row.payload = payload,
                None => {}
            }
            self.rows.push_back(row);
        }
        Ok(())
    }

    /// Writes at most so many of the next events, up to the first whose payload is still to be read.
    fn write(&mut self, events: usize, json: &mut Vec<u8>) {
        for _ in 0..events {
            if self.rows.front().is_none_or(|row| self.is_to_be_read(row)) {
                return;
            }
            let Some(mut row) = self.rows.pop_front() else { return };
            let payload = match mem::replace(&mut row.payload, StoredPayload::Unknown) {
                StoredPayload::Text(text) => text,
                StoredPayload::Long(bytes) => self.marker(&row, bytes),
                StoredPayload::Unknown => return, // Never: it is to be read.
            };
            if self.count > 0 {
                json.push(b',');
            }
            EventDto::write(row, &payload, json);
            self.count += 1;
        }
    }

    fn marker(&self, row: &EventRow, bytes: u64) -> String {
        let (id, longest) = (row.id, self.longest());
        // Written as it is documented: `json!` orders members by their names.
        let about = format!(r#""bytes":{bytes},"maxBytes":{longest}"#);
        format!(r#"{{"$omitted":{{"reason":"payload_too_large","id":{},{about}}}}}"#, json!(id))
    }
}

impl Source for Page {
    async fn next(&mut self, patience: Duration) -> Result<Option<Piece>, QueryFailure> {
        if self.done {
            return Ok(None);
        }
        let (mut json, mut held) = (Vec::new(), None);
        if !self.begun {
            json.extend_from_slice(br#"{"items":["#);
            self.begun = true;
        }
        let start = json.len();
        // Until something was written: a payload may turn out to be longer than it was thought to be.
        while !self.rows.is_empty() && json.len() == start {
            let (events, bytes, to_read) = self.plan();
            drop(held.take());
            // What is read is there three times: as it came, as a text, and in its place in the answer. The usual page is no
            // more than what any request takes.
            let memory = bytes + 2 * to_read;
            if memory > IN_ONE_PIECE as u64 {
                held = Some(self.answers.budget.hold(memory, patience).await?);
            }
            self.read(events).await?;
            json.reserve(usize::try_from(bytes).unwrap_or(0));
            self.write(events, &mut json);
        }
        if self.rows.is_empty() {
            json.extend_from_slice(format!(r#"],"count":{}}}"#, self.count).as_bytes());
            self.done = true;
        }
        let held = held.map(|held| held.shrunk_to(json.capacity() as u64));
        Ok(Some(Piece { bytes: json, held }))
    }

    fn is_done(&self) -> bool {
        self.done
    }
}
