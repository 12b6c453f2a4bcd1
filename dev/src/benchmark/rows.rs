//! The rows that a worker has stored, as PostgreSQL takes them back: what a bare COPY has to do.

use anyhow::{Context as _, Result, ensure};
use futures_util::TryStreamExt as _;
use sqlx::PgConnection;
use sqlx::postgres::PgPool;

/// The order of the worker's own COPY.
const COLUMNS: &str = "id, event_type, source, occurred_at, tenant_id, payload, actor_id, payload_bytes";
/// Signature, flags and no extension (documentation of COPY, "Binary Format").
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
/// A piece on the wire.
const PIECE: usize = 256 << 10;

/// Rows in the binary format, each with where it begins, in the order of their time.
pub struct Rows {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Rows {
    /// Everything in `analytics_events`.
    ///
    /// # Errors
    /// PostgreSQL does not answer, or answers something else.
    pub async fn stored(pool: &PgPool) -> Result<Self> {
        let mut connection = pool.acquire().await?;
        let query = format!(
            "COPY (SELECT {COLUMNS} FROM analytics_events ORDER BY occurred_at, id) TO STDOUT (FORMAT binary)"
        );
        let mut stream = connection.copy_out_raw(&query).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = stream.try_next().await? {
            bytes.extend_from_slice(&piece);
        }
        let starts = starts(&bytes).context("not the binary format of COPY")?;
        Ok(Self { bytes, starts })
    }

    /// How many.
    #[must_use]
    pub fn number(&self) -> usize {
        self.starts.len()
    }

    /// Their numbers as they happened, or anyhow.
    #[must_use]
    pub fn order(&self, random: bool) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.number()).collect();
        if random {
            fastrand::Rng::with_seed(1).shuffle(&mut order);
        }
        order
    }

    /// One COPY of these rows, one transaction.
    ///
    /// # Errors
    /// PostgreSQL refuses.
    pub async fn copy(
        &self,
        connection: &mut PgConnection,
        order: impl Iterator<Item = usize>,
    ) -> Result<()> {
        let command = format!("COPY analytics_events ({COLUMNS}) FROM STDIN (FORMAT binary)");
        let mut copy = connection.copy_in_raw(&command).await?;
        let mut piece = Vec::with_capacity(PIECE * 2);
        piece.extend_from_slice(HEADER);
        let mut sent = 0;
        for index in order {
            piece.extend_from_slice(self.row(index));
            sent += 1;
            if piece.len() >= PIECE {
                copy.send(piece.as_slice()).await?;
                piece.clear();
            }
        }
        piece.extend_from_slice(&TRAILER);
        copy.send(piece.as_slice()).await?;
        let stored = copy.finish().await?;
        ensure!(stored == sent, "PostgreSQL stored {stored} of {sent} rows");
        Ok(())
    }

    fn row(&self, index: usize) -> &[u8] {
        let start = self.starts.get(index).copied().unwrap_or(self.bytes.len());
        let end = self.starts.get(index + 1).copied().unwrap_or(self.bytes.len() - TRAILER.len());
        self.bytes.get(start..end).unwrap_or_default()
    }
}

/// Where each row begins.
fn starts(bytes: &[u8]) -> Option<Vec<usize>> {
    let mut starts = Vec::new();
    let mut at = HEADER.len();
    loop {
        let fields = i16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?);
        if fields < 0 {
            return Some(starts);
        }
        starts.push(at);
        at += 2;
        for _ in 0..fields {
            let length = i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?);
            at += 4 + usize::try_from(length).unwrap_or(0); // None is -1.
        }
    }
}
