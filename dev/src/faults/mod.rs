//! Faults on purpose: processes are ended and frozen, servers and networks fail, and afterwards one oracle says whether
//! anything was lost, done twice or counted wrongly. `dev/faults --list` says which.

pub mod proxy;
pub mod watch;
pub mod worker;
mod traffic;
pub mod scene;
mod audit;
pub mod oracle;
pub mod scenarios;
pub mod runner;

pub use scene::{DRAIN, Scene};
pub use traffic::Background;
pub use worker::Worker;
