use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use query_api::projections::connection::DatabaseConfig;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;

use crate::harness::{Service, eventually, reader, spawn};

const RECENT: &str = "/v1/analytics/events/recent";

/// So many events, each with a text of so many characters; `noted` as the writer notes their lengths.
async fn store_long(pool: &PgPool, events: i32, characters: i32, noted: bool) {
    sqlx::query("SELECT create_event_partition('2025-11-16Z')").execute(pool).await.unwrap();
    let insert = "
        INSERT INTO analytics_events (id, event_type, source, occurred_at, payload, payload_bytes)
        SELECT gen_random_uuid(), 'long', 'tests', '2025-11-16T18:14:00Z'::timestamptz + number * interval '1 s',
               payload, CASE WHEN $3 AND octet_length(payload::text) > 16384 THEN octet_length(payload::text) END
        FROM generate_series(1, $1) AS number
        CROSS JOIN LATERAL (SELECT jsonb_build_object('n', number, 't', repeat('x', $2)) AS payload) AS made";
    sqlx::query(insert).bind(events).bind(characters).bind(noted).execute(pool).await.unwrap();
}

/// The answer, put together from what PostgreSQL says.
async fn expected(pool: &PgPool, limit: i64) -> String {
    let statement = "SELECT id, occurred_at, payload::text FROM analytics_events ORDER BY occurred_at DESC, id DESC LIMIT $1";
    let rows: Vec<(Uuid, DateTime<Utc>, String)> =
        sqlx::query_as(statement).bind(limit).fetch_all(pool).await.unwrap();
    let items: Vec<_> = rows
        .iter()
        .map(|(id, at, payload)| {
            let at = shared::instant::format(*at);
            format!(
                r#"{{"id":"{id}","eventType":"long","source":"tests","occurredAt":"{at}","tenantId":null,"payload":{payload}}}"#
            )
        })
        .collect();
    format!(r#"{{"items":[{}],"count":{}}}"#, items.join(","), rows.len())
}

/// A client that asks and then does as it likes.
async fn ask(service: &Service, query: &str) -> TcpStream {
    let mut client = TcpStream::connect(service.address).await.unwrap();
    let request = format!("GET {RECENT}{query} HTTP/1.1\r\nHost: tests\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

/// All that is still to come, however it ends.
async fn rest_of(mut client: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    timeout(Duration::from_secs(30), client.read_to_end(&mut bytes)).await.unwrap().ok();
    bytes
}

/// The last chunk has no bytes: an answer without it is broken for every client.
const END: &[u8] = b"\r\n0\r\n\r\n";

#[sqlx::test(migrations = "../migrations")]
async fn long_and_short_payloads_come_in_their_order_to_the_letter(pool: PgPool) {
    for (number, characters) in
        [10, 900, 5_000, 12_000, 20_000, 100_000, 700_000, 1_100_000].into_iter().enumerate()
    {
        store_long(&pool, 12, characters, number % 2 == 0).await;
    }
    let service = Service::start(&pool).await;
    for limit in [1, 50, 96, 500] {
        let answer = service.text(&format!("{RECENT}?limit={limit}")).await;
        assert!(answer == expected(&pool, limit).await, "limit {limit}: {} bytes", answer.len());
    }
    // The usual answer has a length, a long one comes as it is read.
    assert!(service.get("/v1/analytics/metrics/summary").await.content_length().is_some());
    assert_eq!(service.get(RECENT).await.content_length(), None);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_marker_stands_for_a_payload_that_is_too_long(pool: PgPool) {
    store_long(&pool, 1, 65_500, false).await; // {"n": 1, "t": "…"} has 65,517.
    store_long(&pool, 1, 65_520, true).await;
    store_long(&pool, 1, 400_000, false).await;
    // As migration 9 notes what it finds: the text would have 1.2 GB.
    let poison = "UPDATE analytics_events SET payload_bytes = 1179666007,
            payload = ('{\"x\":[' || repeat('1e131071,', 8999) || '1]}')::jsonb WHERE length(payload->>'t') > 70000";
    sqlx::query(poison).execute(&pool).await.unwrap();
    let flags = ["--payload-max-bytes", "64KiB", "--answer-memory", "4MiB"];
    let service = Service::with(reader(&pool).await, &flags).await;
    let answer = service.json(RECENT).await;
    assert_eq!(answer["count"], 3);
    let mut bytes = Vec::new();
    for item in answer["items"].as_array().unwrap() {
        let Value::Object(omitted) = &item["payload"]["$omitted"] else {
            assert_eq!(item["payload"]["t"].as_str().unwrap().len(), 65_500);
            continue;
        };
        assert_eq!(omitted["reason"], "payload_too_large");
        assert_eq!((&omitted["id"], &omitted["maxBytes"]), (&item["id"], &json!(65_536)));
        bytes.push(omitted["bytes"].as_u64().unwrap());
    }
    bytes.sort_unstable();
    assert_eq!(bytes, [65_537, 1_179_666_007]);
}

/// Stored by a release that knew nothing of it, after the migration.
#[sqlx::test(migrations = "../migrations")]
async fn a_payload_of_which_nobody_knows_that_it_grows_does_not_stop_the_page(pool: PgPool) {
    store_long(&pool, 20, 100_000, false).await;
    let grows =
        "UPDATE analytics_events SET payload = ('{\"x\":[' || repeat('1e131071,', 1999) || '1]}')::jsonb
         WHERE payload->>'n' IN ('3', '17')";
    sqlx::query(grows).execute(&pool).await.unwrap();
    let database = DatabaseConfig { statement_timeout: Duration::from_millis(150), ..reader(&pool).await };
    let service = Service::with(database, &[]).await;
    for _ in 0..2 {
        let asked = Instant::now();
        let answers = join_all((0..3).map(|_| service.json(RECENT))).await;
        for answer in answers {
            assert_eq!(answer["count"], 20);
            let items = answer["items"].as_array().unwrap();
            let omitted: Vec<_> = items.iter().filter_map(|item| item["payload"].get("$omitted")).collect();
            assert_eq!(omitted.len(), 2);
            for marker in omitted {
                let about = marker["bytes"].as_u64().unwrap();
                assert!((262_000_000..263_000_000).contains(&about), "{marker}");
            }
        }
        assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn clients_that_stop_reading_harm_nobody_and_are_cut_off(pool: PgPool) {
    store_long(&pool, 60, 1 << 20, true).await;
    let service = Service::with(reader(&pool).await, &["--client-timeout", "2s"]).await;
    let mut stalled = Vec::new();
    for _ in 0..24 {
        let mut client = ask(&service, "?limit=60").await;
        let mut beginning = [0; 12];
        client.read_exact(&mut beginning).await.unwrap();
        assert_eq!(&beginning, b"HTTP/1.1 200");
        stalled.push(client);
    }
    for _ in 0..5 {
        let asked = Instant::now();
        service.json("/v1/analytics/metrics/summary").await;
        assert_eq!(service.get("/health/ready").await.status(), StatusCode::OK);
        // And one that reads gets all of the same.
        assert_eq!(service.json(&format!("{RECENT}?limit=2")).await["count"], 2);
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    }
    eventually("all of them are cut off", async || {
        let metrics = service.text("/metrics").await;
        let name = "analytics_query_answers_cut_total{reason=\"connection_stalled\"} ";
        let cuts = metrics.lines().find_map(|line| line.strip_prefix(name)?.parse::<u64>().ok());
        cuts.is_some_and(|cuts| cuts >= 24)
    })
    .await;
    for rest in join_all(stalled.into_iter().map(rest_of)).await {
        assert!(rest.len() < 60 << 20 && !rest.ends_with(END), "{} bytes", rest.len());
    }
    assert_eq!(service.json(&format!("{RECENT}?limit=60")).await["count"], 60);
}

#[sqlx::test(migrations = "../migrations")]
async fn sessions_that_end_amid_an_answer_are_replaced(pool: PgPool) {
    store_long(&pool, 40, 1 << 20, true).await;
    let service = Service::start(&pool).await;
    let mut answer = service.get(&format!("{RECENT}?limit=40")).await;
    let mut text = answer.chunk().await.unwrap().unwrap().to_vec();
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND usename <> current_user",
    )
    .execute(&pool)
    .await
    .unwrap();
    while let Some(chunk) = answer.chunk().await.unwrap() {
        text.extend_from_slice(&chunk);
    }
    assert!(text == expected(&pool, 40).await.as_bytes());
}

#[sqlx::test(migrations = "../migrations")]
async fn an_answer_that_cannot_be_finished_breaks_off(pool: PgPool) {
    store_long(&pool, 40, 1 << 20, true).await;
    let service = Service::start(&pool).await;
    let mut client = ask(&service, "?limit=40").await;
    let mut beginning = vec![0; 1 << 20];
    client.read_exact(&mut beginning).await.unwrap();
    sqlx::query("ALTER TABLE analytics_events RENAME TO elsewhere").execute(&pool).await.unwrap();
    let rest = rest_of(client).await;
    let end = String::from_utf8_lossy(rest.get(rest.len().saturating_sub(300)..).unwrap_or_default());
    assert!(rest.len() < 39 << 20 && !rest.ends_with(END), "{} bytes: {end}", rest.len());
    // Before the first byte there is a document instead.
    let problem = service.problem(Method::GET, RECENT, 503).await;
    assert!(problem["detail"].as_str().unwrap().contains("is not migrated"), "{problem}");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_head_and_a_client_that_leaves_give_back_what_they_took(pool: PgPool) {
    store_long(&pool, 8, 1 << 20, true).await;
    let service = Service::with(reader(&pool).await, &["--answer-memory", "32MiB"]).await;
    // More than there are places for long answers.
    for _ in 0..70 {
        let head = service.send(Method::HEAD, RECENT).await;
        assert_eq!((head.status(), head.headers().get("content-length")), (StatusCode::OK, None));
        assert!(head.bytes().await.unwrap().is_empty());
        drop(ask(&service, "").await);
    }
    assert_eq!(service.json(RECENT).await["count"], 8);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_stop_lets_long_answers_end_but_no_longer_than_the_setting(pool: PgPool) {
    store_long(&pool, 60, 1 << 20, true).await;
    let service = Service::start(&pool).await;
    let mut answer = service.get(&format!("{RECENT}?limit=60")).await;
    let mut text = answer.chunk().await.unwrap().unwrap().to_vec();
    service.stop.cancel();
    let whole = spawn(async move {
        while let Some(chunk) = answer.chunk().await.unwrap() {
            text.extend_from_slice(&chunk);
        }
        serde_json::from_slice::<Value>(&text).unwrap()["count"].clone()
    });
    service.ended.await.unwrap().unwrap();
    assert_eq!(whole.await.unwrap(), 60);

    let service = Service::with(reader(&pool).await, &["--drain-timeout", "500ms"]).await;
    let mut stalled = ask(&service, "?limit=60").await;
    stalled.read_exact(&mut [0; 12]).await.unwrap();
    let asked = Instant::now();
    service.stop.cancel();
    service.ended.await.unwrap().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    assert!(!rest_of(stalled).await.ends_with(END));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_summary_of_very_many_types_comes_in_pieces(pool: PgPool) {
    const TYPES: i32 = 30_000;
    for statement in [
        "INSERT INTO event_series (source, event_type)
         SELECT 'tests', 'type-\"é' || number || repeat('-', 60) FROM generate_series(1, 30000) AS number",
        "INSERT INTO event_counts (hour, series_id, shard, total, minutes)
         SELECT hour, id, 0, 61, array_prepend(2, array_fill(1, ARRAY[59]))
         FROM event_series, unnest(ARRAY['2025-11-16T16:00Z', '2025-11-16T17:00Z']::timestamptz[]) AS hour",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    // A budget that they need more than.
    let service =
        Service::with(reader(&pool).await, &["--answer-memory", "4MiB", "--payload-max-bytes", "1MiB"]).await;
    let path = "/v1/analytics/metrics/summary?windowMinutes=720&reference=2025-11-16T18:00:00Z";
    for summary in join_all((0..3).map(|_| service.json(path))).await {
        let types = summary["eventsPerType"].as_object().unwrap();
        assert_eq!(types.len(), usize::try_from(TYPES).unwrap());
        assert!(types.iter().all(|(name, events)| name.starts_with("type-\"é") && *events == 122));
        let intervals: i64 = summary["eventsPerInterval"]
            .as_array()
            .unwrap()
            .iter()
            .map(|interval| interval["count"].as_i64().unwrap())
            .sum();
        assert_eq!(intervals, i64::from(TYPES) * 122);
    }
}
