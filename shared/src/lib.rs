//! The model: what an event is, how time is cut and how an instant is written.
//!
//! No I/O, no clock, no settings. Both processes depend on this crate and on the schema in `migrations/`, and on
//! nothing else of each other.

pub mod analytics;
pub mod bucket;
pub mod instant;
pub mod json;
