//! A handler for each question. In comes a query whose parts have checked themselves, out goes its answer; a handler
//! opens one snapshot and composes projections in it.

pub mod range;
pub mod aggregation;
pub mod summary;
pub mod recent_events;
