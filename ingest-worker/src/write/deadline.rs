use std::time::Duration;

use super::failure::WriteFailure;

/// For single statements: longer than any lock is waited for.
pub const ANSWER: Duration = Duration::from_secs(15);

/// Waits no longer than `limit`: a server that vanished gives no answer at all, and the network none for a quarter of an
/// hour. The connection that was used is to be dropped then.
///
/// # Errors
/// `Unavailable` if the time is over; else what the answer says.
pub async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, WriteFailure>>,
) -> Result<T, WriteFailure> {
    let answer = tokio::time::timeout(limit, answer).await;
    answer.unwrap_or_else(|_| Err(WriteFailure::Unavailable(format!("no answer within {limit:?}"))))
}
