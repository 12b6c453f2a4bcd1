use super::{LoadRecord, Outcome};

/// A record like this one that can never become an event, or a tombstone.
pub(super) fn broken(random: &mut fastrand::Rng, good: &LoadRecord) -> LoadRecord {
    let value = good.value.clone().unwrap_or_default();
    let (value, becomes) = match random.u8(0..6) {
        0 => (None, Outcome::Tombstone),
        1 => (Some(value.chars().take(value.chars().count() / 2).collect()), Outcome::DeadLetter),
        2 => (Some(format!("[{value}]")), Outcome::DeadLetter),
        3 => (Some(r#"{"hello":"world"}"#.to_owned()), Outcome::DeadLetter),
        4 => (Some(value.replacen('{', r#"{"note":"\u0000","#, 1)), Outcome::DeadLetter),
        _ => (Some(String::new()), Outcome::DeadLetter),
    };
    LoadRecord { value, becomes, ..good.clone() }
}
