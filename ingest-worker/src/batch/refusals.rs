//! What is taken out of a batch: ids that another event stands for, and rows that PostgreSQL refuses.

use std::collections::HashMap;

use uuid::Uuid;

use super::{Batch, BatchEvent, Origin, Refused};
use crate::decode::Rejection;

impl Batch {
    /// Of several events with one id, the first by position that is written at all stands for it. `is_kept` tells which
    /// are: those of partitions that are ours, within retention. What is not kept once will not be kept later.
    pub fn settle(&mut self, is_kept: impl Fn(&BatchEvent) -> bool) {
        if self.repeats.is_empty() {
            return;
        }
        let left_out = self.events.iter().enumerate().filter(|(_, event)| !is_kept(event));
        let mut left_out: HashMap<Uuid, usize> = left_out.map(|(index, event)| (event.id(), index)).collect();
        for repeat in self.repeats.iter_mut().filter(|repeat| is_kept(repeat)) {
            let vacant = left_out.remove(&repeat.id()).and_then(|index| self.events.get_mut(index));
            if let Some(event) = vacant {
                std::mem::swap(event, repeat);
            }
        }
    }

    /// PostgreSQL refused the row of the event that stands for this id: it becomes a dead letter, and the next one with
    /// that id takes its place. A repeat that is the very same row is refused with it, as a producer's retries are.
    /// Returns the numbers of HTTP commands among them, which are left out; none if there is no such event.
    pub fn refuse(&mut self, id: Uuid, rejection: &Rejection) -> Option<Vec<usize>> {
        let index = self.events.iter().position(|candidate| candidate.id() == id)?;
        let refused = self.events.swap_remove(index);
        let alike = self.repeats.extract_if(.., |repeat| repeat.event == refused.event).collect::<Vec<_>>();
        self.succeed(id);
        let all = std::iter::once(refused).chain(alike);
        Some(all.filter_map(|event| self.set_aside(event, rejection)).collect())
    }

    /// PostgreSQL refused this series: what is counted by it becomes dead letters, also what would have been a duplicate.
    /// Returns the numbers of HTTP commands among them, which are left out.
    pub fn refuse_series(&mut self, series: usize, rejection: &Rejection) -> Vec<usize> {
        let is_of_it = |event: &mut BatchEvent| event.series == series;
        let mut refused: Vec<_> = self.repeats.extract_if(.., is_of_it).collect();
        let firsts: Vec<_> = self.events.extract_if(.., is_of_it).collect();
        firsts.iter().for_each(|first| self.succeed(first.id()));
        refused.extend(firsts);
        self.refused_series.push(series);
        refused.into_iter().filter_map(|event| self.set_aside(event, rejection)).collect()
    }

    /// Records that were refused before stay dead letters: those for which `stands` has the reason.
    pub fn keep_refused(&mut self, stands: impl Fn(&BatchEvent) -> Option<Rejection>) {
        let reasons = |events: &[BatchEvent]| events.iter().map(&stands).collect::<Vec<_>>();
        for firsts in [false, true] {
            let events = if firsts { &mut self.events } else { &mut self.repeats };
            let reasons = reasons(events);
            let mut reason = reasons.iter();
            let refused: Vec<_> =
                events.extract_if(.., |_| reason.next().is_some_and(Option::is_some)).collect();
            for (event, reason) in refused.into_iter().zip(reasons.into_iter().flatten()) {
                if firsts {
                    self.succeed(event.id());
                }
                self.set_aside(event, &reason);
            }
        }
    }

    /// The event that stood for this id is gone: the next with it takes its place.
    fn succeed(&mut self, id: Uuid) {
        match self.repeats.iter().position(|repeat| repeat.id() == id) {
            Some(next) => {
                let next = self.repeats.remove(next);
                self.events.push(next);
            }
            None => {
                self.ids.remove(&id);
            }
        }
    }

    fn set_aside(&mut self, event: BatchEvent, rejection: &Rejection) -> Option<usize> {
        let range = self.partitions.get_mut(event.partition);
        match event.origin {
            Origin::Record(record) => {
                if let Some(range) = range {
                    range.totals.dead_letters += 1;
                }
                let rejection = rejection.clone();
                self.refused.push(Refused { partition: event.partition, record, rejection });
                None
            }
            Origin::Command { number, .. } => {
                if let Some(range) = range {
                    range.next -= 1;
                }
                Some(number)
            }
        }
    }
}
