//! Faults on purpose: processes are ended and frozen, servers and networks fail, and afterwards one oracle says whether
//! anything was lost, done twice or counted wrongly.

pub mod proxy;
