//! Duplicates by an id from outside whose content is another than the first's: a producer that gives ids twice. They stay
//! duplicates; here they are counted apart and shown.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::outcome::is_kept;
use super::record_events::{REPLAY_GROUPS, Recorder};
use crate::batch::{Batch, BatchEvent, HTTP_TOPIC, Origin};
use crate::metrics;
use crate::telemetry::Throttle;
use crate::write::event_ids::{self, Claimant, Place};
use crate::write::offsets::Locked;

/// A producer that does so does it often.
static LINE: Throttle = Throttle::new(Duration::from_secs(10));

/// A duplicate whose content is not the first one's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The id that both have.
    pub id: Uuid,
    /// Where the duplicate lies.
    pub place: Place,
    /// Where the first one lies, if that is known.
    pub first: Option<Place>,
}

impl Recorder {
    /// Looks at what the batch brought again, after its commit. `new` are those of the `candidates` that were stored.
    /// Replays bring everything again and have been looked at before.
    pub(super) async fn find_conflicts(
        &mut self,
        batch: &Batch,
        locked: &Locked,
        candidates: &[&BatchEvent],
        new: &[&BatchEvent],
    ) -> Vec<Conflict> {
        // Both are in the order of the key.
        let mut new = new.iter().peekable();
        let known =
            candidates.iter().filter(|event| new.next_if(|new| std::ptr::eq(**new, **event)).is_none());
        let repeats = batch.repeats().iter().filter(|event| is_kept(event, locked));
        let duplicates: Vec<Claimant<'_>> = known
            .copied()
            .chain(repeats)
            .filter(|event| event.event.id().is_external())
            .map(|event| claimant(batch, event))
            .collect();
        if duplicates.is_empty() || self.group.starts_with(REPLAY_GROUPS) {
            return Vec::new();
        }
        match event_ids::differing(&mut self.connection, &duplicates).await {
            Ok(differing) => {
                let conflict = |(duplicate, first): (&Claimant<'_>, _)| Conflict {
                    id: duplicate.id(),
                    place: duplicate.place.clone(),
                    first,
                };
                differing.into_iter().map(conflict).collect()
            }
            // The batch is written. A lost connection shows at the next one.
            Err(failure) => {
                tracing::debug!(%failure, "duplicates were not compared");
                Vec::new()
            }
        }
    }
}

/// Counts and shows them.
pub(super) fn report(conflicts: &[Conflict]) {
    metrics::conflicting_duplicates(conflicts.len());
    let Some(Conflict { id, place, first }) = conflicts.first() else { return };
    if let Some(suppressed) = LINE.pass() {
        let first = first.as_ref().map_or_else(|| "a record that is not known".to_owned(), Place::to_string);
        tracing::warn!(
            event.id = %id,
            in_batch = conflicts.len(),
            suppressed,
            "{place} brings an id again, with other content than {first}; the first is kept"
        );
    }
}

/// An event with an id from outside, and where it lies.
pub(super) fn claimant<'b>(batch: &'b Batch, event: &'b BatchEvent) -> Claimant<'b> {
    let key = batch.partitions().get(event.partition).map(|range| &range.key);
    let (offset, request_hash) = match &event.origin {
        Origin::Record(record) => (Some(record.offset), None),
        Origin::Command { request_hash, .. } => (None, Some(request_hash)),
    };
    let place = Place {
        topic: key.map_or_else(|| Arc::from(HTTP_TOPIC), |key| Arc::clone(&key.topic)),
        partition: key.map_or(0, |key| key.partition),
        offset,
    };
    Claimant { event: &event.event, place, request_hash }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset {
            Some(offset) => write!(formatter, "{}/{} at {offset}", self.topic, self.partition),
            None => write!(formatter, "an HTTP command"),
        }
    }
}
