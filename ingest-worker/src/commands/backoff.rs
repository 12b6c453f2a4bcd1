use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// Waits between attempts: doubled each time up to a cap, with jitter, so that many workers do not return at once.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// Half to all of the current delay.
    pub async fn wait(&mut self) {
        let delay = self.next.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.next = (self.next * 2).min(LONGEST);
        tokio::time::sleep(delay).await;
    }

    /// After a success.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}
