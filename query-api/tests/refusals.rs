use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::harness::{Service, reader};

fn named(problem: &Value) -> Vec<&str> {
    problem["errors"].as_array().unwrap().iter().map(|error| error["parameter"].as_str().unwrap()).collect()
}

#[sqlx::test(migrations = "../migrations")]
async fn an_unknown_or_repeated_parameter_is_400_and_says_what_is_allowed(pool: PgPool) {
    let service = Service::start(&pool).await;
    for (path, names) in [
        ("/v1/analytics/metrics/summary?windowMinute=5", vec!["windowMinute"]),
        ("/v1/analytics/metrics/summary?windowMinutes=5&windowMinutes=6", vec!["windowMinutes"]),
        ("/api/v1/analytics/metrics/summary?a=1&b&windowMinutes=3", vec!["a", "b"]),
        ("/v1/analytics/events/recent?Limit=5", vec!["Limit"]),
    ] {
        let problem = service.problem(Method::GET, path, 400).await;
        assert_eq!(named(&problem), names);
    }
    let problem = service.problem(Method::GET, "/v1/analytics/events/recent?size=5", 400).await;
    assert_eq!(problem["type"], "/docs#description/unknown-parameter");
    assert_eq!(problem["errors"][0]["allowed"], "limit");
}

#[sqlx::test(migrations = "../migrations")]
async fn every_refused_value_is_named_at_once(pool: PgPool) {
    let service = Service::start(&pool).await;
    let problem = service
        .problem(Method::GET, "/v1/analytics/metrics/summary?windowMinutes=3&reference=soon", 422)
        .await;
    assert_eq!(
        problem["errors"],
        json!([
            {"parameter": "windowMinutes", "detail": "is 3, below 5", "allowed": "a whole number from 5 to 10080"},
            {"parameter": "reference", "detail": "is `soon`, not an instant",
             "allowed": "an instant of the years 1 to 9999: 2025-11-16T18:14:00Z, with an offset, with a fraction, without \
                         either (UTC), or a date"},
        ])
    );
    for query in
        ["limit=0", "limit=501", "limit=", "limit", "limit=5.0", "limit=99999999999999999999", "limit=%00"]
    {
        let problem =
            service.problem(Method::GET, &format!("/v1/analytics/events/recent?{query}"), 422).await;
        assert_eq!(named(&problem), ["limit"], "{query}");
    }
    for query in ["windowMinutes=4", "windowMinutes=10081", "windowMinutes=-60", "windowMinutes=5%20"] {
        let problem =
            service.problem(Method::GET, &format!("/v1/analytics/metrics/summary?{query}"), 422).await;
        assert_eq!(named(&problem), ["windowMinutes"], "{query}");
    }
    for reference in ["", "0000-12-31", "10000-01-01", "1763316840", "2025-02-30", "2025-11-16T18:14:60Z"] {
        let path = format!("/v1/analytics/metrics/summary?reference={reference}");
        assert_eq!(named(&service.problem(Method::GET, &path, 422).await), ["reference"], "{reference}");
    }
    // The window, or the first bucket of it, would begin in the year 0.
    for early in [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:59:59.999999Z",
        "0001-01-01T00:05:00Z&windowMinutes=6",
        "0001-01-08T00:00:00Z&windowMinutes=10080",
        "0001-01-01T02:30:00+02:00",
    ] {
        let path = format!("/v1/analytics/metrics/summary?reference={}", early.replace('+', "%2B"));
        assert_eq!(named(&service.problem(Method::GET, &path, 422).await), ["reference"], "{early}");
    }
    for path in ["reference=0001-01-02", "reference=9999-12-31T23:59:59.999999Z&windowMinutes=10080"] {
        service.text(&format!("/v1/analytics/metrics/summary?{path}")).await;
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn what_the_router_refuses_is_a_problem_document_too(pool: PgPool) {
    let service = Service::start(&pool).await;
    for path in [
        "/nothing",
        "/v1/analytics",
        "/v1/analytics/events/recent//",
        "//",
        "/api/health",
        "/api/docs",
        "/docs/other.js",
    ] {
        service.problem(Method::GET, path, 404).await;
    }
    for path in
        ["/v1/analytics/events/recent?limit=%zz", "/v1/analytics/metrics/summary?%ff=1", "/v1/%c3%28", "/%"]
    {
        let problem = service.problem(Method::GET, path, 400).await;
        assert_eq!(problem["type"], "/docs#description/unreadable-request");
    }
    for path in [
        "/v1/analytics/events/recent",
        "/api/v1/analytics/metrics/summary",
        "/docs",
        "/health/live",
        "/metrics",
        "/",
    ] {
        for method in [Method::DELETE, Method::OPTIONS, Method::from_bytes(b"BREW").unwrap()] {
            service.problem(method.clone(), path, 405).await;
            assert_eq!(service.send(method, path).await.headers()["allow"], "GET, HEAD", "{path}");
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_trailing_slash_is_the_same_route(pool: PgPool) {
    let service = Service::start(&pool).await;
    let query = "?reference=2025-11-16T18:14:00Z";
    for path in ["/v1/analytics/metrics/summary", "/api/v1/analytics/metrics/summary"] {
        let with = service.text(&format!("{path}/{query}")).await;
        assert_eq!(with, service.text(&format!("{path}{query}")).await);
    }
    for path in [
        "/v1/analytics/events/recent/",
        "/health/",
        "/health/ready/",
        "/metrics/",
        "/docs/",
        "/v1/openapi.json/",
    ] {
        assert_eq!(service.get(path).await.status(), StatusCode::OK, "{path}");
    }
    service.problem(Method::GET, "/v1/analytics/events/recent/?limit=0", 422).await;
    service.problem(Method::DELETE, "/health/", 405).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn pages_of_listed_origins_may_ask_and_no_other(pool: PgPool) {
    let listed = ["--cors-origins", "https://app.example.org, http://localhost:3000"];
    let off = Service::start(&pool).await;
    let some = Service::with(reader(&pool).await, &listed).await;
    let all = Service::with(reader(&pool).await, &["--cors-origins", "*"]).await;
    let client = reqwest::Client::new();
    let (ours, other) = ("http://localhost:3000", "https://evil.example.org");
    for (service, origin, told, credentials) in [
        (&off, ours, None, None),
        (&some, ours, Some(ours), Some("true")),
        (&some, other, None, None),
        (&all, other, Some("*"), None),
    ] {
        for (path, status) in
            [("/v1/analytics/events/recent", 200), ("/v1/analytics/events/recent?limit=0", 422), ("/no", 404)]
        {
            let url = format!("http://{}{path}", service.address);
            let answer = client.get(&url).header("origin", origin).send().await.unwrap();
            let header = |name| answer.headers().get(name).map(|value| value.to_str().unwrap());
            assert_eq!(answer.status(), status, "{path}");
            assert_eq!(header("access-control-allow-origin"), told, "{path} {origin}");
            assert_eq!(header("access-control-allow-credentials"), credentials, "{path} {origin}");
            let varies = answer.headers().get_all("vary").iter().any(|vary| vary == "Origin");
            assert_eq!(varies, service.address != off.address, "{path} {origin}");
        }
        let url = format!("http://{}/v1/analytics/events/recent", service.address);
        let asked = client.request(Method::OPTIONS, url).header("origin", origin);
        let asked = asked.header("access-control-request-method", "GET");
        let asked = asked.header("access-control-request-headers", "x-request-id,if-none-match");
        let answer = asked.send().await.unwrap();
        let headers = answer.headers();
        if told.is_some() {
            assert_eq!(answer.status(), StatusCode::NO_CONTENT);
            assert_eq!(headers["access-control-allow-methods"], "GET, HEAD, POST");
            assert_eq!(headers["access-control-allow-headers"], "x-request-id,if-none-match");
        } else {
            assert_eq!((answer.status().as_u16(), &headers["allow"]), (405, &"GET, HEAD".parse().unwrap()));
            assert!(!headers.contains_key("access-control-allow-methods"));
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn every_answer_has_an_id_and_a_time_and_head_works(pool: PgPool) {
    let service = Service::start(&pool).await;
    let paths = [
        "/v1/analytics/metrics/summary",
        "/v1/analytics/events/recent",
        "/health",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/v1/openapi.json",
        "/docs",
        "/",
        "/nothing",
    ];
    for path in paths {
        let (get, head) = (service.get(path).await, service.send(Method::HEAD, path).await);
        assert_eq!(get.status(), head.status(), "{path}");
        assert_eq!(get.headers().get("content-type"), head.headers().get("content-type"), "{path}");
        for answer in [get, head] {
            uuid::Uuid::parse_str(answer.headers()["x-request-id"].to_str().unwrap()).unwrap();
            assert!(answer.headers()["server-timing"].to_str().unwrap().starts_with("total;dur="));
        }
    }
    let client = reqwest::Client::new();
    for (sent, kept) in
        [("abc-1.2:3/4+5=6_7", true), ("a b", false), ("\"", false), (&"x".repeat(129), false)]
    {
        let request =
            client.get(format!("http://{}/health/live", service.address)).header("x-request-id", sent);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["x-request-id"] == sent, kept, "{sent}");
    }
}
