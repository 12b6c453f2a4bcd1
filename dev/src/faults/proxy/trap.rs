use super::Cut;

/// PostgreSQL's simple query `COMMIT`, as it goes over the wire.
pub const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

/// Ends the connection on which these bytes go to the server.
#[derive(Debug, Clone)]
pub struct Trap {
    /// Which bytes.
    pub pattern: Vec<u8>,
    /// When the connection ends.
    pub moment: Moment,
    /// How.
    pub how: Cut,
    /// So many times they pass unharmed before.
    pub spares: u32,
    /// So many connections are ended before there is no trap any more.
    pub times: u32,
}

/// When a trap ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The server gets everything before them and nothing of them.
    BeforeServerHasThem,
    /// The server gets them and answers, and the client does not get the answer.
    BeforeClientHasAnswer,
}

impl Trap {
    /// Once, with a RST.
    #[must_use]
    pub fn once(pattern: &[u8], moment: Moment) -> Self {
        Self { pattern: pattern.to_vec(), moment, how: Cut::Reset, spares: 0, times: 1 }
    }

    /// The bytes have come by: whether the trap springs.
    pub(super) fn springs(&mut self) -> bool {
        if self.spares > 0 {
            self.spares -= 1;
            return false;
        }
        let springs = self.times > 0;
        self.times = self.times.saturating_sub(1);
        springs
    }
}

/// Finds a pattern in a stream that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Seeker {
    /// The end of what came before, shorter than the pattern.
    tail: Vec<u8>,
}

impl Seeker {
    /// The first place in this piece before which the stream must be cut so that nothing of the pattern, or of what of it
    /// is in this piece, gets through. The pattern's beginning may have gone with an earlier piece: then it is 0.
    pub(super) fn find(&mut self, pattern: &[u8], piece: &[u8]) -> Option<usize> {
        let seam = self.tail.len();
        self.tail.extend_from_slice(piece);
        let found = if pattern.is_empty() {
            None
        } else {
            self.tail.windows(pattern.len()).position(|window| window == pattern)
        };
        let keep = self.tail.len().min(pattern.len().saturating_sub(1));
        self.tail.drain(..self.tail.len() - keep);
        found.map(|at| at.saturating_sub(seam))
    }
}
