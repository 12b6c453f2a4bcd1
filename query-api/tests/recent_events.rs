use reqwest::{Method, StatusCode};
use sqlx::PgPool;
use uuid::Uuid;

use crate::harness::{Service, event, reader, store};

#[sqlx::test(migrations = "../migrations")]
async fn newest_first_then_highest_id_across_months(pool: PgPool) {
    let ids: Vec<_> = (1..=4_u128).map(Uuid::from_u128).collect();
    let at = [
        "2025-10-31T23:59:59.999999Z",
        "2025-11-01T00:00:00Z",
        "2025-11-01T00:00:00Z",
        "2025-12-01T00:00:00.048931Z",
    ];
    let mut events: Vec<_> = at.iter().map(|at| event("a", at)).collect();
    events.iter_mut().zip(&ids).for_each(|(event, id)| event.id = *id);
    events[3].tenant = Some(String::new());
    events[3].payload = r#"{"k":[1,null]}"#.to_owned();
    store(&pool, &events).await;
    let service = Service::start(&pool).await;

    let answer = service.json("/v1/analytics/events/recent").await;
    let got: Vec<Uuid> = answer["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["id"].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(got, ids.iter().rev().copied().collect::<Vec<_>>());
    assert_eq!(answer["count"], 4);
    assert_eq!(
        service.text("/api/v1/analytics/events/recent?limit=1").await,
        concat!(
            r#"{"items":[{"id":"00000000-0000-0000-0000-000000000004","eventType":"a","source":"tests","#,
            r#""occurredAt":"2025-12-01T00:00:00.048931+00:00","tenantId":"","payload":{"k": [1, null]}}],"count":1}"#
        )
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn fifty_unless_asked_and_at_most_five_hundred(pool: PgPool) {
    let service = Service::start(&pool).await;
    assert_eq!(service.text("/v1/analytics/events/recent").await, r#"{"items":[],"count":0}"#);
    let one = event("a", "2025-11-16T18:14:00Z");
    let many: Vec<_> = (0..510)
        .map(|_| {
            let mut event = one.clone();
            event.id = Uuid::new_v4();
            event
        })
        .collect();
    store(&pool, &many).await;
    for (query, count) in [("", 50), ("?limit=1", 1), ("?limit=500", 500)] {
        assert_eq!(service.json(&format!("/v1/analytics/events/recent{query}")).await["count"], count);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn every_digit_of_a_payload_is_kept(pool: PgPool) {
    let numbers = [
        "123456789012345678901234567890.1200",
        "0.1000000000000000055511151231257827",
        "1.10",
        "-18446744073709551617",
    ];
    let mut one = event("a", "2025-11-16T18:14:00Z");
    one.payload = format!(r#"{{"numbers": [{}]}}"#, numbers.join(", "));
    store(&pool, std::slice::from_ref(&one)).await;
    let text = Service::start(&pool).await.text("/v1/analytics/events/recent").await;
    assert!(text.contains(&one.payload), "{text}");
}

#[sqlx::test(migrations = "../migrations")]
async fn events_to_be_stored_are_sent_to_the_writer(pool: PgPool) {
    let service = Service::start(&pool).await;
    for path in ["/v1/analytics/events", "/api/v1/analytics/events"] {
        let problem = service.problem(Method::POST, path, 405).await;
        assert!(problem["detail"].as_str().unwrap().contains("ingest-worker"), "{problem}");
        assert_eq!(service.send(Method::POST, path).await.headers()["allow"], "");
        assert_eq!(service.send(Method::GET, path).await.headers()["allow"], "");
    }
    let flags = ["--ingest-public-url", "https://ingest.example.org/base/"];
    let service = Service::with(reader(&pool).await, &flags).await;
    for path in ["/v1/analytics/events?x=1", "/api/v1/analytics/events"] {
        let answer = service.send(Method::POST, path).await;
        assert_eq!(answer.status(), StatusCode::TEMPORARY_REDIRECT);
        assert_eq!(answer.headers()["location"], format!("https://ingest.example.org/base{path}"));
    }
    assert_eq!(service.get("/v1/analytics/events").await.headers()["allow"], "POST");
}
