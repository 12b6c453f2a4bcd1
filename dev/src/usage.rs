//! What processes use, from `/proc`.

use std::fs;

use anyhow::{Context as _, Result};
use sqlx::postgres::PgPool;

/// Linux's `USER_HZ`, whatever its own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of processor that a process has used so far.
///
/// # Errors
/// It does not run.
pub fn of_process(pid: i32) -> Result<f64> {
    let [user, system, ..] = ticks(pid)?;
    Ok((user + system) / TICKS_PER_SECOND)
}

/// The same of a process, the children that have ended, and those that still run: PostgreSQL's postmaster and its backends.
///
/// # Errors
/// It does not run.
pub fn of_family(pid: i32) -> Result<f64> {
    let mut sum: f64 = ticks(pid)?.iter().sum();
    for child in children(pid)? {
        // One that ends meanwhile has become the parent's.
        sum += ticks(child).map_or(0.0, |[user, system, ..]| user + system);
    }
    Ok(sum / TICKS_PER_SECOND)
}

/// The parent of all of PostgreSQL's processes.
///
/// # Errors
/// PostgreSQL does not answer, or runs on another machine.
pub async fn postmaster(pool: &PgPool) -> Result<i32> {
    let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(pool).await?;
    let status = fs::read_to_string(format!("/proc/{backend}/status"))?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    Ok(parent.context("no parent in /proc")?.trim().parse()?)
}

fn children(pid: i32) -> Result<Vec<i32>> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    Ok(text.split_whitespace().filter_map(|child| child.parse().ok()).collect())
}

/// Own user and system time, then those of children that were waited for (`utime stime cutime cstime` of proc(5)).
fn ticks(pid: i32) -> Result<[f64; 4]> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command's name may hold spaces and brackets.
    let (_, fields) = stat.rsplit_once(") ").context("no such line in /proc")?;
    let ticks: Vec<f64> = fields.split(' ').skip(11).take(4).filter_map(|field| field.parse().ok()).collect();
    ticks.try_into().ok().context("no times in /proc")
}
