//! What one transaction writes: each file a table or a step, its statement beside it. Functions take the lane's
//! connection; who opens and commits the transaction is `commands`.

mod connect;
mod session;
mod nodelay;
mod failure;
mod deadline;
mod claims;
mod copy_row;
mod content;

pub mod offsets;
pub mod event_ids;
pub mod events;
pub mod read_models;
pub mod dead_letters;
pub mod partitions;
pub mod series;
pub mod shard;
pub mod rule_identities;

pub use claims::{Backend, Claimed, Claims};
pub use connect::{DatabaseArgs, DatabaseSettings};
pub use copy_row::CopyBuffer;
pub use deadline::{ANSWER, within};
pub use failure::{Statement, WriteFailure};
pub use partitions::keep_partitions_ahead;
pub use session::Found as SessionFound;
