//! A handler for each question. In comes a query whose parts have checked themselves, out goes its answer; a handler
//! composes projections in one snapshot, which a statement alone is by itself.

pub mod range;
pub mod aggregation;
pub mod summary;
pub mod recent_events;
