use super::Claim;
use crate::consume::KafkaRecord;

/// Where a partition's records have come to, under one claim and one uninterrupted fetch.
#[derive(Debug, Clone)]
pub struct Cursor {
    claim: Claim,
    next: i64,
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
    /// Another record lies where the last stored one was, or where there was none: the topic was recreated or truncated.
    Recreated,
}

impl Cursor {
    /// Starts at the claim.
    #[must_use]
    pub fn new(claim: Claim) -> Self {
        Self { next: claim.next_offset, claim }
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
            return self.compare(record);
        }
        let gap = (record.offset > self.next).then_some(self.next);
        self.next = record.offset + 1;
        Step::Take { gap }
    }

    /// A record before the next offset: it must be the last stored one, after which, up to there, was nothing.
    fn compare(&self, record: &KafkaRecord) -> Step {
        let Claim { start_offset, next_offset, last, .. } = self.claim;
        let was_hole = last.map_or(start_offset, |last| last.offset + 1)..next_offset;
        let is_another =
            last.is_some_and(|last| record.offset == last.offset && record.fingerprint() != last.fingerprint);
        if was_hole.contains(&record.offset) || is_another { Step::Recreated } else { Step::Discard }
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
    use crate::batch::LastRecord;

    fn record(offset: i64, epoch: i64, value: &str) -> KafkaRecord {
        KafkaRecord {
            topic: Arc::from("t"),
            partition: 0,
            offset,
            timestamp: None,
            key: None,
            value: Some(value.as_bytes().to_vec().into()),
            headers: Vec::new(),
            epoch,
        }
    }

    fn cursor(next_offset: i64, last: Option<&KafkaRecord>) -> Cursor {
        let last = last.map(LastRecord::of);
        Cursor::new(Claim { epoch: 7, incarnation: 1, start_offset: 0, next_offset, last })
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
    fn a_record_where_there_was_none_is_another_topic() {
        let last = record(4, 7, "a");
        let mut after_one = cursor(7, Some(&last));
        assert_eq!(after_one.step(&last), Step::Discard);
        assert_eq!(after_one.step(&record(5, 7, "z")), Step::Recreated);
        assert_eq!(cursor(7, None).step(&record(0, 7, "z")), Step::Recreated);
    }

    #[test]
    fn nothing_in_its_place_is_no_reason_to_stop() {
        let mut cursor = cursor(5, Some(&record(4, 7, "a")));
        assert_eq!(cursor.step(&record(6, 7, "b")), Step::Take { gap: Some(5) });
    }

    #[test]
    fn records_of_another_claim_are_discarded_and_leave_no_gap() {
        let mut cursor = cursor(5, Some(&record(4, 6, "a")));
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
