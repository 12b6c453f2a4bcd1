use super::{Claim, LastRecord};
use crate::consume::KafkaRecord;

/// Where a partition's records have come to, under one claim and one uninterrupted fetch.
#[derive(Debug, Clone)]
pub struct Cursor {
    claim: Claim,
    next: i64,
    verify: Option<LastRecord>,
}

/// What to do with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is the next one; before it may lie a hole that begins at `gap`.
    Take {
        /// First offset of the hole.
        gap: Option<i64>,
    },
    /// It is the last stored record, read again to be compared, or it was fetched under another claim.
    Discard,
    /// Another record lies where the last stored one was: the topic was recreated.
    Recreated,
}

impl Cursor {
    /// Starts at the claim: its last record is to be compared, if there is one.
    #[must_use]
    pub fn new(claim: Claim) -> Self {
        Self { next: claim.next_offset, verify: claim.last, claim }
    }

    /// The claim under which it runs.
    #[must_use]
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Looks at the next record of this partition and moves on.
    pub fn step(&mut self, record: &KafkaRecord) -> Step {
        if record.epoch != self.claim.epoch {
            return Step::Discard;
        }
        if record.offset < self.next {
            return match self.verify.take() {
                Some(last) if last.offset == record.offset && last.fingerprint == record.fingerprint() => {
                    Step::Discard
                }
                // What lies between the last record and the next offset was a gap: no record can be there.
                Some(last) => {
                    self.verify = Some(last);
                    Step::Recreated
                }
                None => Step::Discard,
            };
        }
        // The last record itself was compacted away or has expired: nothing contradicts us.
        self.verify = None;
        let gap = (record.offset > self.next).then_some(self.next);
        self.next = record.offset + 1;
        Step::Take { gap }
    }

    /// The client has passed everything before `position`. Returns where the hole before it begins, if there is one.
    pub fn reach(&mut self, epoch: i64, position: i64) -> Option<i64> {
        if epoch != self.claim.epoch || position <= self.next {
            return None;
        }
        let from = self.next;
        self.next = position;
        Some(from)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn record(offset: i64, epoch: i64, value: &str) -> KafkaRecord {
        KafkaRecord {
            topic: Arc::from("t"),
            partition: 0,
            offset,
            timestamp: None,
            key: None,
            value: Some(value.as_bytes().to_vec()),
            headers: Vec::new(),
            epoch,
        }
    }

    fn cursor(next_offset: i64, last: Option<&KafkaRecord>) -> Cursor {
        let last = last.map(|record| LastRecord {
            offset: record.offset,
            fingerprint: record.fingerprint(),
            timestamp: None,
        });
        Cursor::new(Claim { epoch: 7, incarnation: 1, next_offset, last })
    }

    #[test]
    fn the_last_stored_record_is_compared_and_discarded() {
        let last = record(4, 7, "a");
        let mut cursor = cursor(5, Some(&last));
        assert_eq!(cursor.step(&last), Step::Discard);
        assert_eq!(cursor.step(&record(5, 7, "b")), Step::Take { gap: None });
        assert_eq!(cursor.step(&record(8, 7, "c")), Step::Take { gap: Some(6) });
    }

    #[test]
    fn another_record_in_its_place_is_another_topic() {
        let mut cursor = cursor(5, Some(&record(4, 7, "a")));
        assert_eq!(cursor.step(&record(4, 7, "z")), Step::Recreated);
        assert_eq!(cursor.step(&record(4, 7, "z")), Step::Recreated);
    }

    #[test]
    fn nothing_in_its_place_is_no_reason_to_stop() {
        let mut cursor = cursor(5, Some(&record(4, 7, "a")));
        assert_eq!(cursor.step(&record(6, 7, "b")), Step::Take { gap: Some(5) });
    }

    #[test]
    fn records_of_another_claim_are_discarded_and_leave_no_gap() {
        let mut cursor = cursor(5, None);
        assert_eq!(cursor.step(&record(9, 6, "old")), Step::Discard);
        assert_eq!(cursor.step(&record(5, 7, "new")), Step::Take { gap: None });
    }

    #[test]
    fn the_end_beyond_the_last_record_is_a_gap_once() {
        let mut cursor = cursor(5, None);
        assert_eq!(cursor.reach(7, 5), None);
        assert_eq!(cursor.reach(6, 9), None);
        assert_eq!(cursor.reach(7, 7), Some(5));
        assert_eq!(cursor.reach(7, 7), None);
    }
}
