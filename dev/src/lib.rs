//! The workshop: a load of real shapes, the harness of the tests that run both real processes against a real Kafka and
//! a real PostgreSQL, and the demonstration. Never shipped.

pub mod load;
pub mod stack;
pub mod topics;
pub mod produce;
pub mod poison;
pub mod database;
pub mod pooler;
pub mod usage;
pub mod processes;
pub mod http;
pub mod tables;
pub mod expected;
pub mod oracle;
pub mod bench;
pub mod demo;
pub mod wait;
#[cfg(feature = "rig")]
pub mod faults;
#[cfg(feature = "rig")]
pub mod benchmark;
pub mod clock;
mod twins;
