use std::time::Duration;

/// What is done to bytes and connections.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// New connections are reset at once.
    pub refuses: bool,
    /// What the process sends.
    pub to_server: Flow,
    /// What the server answers.
    pub to_client: Flow,
}

impl Rules {
    /// Both directions alike.
    pub fn both(&mut self, change: impl Fn(&mut Flow)) {
        change(&mut self.to_server);
        change(&mut self.to_client);
    }
}

/// One direction.
#[derive(Debug, Clone, Default)]
pub struct Flow {
    /// Each piece is this late.
    pub delay: Duration,
    /// No more than this.
    pub bytes_per_second: Option<u32>,
    /// Pieces of at most so many bytes.
    pub slice: Option<usize>,
    /// Nothing comes through.
    pub hole: Hole,
    /// The connection ends at this byte.
    pub cut_after: Option<CutAfter>,
}

/// How nothing comes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hole {
    /// It does come through.
    #[default]
    None,
    /// Held back until the hole is healed, like packets that are sent again and again.
    Holds,
    /// Lost for good: a firewall that has forgotten the connection.
    Swallows,
}

/// A cut at a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutAfter {
    /// So many bytes get through.
    pub bytes: u64,
    /// Of all connections since the rules were set; else of each connection since it began.
    pub in_total: bool,
    /// How it ends.
    pub how: Cut,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// With a RST to both sides.
    Reset,
    /// With a FIN, as if each side had closed it.
    Close,
}
