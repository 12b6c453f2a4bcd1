use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT_ENCODING, IF_NONE_MATCH};
use sqlx::PgPool;

use crate::harness::Service;

/// `REWRITE_OPENAPI=1 cargo test -p query-api` writes the file; what changed is then read in the diff.
#[tokio::test]
async fn the_openapi_document_changes_only_on_purpose() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi.json");
    let document = query_api::http::openapi() + "\n";
    if std::env::var_os("REWRITE_OPENAPI").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    let pinned = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        document == pinned,
        "the document differs from tests/openapi.json: REWRITE_OPENAPI=1 writes it anew"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn the_document_describes_what_is_there(pool: PgPool) {
    let service = Service::start(&pool).await;
    let document = service.json("/v1/openapi.json").await;
    assert_eq!(document, serde_json::from_str::<serde_json::Value>(&query_api::http::openapi()).unwrap());
    for (path, operations) in document["paths"].as_object().unwrap() {
        if operations.get("get").is_some() {
            assert_eq!(service.get(path).await.status(), StatusCode::OK, "{path}");
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn the_page_asks_nobody_else_for_anything(pool: PgPool) {
    let service = Service::start(&pool).await;
    let page = service.get("/docs").await;
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("http"), "{policy}");
    let html = page.text().await.unwrap();
    // What a browser fetches by itself: sources and links, not addresses in texts.
    for attribute in [" src=", " href=", "url("] {
        for (_, rest) in html.match_indices(attribute).map(|(at, _)| html.split_at(at + attribute.len())) {
            let target = rest.trim_start_matches('"');
            assert!(
                target.starts_with('/') && !target.starts_with("//") || target.starts_with("data:"),
                "{attribute}{target:.60}"
            );
        }
    }
    assert!(html.contains(r#""withDefaultFonts":false"#));
    assert_eq!(html.matches("</script>").count(), 2);

    let (_, rest) = html.split_once(r#"<script src=""#).unwrap();
    let script = rest.split('"').next().unwrap();
    let answer = service.get(script).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["cache-control"], "public, max-age=31536000, immutable");
    assert!(answer.text().await.unwrap().len() > 1_000_000);
}

#[sqlx::test(migrations = "../migrations")]
async fn pages_are_compressed_and_answered_304(pool: PgPool) {
    let service = Service::start(&pool).await;
    let client = reqwest::Client::new();
    let url = format!("http://{}/docs", service.address);
    let plain = client.get(&url).send().await.unwrap();
    let etag = plain.headers()["etag"].clone();
    let plain = plain.bytes().await.unwrap();

    let packed = client.get(&url).header(ACCEPT_ENCODING, "br, gzip").send().await.unwrap();
    assert_eq!(
        (&packed.headers()["content-encoding"], &packed.headers()["vary"]),
        (&"gzip".parse().unwrap(), &"Accept-Encoding".parse().unwrap())
    );
    let packed_etag = packed.headers()["etag"].clone();
    let packed = packed.bytes().await.unwrap();
    assert_ne!(packed_etag, etag, "other bytes have another tag");
    assert!(packed.len() < plain.len() / 2);
    let mut unpacked = Vec::new();
    GzDecoder::new(packed.as_ref()).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain);

    // Either copy is the current content; the answer names the one that the client has.
    let (etag, packed_etag) = (etag.to_str().unwrap(), packed_etag.to_str().unwrap());
    let strong = etag.strip_prefix("W/").unwrap();
    for (sent, known) in [
        (vec![etag], Some(etag)),
        (vec![strong], Some(etag)),
        (vec![packed_etag], Some(packed_etag)),
        (vec!["\"x\"", etag], Some(etag)),
        (vec!["\"x\", W/\"y\"", &format!("\"z\", {packed_etag}")], Some(packed_etag)),
        (vec!["*"], Some(packed_etag)),
        (vec!["\"x\""], None),
    ] {
        let mut request = client.get(&url).header(ACCEPT_ENCODING, "gzip");
        for field in &sent {
            request = request.header(IF_NONE_MATCH, *field);
        }
        let again = request.send().await.unwrap();
        let status = if known.is_some() { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        assert_eq!((again.status(), &again.headers()["vary"]), (status, &"Accept-Encoding".parse().unwrap()));
        assert_eq!(again.headers()["etag"], known.unwrap_or(packed_etag), "{sent:?}");
        assert_eq!(again.bytes().await.unwrap().is_empty(), known.is_some(), "{sent:?}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn what_a_client_decodes_is_read_from_all_fields_in_any_case(pool: PgPool) {
    let service = Service::start(&pool).await;
    let client = reqwest::Client::new();
    let url = format!("http://{}/v1/openapi.json", service.address);
    for (fields, packed) in [
        (vec![], false),
        (vec!["GZIP"], true),
        (vec!["br;q=1.0, x-gzip ; Q=0.5"], true),
        (vec!["br", "gzip"], true),
        (vec!["*"], true),
        (vec!["gzip;q=0, *"], false),
        (vec!["*", "gzip;q=0.000"], false),
        (vec!["identity"], false),
    ] {
        let mut request = client.get(&url);
        for field in &fields {
            request = request.header(ACCEPT_ENCODING, *field);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers().contains_key("content-encoding"), packed, "{fields:?}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn the_metrics_have_help_units_and_bounded_labels(pool: PgPool) {
    let service = Service::start(&pool).await;
    for path in [
        "/v1/analytics/metrics/summary",
        "/v1/analytics/events/recent",
        "/some/path/of/a/client",
        "/health/ready",
    ] {
        service.get(path).await;
    }
    let text = service.text("/metrics").await;
    for line in [
        r#"http_server_request_duration_seconds_count{method="GET",route="/v1/analytics/metrics/summary",status="200"}"#,
        r#"http_server_request_duration_seconds_count{method="GET",route="none",status="404"}"#,
        r#"analytics_query_pool_connections{state="idle"}"#,
        "analytics_query_pool_connections_limit 8",
        &format!(r#"build_info{{version="{}"}} 1"#, env!("CARGO_PKG_VERSION")),
        "process_resident_memory_bytes",
    ] {
        assert!(text.lines().any(|l| l.starts_with(line)), "{line} is not in {text}");
    }
    assert!(!text.contains("/some/path"));
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
}
