//! What is read: a function and its statement for each thing that the tables can tell. In come a connection that
//! only reads and bounds that were computed elsewhere, out go rows.

pub mod snapshot;
pub mod event_counts;
pub mod edge_counts;
pub mod events;
pub mod payloads;
pub mod privileges;
pub mod connection;
pub mod pool;
pub mod database;
pub mod standing;
pub mod failure;
