use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::*;

/// A server that answers each byte with the same byte and knows what it got.
async fn echo() -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (address, got) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let all = Arc::clone(&got);
    spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let all = Arc::clone(&all);
            spawn(async move {
                let mut piece = [0; 1024];
                while let Ok(length) = stream.read(&mut piece).await
                    && length > 0
                {
                    lock(&all).extend_from_slice(&piece[..length]);
                    drop(stream.write_all(&piece[..length]).await);
                }
            });
        }
    });
    (address, got)
}

async fn proxy() -> (Proxy, TcpStream, Arc<Mutex<Vec<u8>>>) {
    let (address, got) = echo().await;
    let proxy = Proxy::to(address).await.unwrap();
    let client = TcpStream::connect(proxy.address()).await.unwrap();
    (proxy, client, got)
}

/// Says something and reads as much again.
async fn say(client: &mut TcpStream, bytes: &[u8]) -> io::Result<Vec<u8>> {
    client.write_all(bytes).await?;
    let mut answer = vec![0; bytes.len()];
    client.read_exact(&mut answer).await?;
    Ok(answer)
}

/// All that still comes.
async fn rest(client: &mut TcpStream) -> (Vec<u8>, io::Result<usize>) {
    let mut bytes = Vec::new();
    let end = timeout(Duration::from_secs(10), client.read_to_end(&mut bytes)).await.unwrap();
    (bytes, end)
}

#[tokio::test]
async fn without_rules_everything_comes_through_and_the_end_too() {
    let (proxy, mut client, _) = proxy().await;
    assert_eq!(say(&mut client, b"hello").await.unwrap(), b"hello");
    proxy.change(|rules| rules.both(|flow| flow.slice = Some(1)));
    assert_eq!(say(&mut client, &[7; 3000]).await.unwrap(), [7; 3000]);
    assert_eq!(proxy.passed(Direction::ToClient), 3000);
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await.1.unwrap(), 0);
}

#[tokio::test]
async fn a_cut_after_so_many_bytes_lets_exactly_these_through() {
    for in_total in [false, true] {
        let (proxy, mut client, got) = proxy().await;
        proxy.change(|rules| {
            rules.to_server.cut_after = Some(CutAfter { bytes: 5, in_total, how: Cut::Close })
        });
        client.write_all(b"0123456789").await.unwrap();
        rest(&mut client).await.1.ok();
        assert_eq!(*lock(&got), b"01234");
        proxy.heal();
        let mut again = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(say(&mut again, b"more").await.unwrap(), b"more");
    }
    let (proxy, mut client, _) = proxy().await;
    proxy.change(|rules| {
        rules.to_client.cut_after = Some(CutAfter { bytes: 3, in_total: false, how: Cut::Close })
    });
    client.write_all(b"0123456789").await.unwrap();
    assert_eq!(rest(&mut client).await.0, b"012");
}

#[tokio::test]
async fn a_cut_of_all_is_a_reset_and_refused_connections_are_reset_too() {
    let (proxy, mut client, _) = proxy().await;
    say(&mut client, b"hello").await.unwrap();
    proxy.change(|rules| rules.refuses = true);
    proxy.cut_all(Cut::Reset);
    assert_eq!(rest(&mut client).await.1.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(say(&mut refused, b"hello").await.is_err());
}

#[tokio::test]
async fn a_trap_springs_before_the_server_has_the_bytes_or_before_the_client_has_the_answer() {
    for (moment, expected) in
        [(Moment::BeforeServerHasThem, &b"begin;"[..]), (Moment::BeforeClientHasAnswer, &b"begin;commit"[..])]
    {
        let (proxy, mut client, got) = proxy().await;
        proxy.set_trap(Trap::once(b"commit", moment));
        say(&mut client, b"begin;").await.unwrap();
        client.write_all(b"commit").await.unwrap();
        let (answer, end) = rest(&mut client).await;
        assert!(answer.is_empty() && end.is_err());
        assert_eq!((lock(&got).as_slice(), proxy.trapped()), (expected, 1));
        let mut again = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(say(&mut again, b"commit").await.unwrap(), b"commit");
    }
}

#[tokio::test]
async fn a_pattern_is_found_across_pieces_and_spared_as_told() {
    let mut seeker = trap::Seeker::default();
    assert_eq!(seeker.find(b"commit", b"xxcom"), None);
    assert_eq!(seeker.find(b"commit", b"mit"), Some(0));
    assert_eq!(seeker.find(b"commit", b"a commit"), Some(2));
    let mut trap = Trap { spares: 1, times: 2, ..Trap::once(b"x", Moment::BeforeServerHasThem) };
    assert_eq!([(); 5].map(|()| trap.springs()), [false, true, true, false, false]);
}

#[tokio::test]
async fn a_hole_holds_back_until_it_is_healed_or_swallows_for_good() {
    let (proxy, mut client, got) = proxy().await;
    say(&mut client, b"hello").await.unwrap();
    proxy.change(|rules| rules.to_server.hole = Hole::Holds);
    client.write_all(b"late").await.unwrap();
    let mut answer = [0; 4];
    assert!(timeout(Duration::from_millis(100), client.read_exact(&mut answer)).await.is_err());
    proxy.heal();
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"late");

    proxy.change(|rules| rules.to_server.hole = Hole::Swallows);
    client.write_all(b"lost").await.unwrap();
    assert!(timeout(Duration::from_millis(100), client.read_exact(&mut answer)).await.is_err());
    proxy.heal();
    client.write_all(b"lost as well").await.unwrap();
    assert!(timeout(Duration::from_millis(100), client.read_exact(&mut answer)).await.is_err());
    assert_eq!(*lock(&got), b"hellolate");
    proxy.cut_all(Cut::Reset);
    assert!(rest(&mut client).await.1.is_err());
}

#[tokio::test]
async fn a_half_open_connection_says_nothing_and_stays() {
    let (proxy, mut client, got) = proxy().await;
    say(&mut client, b"hello").await.unwrap();
    proxy.leave_half_open();
    let mut answer = [0; 4];
    assert!(timeout(Duration::from_millis(100), client.read_exact(&mut answer)).await.is_err());
    client.write_all(b"anybody there?").await.unwrap();
    assert!(timeout(Duration::from_millis(100), client.read_exact(&mut answer)).await.is_err());
    assert_eq!(*lock(&got), b"hello");
}

#[tokio::test]
async fn delays_and_rates_take_their_time_and_the_target_can_change() {
    let (proxy, mut client, _) = proxy().await;
    proxy.change(|rules| rules.both(|flow| flow.delay = Duration::from_millis(60)));
    let started = Instant::now();
    say(&mut client, b"hello").await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(120));
    proxy.change(|rules| {
        *rules = Rules::default();
        rules.to_server.bytes_per_second = Some(10_000);
    });
    let started = Instant::now();
    say(&mut client, &[1; 2_000]).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(180));
    proxy.heal();
    let (other, got) = echo().await;
    proxy.switch_to(other);
    let mut moved = TcpStream::connect(proxy.address()).await.unwrap();
    say(&mut moved, b"here").await.unwrap();
    assert_eq!(*lock(&got), b"here");
    assert_eq!((proxy.open(), proxy.accepted()), (2, 2));
}
