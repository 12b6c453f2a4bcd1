//! The one desk where Kafka records and HTTP commands meet: a batch comes in, rows and receipts go out.

mod record_events;
mod outcome;
mod refusals;
mod conflicts;
mod lane_writer;
mod backoff;
mod receipt;
mod stored_events;

pub use backoff::Backoff;
pub use conflicts::Conflict;
pub use lane_writer::{LaneWriter, PING_INTERVAL, WriterReport, ping};
pub use outcome::{Advanced, Recorded};
pub use receipt::{CommandFailure, CommandSender, Receipt, RecordEvent};
pub use record_events::{RecordFailure, Recorder};
pub use stored_events::find as find_stored;
