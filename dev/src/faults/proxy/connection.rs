use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::rules::{Hole, Rules};
use super::trap::Seeker;
use super::{Controls, Cut, Direction, End, Moment, Order, apply, lock};

/// Bytes of one reading.
const PIECE: usize = 16 << 10;
/// How long a trapped server may take to answer; a COMMIT waits for the disk.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// What both directions of a connection share.
struct Link {
    controls: Arc<Controls>,
    /// The trap has sprung: the next answer is not for the client.
    mute: AtomicBool,
    answered: Notify,
}

/// A direction, and what it keeps from piece to piece.
struct Pump<'a> {
    link: &'a Link,
    direction: Direction,
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    rules: watch::Receiver<Rules>,
    passed: u64,
    seeker: Seeker,
    /// Something of it was lost: nothing that follows would make sense.
    holed: bool,
}

/// Forwards both ways until one side ends it or an order comes.
pub(super) async fn run(controls: Arc<Controls>, mut client: TcpStream, mut server: TcpStream) {
    for stream in [&client, &server] {
        // Without it small pieces would only be late.
        drop(stream.set_nodelay(true));
    }
    let mut orders = controls.orders.subscribe();
    let link =
        Link { controls: Arc::clone(&controls), mute: AtomicBool::new(false), answered: Notify::new() };
    let ending = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let up = Pump::new(&link, Direction::ToServer, from_client, to_server).run();
        let down = Pump::new(&link, Direction::ToClient, from_server, to_client).run();
        tokio::select! {
            cut = both(up, down) => Order::Cut(cut),
            order = next(&mut orders) => order,
        }
    };
    match ending {
        Order::Cut(cut) => apply(cut, [&client, &server]),
        Order::HalfOpen => {
            drop(server);
            tokio::select! {
                () = swallow(&mut client) => {}
                _ = next(&mut orders) => apply(Cut::Reset, [&client, &client]),
            }
        }
    }
}

async fn next(orders: &mut watch::Receiver<(u64, Option<Order>)>) -> Order {
    loop {
        if orders.changed().await.is_err() {
            return Order::Cut(Cut::Reset);
        }
        if let (_, Some(order)) = *orders.borrow_and_update() {
            return order;
        }
    }
}

/// One direction may be closed while the other still speaks; a cut ends both.
async fn both(up: impl Future<Output = End>, down: impl Future<Output = End>) -> Cut {
    let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
    let first = tokio::select! {
        end = &mut up => (end, true),
        end = &mut down => (end, false),
    };
    let last = match first {
        (End::Cut(cut), _) => return cut,
        (End::Closed, true) => down.await,
        (End::Closed, false) => up.await,
    };
    match last {
        End::Cut(cut) => cut,
        End::Closed => Cut::Close,
    }
}

async fn swallow(client: &mut TcpStream) {
    let mut piece = vec![0; PIECE];
    while client.read(&mut piece).await.is_ok_and(|length| length > 0) {}
}

impl<'a> Pump<'a> {
    fn new(link: &'a Link, direction: Direction, from: ReadHalf<'a>, to: WriteHalf<'a>) -> Self {
        let rules = link.controls.rules.subscribe();
        Self { link, direction, from, to, rules, passed: 0, seeker: Seeker::default(), holed: false }
    }

    async fn run(mut self) -> End {
        match self.forward().await {
            Ok(()) => End::Closed,
            Err(end) => end,
        }
    }

    async fn forward(&mut self) -> Result<(), End> {
        let mut piece = vec![0; PIECE];
        loop {
            let length = self.from.read(&mut piece).await?;
            let bytes = piece.get(..length).unwrap_or_default();
            if self.link.mute.load(Ordering::SeqCst) && self.direction == Direction::ToClient {
                self.link.answered.notify_one();
                // The other direction ends the connection.
                std::future::pending::<()>().await;
            }
            if !self.gets_through(length).await {
                continue;
            }
            if bytes.is_empty() {
                self.to.shutdown().await?;
                return Ok(());
            }
            self.past_the_trap(bytes).await?;
        }
    }

    fn flow(&self) -> super::Flow {
        let rules = self.rules.borrow();
        match self.direction {
            Direction::ToServer => rules.to_server.clone(),
            Direction::ToClient => rules.to_client.clone(),
        }
    }

    /// Waits while a hole holds everything back; false if it is lost.
    async fn gets_through(&mut self, length: usize) -> bool {
        loop {
            match self.flow().hole {
                Hole::Holds => {
                    if self.rules.changed().await.is_err() {
                        return false;
                    }
                }
                Hole::Swallows => self.holed = true,
                Hole::None => {}
            }
            if self.holed {
                if length == 0 {
                    // Nobody hears of the end either; an order ends this.
                    std::future::pending::<()>().await;
                }
                return false;
            }
            if self.flow().hole == Hole::None {
                return true;
            }
        }
    }

    async fn past_the_trap(&mut self, bytes: &[u8]) -> Result<(), End> {
        let sprung = self.sprung(bytes);
        match sprung {
            None => self.write(bytes).await,
            Some((at, Moment::BeforeServerHasThem, how)) => {
                self.write(bytes.get(..at).unwrap_or_default()).await?;
                self.link.controls.trapped.fetch_add(1, Ordering::SeqCst);
                Err(End::Cut(how))
            }
            Some((_, Moment::BeforeClientHasAnswer, how)) => {
                self.link.mute.store(true, Ordering::SeqCst);
                self.write(bytes).await?;
                // An answer that does not come is cut off as well.
                drop(timeout(ANSWERS_WITHIN, self.link.answered.notified()).await);
                self.link.controls.trapped.fetch_add(1, Ordering::SeqCst);
                Err(End::Cut(how))
            }
        }
    }

    fn sprung(&mut self, bytes: &[u8]) -> Option<(usize, Moment, Cut)> {
        if self.direction == Direction::ToClient {
            return None;
        }
        let mut set = lock(&self.link.controls.trap);
        let trap = set.as_mut()?;
        let at = self.seeker.find(&trap.pattern, bytes)?;
        trap.springs().then_some((at, trap.moment, trap.how))
    }

    /// Sends a piece as the rules of the moment say.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let flow = self.flow();
            let (piece, after) = rest.split_at(flow.slice.unwrap_or(PIECE).clamp(1, rest.len()));
            rest = after;
            if !flow.delay.is_zero() {
                sleep(flow.delay).await;
            }
            if let Some(rate) = flow.bytes_per_second {
                let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
                sleep(Duration::from_secs_f64(f64::from(length) / f64::from(rate.max(1)))).await;
            }
            let total = self.link.controls.passed(self.direction);
            if let Some(cut) = flow.cut_after {
                let before = if cut.in_total { total.load(Ordering::Relaxed) } else { self.passed };
                let left = usize::try_from(cut.bytes.saturating_sub(before)).unwrap_or(usize::MAX);
                if let Some((last, _)) = piece.split_at_checked(left) {
                    self.to.write_all(last).await?;
                    self.link.controls.cuts.fetch_add(1, Ordering::SeqCst);
                    return Err(End::Cut(cut.how));
                }
            }
            self.to.write_all(piece).await?;
            self.passed += piece.len() as u64;
            total.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}
