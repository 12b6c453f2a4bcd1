//! Twin: the same file in both processes. `/docs`: Scalar from the binary, without a request to anywhere else.
//!
//! The page that poem-openapi would make pastes script and document into one HTML, has fonts fetched from the web, and
//! cannot be cached. So the script is cut out of it and served by its hash, compressed once.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use poem::http::{HeaderMap, HeaderValue, StatusCode, header};
use poem::web::headers::{ETag, HeaderMapExt as _, IfNoneMatch};
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
    /// Weak, and another one for other bytes.
    tag: ETag,
    gzip_tag: ETag,
}

impl Asset {
    fn new(plain: Vec<u8>) -> std::io::Result<Self> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&plain)?;
        let gzip = gzip.finish()?;
        let tag = |suffix: &str| {
            let tag = format!("W/\"{}{suffix}\"", hash(&plain));
            tag.parse().map_err(|_| std::io::Error::other("a hash is no entity tag"))
        };
        Ok(Self { tag: tag("")?, gzip_tag: tag("-gzip")?, plain, gzip })
    }

    fn respond(
        &'static self,
        request: &Request,
        content_type: &'static str,
        cache: &'static str,
    ) -> Response {
        let packed = accepts_gzip(request.headers());
        let (tag, other) = if packed { (&self.gzip_tag, &self.tag) } else { (&self.tag, &self.gzip_tag) };
        // Who has the content in the other encoding has it too; the answer names the copy that the client has.
        let held = request.headers().typed_get::<IfNoneMatch>();
        let held = held.and_then(|held| [tag, other].into_iter().find(|tag| !held.precondition_passes(tag)));
        let mut response = match held {
            Some(_) => StatusCode::NOT_MODIFIED.into_response(),
            None if packed => {
                Body::from(self.gzip.as_slice()).with_header("content-encoding", "gzip").into_response()
            }
            None => Body::from(self.plain.as_slice()).into_response(),
        };
        response.headers_mut().typed_insert(held.unwrap_or(tag).clone());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

/// `gzip` or `x-gzip` in any case, else `*`; not with a weight of 0.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|field| field.to_str().ok());
    let codings: Vec<_> = fields.flat_map(|field| field.split(',')).collect();
    let weight = |names: &[&str]| {
        codings.iter().find_map(|coding| {
            let (name, parameter) = coding.split_once(';').unwrap_or((coding, "q=1"));
            let named = names.iter().any(|wanted| wanted.eq_ignore_ascii_case(name.trim()));
            let weight = parameter.split_once('=').and_then(|(_, weight)| weight.trim().parse::<f32>().ok());
            named.then(|| weight.unwrap_or(1.0))
        })
    };
    weight(&["gzip", "x-gzip"]).or_else(|| weight(&["*"])).is_some_and(|weight| weight > 0.0)
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
    let html = include_str!("docs.html").replace("SCRIPT", &script_name).replace("DOCUMENT", &safe_document);
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
}
