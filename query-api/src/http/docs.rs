//! `/docs`: Scalar from the binary, without a request to anywhere else.
//!
//! The page that poem-openapi would make pastes script and document into one HTML, has fonts fetched from the web, and
//! cannot be cached. So the script is cut out of it and served by its hash, compressed once.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use poem::http::{HeaderValue, StatusCode, header};
use poem::{Body, IntoResponse as _, Request, Response};
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

/// No script but our own file, no connection but to ourselves; Scalar writes its styles into the page.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// A file that never changes while the process runs.
struct Asset {
    plain: Vec<u8>,
    gzip: Vec<u8>,
    /// Quoted.
    etag: String,
}

impl Asset {
    fn new(plain: Vec<u8>) -> std::io::Result<Self> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&plain)?;
        let gzip = gzip.finish()?;
        let etag = format!("\"{}\"", hash(&plain));
        Ok(Self { plain, gzip, etag })
    }

    fn respond(
        &'static self,
        request: &Request,
        content_type: &'static str,
        cache: &'static str,
    ) -> Response {
        let accepts =
            |name, value: &str| request.headers().get_all(name).iter().any(|header| lists(header, value));
        let mut response = if accepts(header::IF_NONE_MATCH, &self.etag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else if accepts(header::ACCEPT_ENCODING, "gzip") {
            let mut response = Body::from(self.gzip.as_slice()).into_response();
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response
        } else {
            Body::from(self.plain.as_slice()).into_response()
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(etag) = HeaderValue::try_from(&self.etag) {
            headers.insert(header::ETAG, etag);
        }
        response
    }
}

/// Whether a comma list names `value`, or everything; `gzip;q=0` does not name it.
fn lists(header: &HeaderValue, value: &str) -> bool {
    let text = header.to_str().unwrap_or("");
    text.split(',').any(|item| {
        let (name, quality) = item.split_once(';').unwrap_or((item, ""));
        let name = name.trim();
        let name = name.strip_prefix("W/").unwrap_or(name);
        let never = quality.trim().strip_prefix("q=").is_some_and(|q| q.parse::<f32>() == Ok(0.0));
        (name == value || name == "*") && !never
    })
}

fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

struct Docs {
    page: Asset,
    script: Asset,
    script_name: String,
    document: Asset,
}

/// Made at the first request: 3 MB are compressed for a third of a second.
async fn docs() -> poem::Result<&'static Docs> {
    static DOCS: OnceCell<Docs> = OnceCell::const_new();
    let made = DOCS.get_or_try_init(|| async {
        let made = tokio::task::spawn_blocking(|| make(super::openapi(), &super::scalar_html())).await;
        made.map_err(std::io::Error::other)?
    });
    made.await.map_err(poem::error::InternalServerError)
}

fn make(specification: String, scalar: &str) -> std::io::Result<Docs> {
    let opening = r#"<script charset="UTF-8">"#;
    let code = scalar
        .split_once(opening)
        .and_then(|(_, rest)| rest.rsplit_once("</script>"))
        .map(|(code, _)| code)
        .ok_or_else(|| {
            std::io::Error::other("Scalar's page has another shape in this release of poem-openapi")
        })?;
    let script_name = format!("scalar-{}.js", hash(code.as_bytes()));
    // In a script element `</script>` would end it, wherever it stands.
    let safe_document = specification.replace('<', "\\u003c");
    let html = format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Analytics API</title>
<link rel="icon" href="data:,">
<style>body {{ margin: 0 }}</style>
</head>
<body>
<noscript>This page needs JavaScript. The OpenAPI document is at <a href="/v1/openapi.json">/v1/openapi.json</a>.</noscript>
<script id="api-reference" type="application/json" data-configuration='{{"withDefaultFonts":false}}'>
{safe_document}
</script>
<script src="/docs/{script_name}"></script>
</body>
</html>
"#
    );
    Ok(Docs {
        page: Asset::new(html.into_bytes())?,
        script: Asset::new(code.as_bytes().to_vec())?,
        script_name,
        document: Asset::new(specification.into_bytes())?,
    })
}

/// `GET /docs`
///
/// # Errors
/// The page could not be made.
#[poem::handler]
pub async fn page(request: &Request) -> poem::Result<Response> {
    let mut response = docs().await?.page.respond(request, "text/html; charset=utf-8", "no-cache");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

/// `GET /docs/scalar-<hash>.js`
///
/// # Errors
/// It has another name in this release, or could not be made.
#[poem::handler]
pub async fn script(request: &Request) -> poem::Result<Response> {
    let docs = docs().await?;
    if request.raw_path_param("file") != Some(docs.script_name.as_str()) {
        return Err(poem::error::NotFoundError.into());
    }
    Ok(docs.script.respond(request, "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"))
}

/// `GET /v1/openapi.json`
///
/// # Errors
/// The document could not be made.
#[poem::handler]
pub async fn document(request: &Request) -> poem::Result<Response> {
    Ok(docs().await?.document.respond(request, "application/json", "no-cache"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_cannot_end_its_script_element() {
        let scalar = r#"<x><script charset="UTF-8">run()</script></x>"#;
        let made = make(r#"{"description":"</script><b>"}"#.to_owned(), scalar).unwrap();
        assert_eq!(made.script.plain, b"run()");
        let html = String::from_utf8(made.page.plain).unwrap();
        assert!(html.contains(r#"{"description":"\u003c/script>\u003cb>"}"#), "{html}");
    }

    #[test]
    fn header_lists_are_read() {
        for (header, value, expected) in [
            ("gzip, br", "gzip", true),
            ("br;q=1.0, gzip;q=0.5", "gzip", true),
            ("gzip;q=0", "gzip", false),
            ("identity", "gzip", false),
            ("W/\"a\", \"b\"", "\"a\"", true),
            ("*", "\"a\"", true),
        ] {
            assert_eq!(lists(&HeaderValue::from_static(header), value), expected, "{header}");
        }
    }
}
