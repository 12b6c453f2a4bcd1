//! Ids that came from outside: unique whatever their time, and findable.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use shared::analytics::{AnalyticsEvent, Tenant};
use sqlx::PgConnection;
use uuid::Uuid;

use super::content;
use super::failure::WriteFailure;

/// An event with an id from outside.
#[derive(Debug)]
pub struct Claimant<'a> {
    /// The event.
    pub event: &'a AnalyticsEvent,
    /// What brought it.
    pub place: Place,
    /// Set for HTTP.
    pub request_hash: Option<&'a [u8; 32]>,
}

/// Where an event came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Kafka topic, or that of the HTTP lane's row.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// None for HTTP.
    pub offset: Option<i64>,
}

impl Claimant<'_> {
    /// The id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.event.id().uuid()
    }
}

/// Who was here before? Returns the ids that are new; they come unique, and are written sorted.
///
/// # Errors
/// As [`WriteFailure`] says.
pub async fn reserve(
    connection: &mut PgConnection,
    mut claimants: Vec<Claimant<'_>>,
) -> Result<HashSet<Uuid>, WriteFailure> {
    if claimants.is_empty() {
        return Ok(HashSet::new());
    }
    let known = known_as_ours(connection, &claimants).await?;
    claimants.retain(|claimant| !known.contains(&claimant.id()));
    claimants.sort_unstable_by_key(Claimant::id);
    let (places, partitions) = places(&claimants);
    let new: Vec<Uuid> = sqlx::query_scalar(include_str!("event_ids.sql"))
        .bind(claimants.iter().map(Claimant::id).collect::<Vec<_>>())
        .bind(claimants.iter().map(|claimant| claimant.event.occurred_at()).collect::<Vec<_>>())
        .bind(
            claimants
                .iter()
                .map(|claimant| claimant.request_hash.map(|hash| hash.to_vec()))
                .collect::<Vec<_>>(),
        )
        .bind(digests(&claimants))
        .bind(partitions.iter().map(|(topic, _)| *topic).collect::<Vec<_>>())
        .bind(partitions.iter().map(|(_, partition)| *partition).collect::<Vec<_>>())
        .bind(places)
        .bind(claimants.iter().map(|claimant| claimant.place.offset).collect::<Vec<_>>())
        .fetch_all(connection)
        .await
        .map_err(WriteFailure::of_rows)?;
    Ok(new.into_iter().collect())
}

/// The number, from 1, of each one's partition in the list of them: the names are long and few.
fn places<'c>(claimants: &'c [Claimant<'_>]) -> (Vec<i32>, Vec<(&'c str, i32)>) {
    let mut numbers: HashMap<(&str, i32), i32> = HashMap::new();
    let mut partitions = Vec::new();
    let mut number = |claimant: &'c Claimant<'_>| {
        let key = (&*claimant.place.topic, claimant.place.partition);
        *numbers.entry(key).or_insert_with(|| {
            partitions.push(key);
            i32::try_from(partitions.len()).unwrap_or(i32::MAX)
        })
    };
    (claimants.iter().map(&mut number).collect(), partitions)
}

fn digests(claimants: &[Claimant<'_>]) -> Vec<Vec<u8>> {
    claimants.iter().map(|claimant| content::digest(claimant.event).to_vec()).collect()
}

/// A re-import brings ids that were made here and so are not in `event_ids`: they are looked for in their millisecond.
async fn known_as_ours(
    connection: &mut PgConnection,
    claimants: &[Claimant<'_>],
) -> Result<HashSet<Uuid>, WriteFailure> {
    let ours = ours(claimants);
    if ours.is_empty() {
        return Ok(HashSet::new());
    }
    let known: Vec<Uuid> = sqlx::query_scalar(include_str!("event_ids_ours.sql"))
        .bind(ours.iter().map(|(claimant, _, _)| claimant.id()).collect::<Vec<_>>())
        .bind(ours.iter().map(|(_, start, _)| *start).collect::<Vec<_>>())
        .bind(ours.iter().map(|(_, _, end)| *end).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    Ok(known.into_iter().collect())
}

/// Those whose id may once have been made here, with the millisecond in which its row then lies.
fn ours<'c, 'a>(claimants: &'c [Claimant<'a>]) -> Vec<(&'c Claimant<'a>, DateTime<Utc>, DateTime<Utc>)> {
    let millisecond = |claimant: &'c Claimant<'a>| {
        claimant.event.id().millisecond().map(|(start, end)| (claimant, start, end))
    };
    claimants.iter().filter_map(millisecond).collect()
}

#[derive(sqlx::FromRow)]
struct First {
    place: i64,
    topic: Option<String>,
    partition: Option<i32>,
    record_offset: Option<i64>,
}

/// Which of these duplicates say something else than what their id brought first, and where that lies.
///
/// # Errors
/// As [`WriteFailure`] says.
pub async fn differing<'c, 'a>(
    connection: &mut PgConnection,
    duplicates: &'c [Claimant<'a>],
) -> Result<Vec<(&'c Claimant<'a>, Option<Place>)>, WriteFailure> {
    let firsts: Vec<First> = sqlx::query_as(include_str!("event_ids_differ.sql"))
        .bind(duplicates.iter().map(Claimant::id).collect::<Vec<_>>())
        .bind(digests(duplicates))
        .fetch_all(&mut *connection)
        .await?;
    let at = |place: i64| usize::try_from(place - 1).ok();
    let mut differing = BTreeMap::new();
    for First { place, topic, partition, record_offset: offset } in firsts {
        let first =
            topic.zip(partition).map(|(topic, partition)| Place { topic: topic.into(), partition, offset });
        differing.extend(at(place).map(|index| (index, first)));
    }
    let ours = ours(duplicates);
    if !ours.is_empty() {
        let event = || ours.iter().map(|(claimant, _, _)| claimant.event);
        let places: Vec<i64> = sqlx::query_scalar(include_str!("event_ids_ours_differ.sql"))
            .bind(ours.iter().map(|(claimant, _, _)| claimant.id()).collect::<Vec<_>>())
            .bind(ours.iter().map(|(_, start, _)| *start).collect::<Vec<_>>())
            .bind(ours.iter().map(|(_, _, end)| *end).collect::<Vec<_>>())
            .bind(event().map(|event| event.event_type().as_str()).collect::<Vec<_>>())
            .bind(event().map(|event| event.source().as_str()).collect::<Vec<_>>())
            .bind(event().map(|event| event.tenant().map(Tenant::as_str)).collect::<Vec<_>>())
            .bind(event().map(|event| event.actor().map(|actor| actor.as_str())).collect::<Vec<_>>())
            .bind(event().map(|event| event.says_when().then(|| event.occurred_at())).collect::<Vec<_>>())
            .bind(event().map(|event| event.payload().as_str()).collect::<Vec<_>>())
            .fetch_all(connection)
            .await?;
        let found = places.into_iter().filter_map(|place| ours.get(at(place)?));
        let index =
            |claimant: &Claimant<'_>| duplicates.iter().position(|other| std::ptr::eq(other, claimant));
        differing.extend(found.filter_map(|(claimant, _, _)| Some((index(claimant)?, None))));
    }
    Ok(differing.into_iter().filter_map(|(index, first)| Some((duplicates.get(index)?, first))).collect())
}
