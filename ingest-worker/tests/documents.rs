use std::path::Path;

/// `REWRITE_OPENAPI=1 cargo test -p ingest-worker --test main` writes the file; what changed is then read in the diff.
#[test]
fn the_openapi_document_changes_only_on_purpose() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi.json");
    let document = ingest_worker::http::openapi() + "\n";
    if std::env::var_os("REWRITE_OPENAPI").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    let pinned = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        document == pinned,
        "the document differs from tests/openapi.json: REWRITE_OPENAPI=1 writes it anew"
    );
}
