use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use shared::analytics::AnalyticsEvent;
use shared::instant;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Batch, BatchSettings, Claim};
use crate::commands::{
    Backoff, CommandFailure, PING_INTERVAL, Receipt, RecordEvent, RecordFailure, Recorded, Recorder,
    find_stored, ping,
};
use crate::consume::PartitionKey;
use crate::health::Health;
use crate::metrics::{self, Door};
use crate::write::{ANSWER, Claimed, Claims, DatabaseSettings, WriteFailure, within};

/// The topic under which HTTP commands stand in `ingest_offsets`.
pub const HTTP_TOPIC: &str = "@http";

const NAME: &str = "HTTP commands";

/// The lane of HTTP commands: what has gathered while one commit was under way shares the next, so nobody waits for a
/// Kafka partition, and a thousand clients share few commits.
pub struct CommandLane {
    /// From the HTTP door.
    pub commands: mpsc::Receiver<RecordEvent>,
    /// How to connect.
    pub database: DatabaseSettings,
    /// For the row of this lane.
    pub claims: Claims,
    /// Consumer group.
    pub group: Arc<str>,
    /// This process.
    pub worker: Arc<str>,
    /// Readiness.
    pub health: Health,
    /// Limits of a batch.
    pub settings: BatchSettings,
}

/// A connection and its row.
struct Session {
    recorder: Recorder,
    key: PartitionKey,
    claim: Claim,
    next_offset: i64,
}

impl CommandLane {
    /// Runs until the HTTP door is closed and every command is answered.
    ///
    /// # Errors
    /// A defect: the process must stop.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut waiting: Vec<RecordEvent> = Vec::new();
        let mut backoff = Backoff::default();
        self.health.hold_quietly(NAME, "connecting to PostgreSQL");
        loop {
            // Nobody waits for these any more; they were told that a repeat is needed.
            waiting.retain(|command| !command.reply.is_closed());
            if stop.is_cancelled()
                && waiting.is_empty()
                && self.commands.is_empty()
                && self.commands.is_closed()
            {
                return Ok(());
            }
            let session = match self.connect().await {
                Ok(session) => session,
                Err(WriteFailure::Defect(message)) => anyhow::bail!("{NAME}: {message}"),
                Err(failure) => {
                    self.health.hold(NAME, format!("PostgreSQL is away: {failure}"));
                    backoff.wait().await;
                    continue;
                }
            };
            self.health.clear(NAME);
            match self.serve(session, &mut waiting, &mut backoff).await? {
                None => return Ok(()),
                Some(reason) => self.health.hold(NAME, format!("PostgreSQL is away: {reason}")),
            }
            backoff.wait().await;
        }
    }

    /// Claims the row of this connection's shard: whoever wrote it before has ended, as the shard was free.
    async fn connect(&self) -> Result<Session, WriteFailure> {
        let recorder = Recorder::connect(&self.database, self.group.clone(), self.worker.clone()).await?;
        let shard = i32::from(recorder.shard());
        let key = PartitionKey { topic: Arc::from(HTTP_TOPIC), partition: shard };
        self.claims.begin(HTTP_TOPIC, &[(shard, 0)]).await?;
        match self.claims.claim(&key, recorder.backend(), None).await? {
            Claimed::Ours(claim) => Ok(Session { recorder, key, next_offset: claim.next_offset, claim }),
            Claimed::Unknown { .. } | Claimed::Taken => {
                Err(WriteFailure::Unavailable(format!("{key} has no row")))
            }
        }
    }

    /// Returns none when the door is closed, else why the connection is lost.
    async fn serve(
        &mut self,
        mut session: Session,
        waiting: &mut Vec<RecordEvent>,
        backoff: &mut Backoff,
    ) -> anyhow::Result<Option<String>> {
        // The commit of these may have succeeded before the connection was lost.
        let resent: HashSet<Uuid> = waiting.iter().map(|command| command.event.id().uuid()).collect();
        if !resent.is_empty() {
            session.recorder.expect_duplicates();
        }
        loop {
            if waiting.is_empty() {
                match self.gather(&mut session.recorder, waiting).await {
                    Gathered::Commands => {}
                    Gathered::DoorClosed => return Ok(None),
                    Gathered::ConnectionLost(reason) => return Ok(Some(reason)),
                }
            }
            match session.record(waiting, &resent).await {
                Ok(()) => backoff.reset(),
                Err(RecordFailure::Unavailable(reason)) => return Ok(Some(reason)),
                Err(RecordFailure::Defect(message)) => {
                    self.health.hold(NAME, &message);
                    anyhow::bail!("{NAME} cannot be written: {message}");
                }
            }
        }
    }

    /// Waits for a command and takes what else is there.
    async fn gather(&mut self, recorder: &mut Recorder, waiting: &mut Vec<RecordEvent>) -> Gathered {
        let limit = self.settings.max_events;
        loop {
            match tokio::time::timeout(PING_INTERVAL, self.commands.recv_many(waiting, limit)).await {
                Ok(0) => return Gathered::DoorClosed,
                Ok(_) => {
                    waiting.retain(|command| !command.reply.is_closed());
                    if !waiting.is_empty() {
                        return Gathered::Commands;
                    }
                }
                Err(_) => {
                    if let Err(reason) = ping(recorder).await {
                        return Gathered::ConnectionLost(reason);
                    }
                }
            }
        }
    }
}

enum Gathered {
    Commands,
    DoorClosed,
    ConnectionLost(String),
}

impl Session {
    /// One commit for all that wait. On an error they still wait.
    async fn record(
        &mut self,
        waiting: &mut Vec<RecordEvent>,
        resent: &HashSet<Uuid>,
    ) -> Result<(), RecordFailure> {
        let mut batch = Batch::default();
        for command in waiting.iter() {
            let event = command.event.clone();
            batch.push_command(&self.key, &self.claim, self.next_offset, event, command.request_hash);
        }
        let (events, bytes) = (batch.events().len(), batch.bytes());
        let recorded = self.recorder.handle(&mut batch).await?;
        let Some(advanced) = recorded.advanced.first() else {
            return Err(RecordFailure::Unavailable(format!("{} was claimed by another session", self.key)));
        };
        self.next_offset = advanced.next_offset;
        metrics::batch(Door::Http, events, bytes);
        let stored = self.stored_before(waiting, &recorded).await?;
        let mut answered = HashSet::new();
        for (number, command) in waiting.drain(..).enumerate() {
            let id = command.event.id().uuid();
            let result = if recorded.new_commands.contains(&number) {
                Ok(receipt(&command.event, &recorded))
            } else if let Some(message) = recorded.refused.get(&number) {
                Err(CommandFailure::Refused(message.clone()))
            } else if let Some(horizon) =
                recorded.horizon.filter(|horizon| command.event.occurred_at() < *horizon)
            {
                Err(CommandFailure::Expired { horizon: instant::format(horizon) })
            } else if let Some(receipt) = stored.get(&id) {
                // Ours, from the commit whose outcome was unknown: for one of its clients it was no repeat.
                let repeated = !resent.contains(&id) || !answered.insert(id);
                Ok(Receipt { repeated, ..receipt.clone() })
            } else {
                Err(CommandFailure::Refused(
                    "an event with this id was stored before and is no longer kept".to_owned(),
                ))
            };
            // A client that has gone away needs no answer.
            drop(command.reply.send(result));
        }
        Ok(())
    }

    /// What the repeats among the commands brought the first time.
    async fn stored_before(
        &mut self,
        commands: &[RecordEvent],
        recorded: &Recorded,
    ) -> Result<HashMap<Uuid, Receipt>, RecordFailure> {
        let repeats = commands.iter().enumerate().filter(|(number, _)| {
            !recorded.new_commands.contains(number) && !recorded.refused.contains_key(number)
        });
        let repeats: Vec<_> = repeats.map(|(_, command)| &command.event).collect();
        Ok(within(ANSWER, find_stored(self.recorder.connection(), &repeats)).await?)
    }
}

fn receipt(event: &AnalyticsEvent, recorded: &Recorded) -> Receipt {
    Receipt {
        repeated: false,
        id: event.id().uuid(),
        event_type: event.event_type().as_str().to_owned(),
        source: event.source().as_str().to_owned(),
        occurred_at: event.occurred_at(),
        ingested_at: recorded.at,
        tenant_id: event.tenant().map(|tenant| tenant.as_str().to_owned()),
    }
}
