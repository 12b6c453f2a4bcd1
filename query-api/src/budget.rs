//! Memory for long answers, of all requests together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::metrics;
use crate::projections::failure::QueryFailure;

/// What a permit stands for.
const UNIT: u64 = 1 << 10;
/// By so much a [`Growing`] grows.
const STEP: u64 = 1 << 20;
/// How long it waits when there is nothing left.
const PATIENCE: Duration = Duration::from_secs(2);

/// So many bytes, lent out for as long as they are in use.
pub struct Budget {
    units: Arc<Semaphore>,
    total: u32,
    /// For one that has begun and must end, where the others have taken all.
    last: Arc<Semaphore>,
}

/// Bytes that are accounted for until this is dropped.
pub struct Held {
    permit: OwnedSemaphorePermit,
}

impl Budget {
    /// Nothing is in use.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let total = units(bytes).max(1);
        Self { units: Arc::new(Semaphore::new(total as usize)), total, last: Arc::new(Semaphore::new(1)) }
    }

    /// Waits its turn; more than there is counts as all of it. Whoever waits must hold nothing.
    ///
    /// # Errors
    /// Not within this time.
    pub async fn hold(&self, bytes: u64, within: Duration) -> Result<Held, QueryFailure> {
        let units = units(bytes).min(self.total);
        match timeout(within, Arc::clone(&self.units).acquire_many_owned(units)).await {
            Ok(Ok(permit)) => Ok(Held::new(permit)),
            _ => Err(QueryFailure::NoRoom),
        }
    }

    /// For something whose size shows while it is made.
    #[must_use]
    pub fn growing(&self, free: u64) -> Growing<'_> {
        Growing { budget: self, counted: 0, covered: free, held: Vec::new() }
    }

    /// How many bytes are in use.
    #[must_use]
    pub fn used(&self) -> u64 {
        let available = u64::try_from(self.units.available_permits()).unwrap_or(0);
        (u64::from(self.total) - available.min(self.total.into())) * UNIT
    }
}

impl Held {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        let held = Self { permit };
        metrics::answer_memory(held.bytes());
        held
    }

    /// As a gauge counts them.
    fn bytes(&self) -> f64 {
        f64::from(u32::try_from(self.permit.num_permits()).unwrap_or(u32::MAX)) * 1024.0
    }

    /// Gives back what is above this.
    #[must_use]
    pub fn shrunk_to(mut self, bytes: u64) -> Self {
        let surplus = self.permit.num_permits().saturating_sub(units(bytes) as usize);
        drop(self.permit.split(surplus).map(|permit| Self { permit }));
        self
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        metrics::answer_memory(-self.bytes());
    }
}

/// A share of the budget that grows in steps: while there is some by itself, then alone. So two that grow never wait for
/// each other.
pub struct Growing<'b> {
    budget: &'b Budget,
    counted: u64,
    covered: u64,
    held: Vec<Held>,
}

impl Growing<'_> {
    /// So many bytes more.
    ///
    /// # Errors
    /// Others have all, and did not end in time.
    pub async fn add(&mut self, bytes: usize) -> Result<(), QueryFailure> {
        self.counted += bytes as u64;
        while self.counted > self.covered {
            let step = Arc::clone(&self.budget.units).try_acquire_many_owned(units(STEP));
            if let Ok(permit) = step {
                self.held.push(Held::new(permit));
                self.covered += STEP;
                continue;
            }
            let alone = timeout(PATIENCE, Arc::clone(&self.budget.last).acquire_owned()).await;
            let Ok(Ok(alone)) = alone else { return Err(QueryFailure::NoRoom) };
            self.held.push(Held::new(alone));
            self.covered = u64::MAX;
        }
        Ok(())
    }

    /// How many bytes it has become, and what holds them.
    #[must_use]
    pub fn done(self) -> (u64, Vec<Held>) {
        (self.counted, self.held)
    }
}

/// Rounded up.
fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_millis(10);

    #[tokio::test]
    async fn what_is_held_is_not_there_for_others_until_it_is_given_back() {
        let budget = Budget::new(10 * UNIT);
        let most = budget.hold(8 * UNIT, NOW).await.unwrap();
        assert!(matches!(budget.hold(3 * UNIT, NOW).await, Err(QueryFailure::NoRoom)));
        let little = most.shrunk_to(UNIT + 1);
        assert_eq!(budget.used(), 2 * UNIT);
        drop((little, budget.hold(8 * UNIT, NOW).await.unwrap()));
        assert_eq!(budget.used(), 0);
        // More than there is does not wait for ever.
        assert!(budget.hold(u64::MAX, NOW).await.is_ok());
    }

    #[tokio::test]
    async fn of_those_that_grow_one_may_go_on_when_nothing_is_left() {
        let budget = Budget::new(2 * STEP);
        let (mut one, mut two) = (budget.growing(UNIT), budget.growing(UNIT));
        one.add(usize::try_from(UNIT).unwrap()).await.unwrap();
        assert_eq!(budget.used(), 0, "a little is free");
        one.add(usize::try_from(STEP).unwrap()).await.unwrap();
        two.add(usize::try_from(STEP).unwrap()).await.unwrap();
        assert_eq!(budget.used(), 2 * STEP);
        one.add(100 << 20).await.unwrap();
        assert!(matches!(two.add(100 << 20).await, Err(QueryFailure::NoRoom)), "not both");
        let (bytes, held) = one.done();
        assert_eq!(bytes, UNIT + STEP + (100 << 20));
        drop(held);
        two.add(1).await.unwrap();
    }
}
