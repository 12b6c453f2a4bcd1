//! Which bodies are read: JSON in UTF-8, without an encoding, whatever number and case of header fields say so.

use poem::Request;
use poem::http::{HeaderMap, HeaderValue, header};

use super::cors::Origins;
use super::error::ApiError;

/// # Errors
/// 415: the body is something else, or encoded.
pub(super) fn check(request: &Request, origins: &Origins) -> Result<(), ApiError> {
    let headers = request.headers();
    refuse_encodings(headers)?;
    // What a browser sends for a page of another origin without asking first: `sendBeacon` of a text or a bare Blob.
    let is_listed = origins.allow(request).is_some();
    if is_listed || !headers.contains_key(header::ORIGIN) || headers.contains_key(header::CONTENT_TYPE) {
        headers.get_all(header::CONTENT_TYPE).iter().try_for_each(|field| check_type(field, is_listed))
    } else {
        Err(ApiError::MediaType("the body has no Content-Type".to_owned()))
    }
}

fn refuse_encodings(headers: &HeaderMap) -> Result<(), ApiError> {
    let fields = headers.get_all(header::CONTENT_ENCODING).iter();
    let text: Vec<_> = fields.map(|field| String::from_utf8_lossy(field.as_bytes())).collect();
    let codings = text.iter().flat_map(|field| field.split(',')).map(str::trim);
    let codings: Vec<_> = codings
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"))
        .map(shortened)
        .collect();
    if codings.is_empty() {
        return Ok(());
    }
    let known = ["gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"];
    let compressed = |coding: &String| known.iter().any(|known| known.eq_ignore_ascii_case(coding));
    let what = if codings.iter().all(compressed) { "compressed" } else { "encoded" };
    Err(ApiError::ContentEncoding(format!("{what} ({})", codings.join(", "))))
}

fn check_type(field: &HeaderValue, is_listed: bool) -> Result<(), ApiError> {
    let text = String::from_utf8_lossy(field.as_bytes());
    let Some(essence) = utf8_essence(&text) else {
        return Err(ApiError::MediaType(format!("the body is '{}', not in UTF-8", shortened(&text))));
    };
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    match (essence.eq_ignore_ascii_case("text/plain"), is_listed) {
        (true, true) => Ok(()),
        (true, false) => Err(ApiError::MediaType(
            "the body is 'text/plain', which is taken from pages of the origins in ANALYTICS_CORS_ORIGINS alone"
                .to_owned(),
        )),
        _ => Err(ApiError::MediaType(format!("the body is '{}', not JSON", shortened(&text)))),
    }
}

/// The media type, if its charset is UTF-8, a part of that, or not told.
fn utf8_essence(content_type: &str) -> Option<&str> {
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let charset_fits = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim().trim_matches('"');
        !name.trim().eq_ignore_ascii_case("charset")
            || ["utf-8", "utf8", "us-ascii"].iter().any(|charset| charset.eq_ignore_ascii_case(value))
    };
    parts.all(charset_fits).then_some(essence)
}

/// What a client sent, in an answer of bounded length.
fn shortened(text: &str) -> String {
    if text.chars().count() <= 64 { text.to_owned() } else { text.chars().take(63).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_fields(fields: &[(&str, &[u8])], origins: &str) -> Result<(), String> {
        let mut request = Request::builder().uri_str("/v1/analytics/events").finish();
        for (name, value) in fields {
            let name: poem::http::HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, HeaderValue::from_bytes(value).unwrap());
        }
        check(&request, &Origins::parse(origins).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn json_is_known_by_its_media_type() {
        for (types, expected) in [
            (&["application/json"] as &[&str], true),
            (&[], true),
            (&["Application/JSON; charset=\"UTF-8\""], true),
            (&["application/json;charset=utf8;x=y"], true),
            (&["application/json", "application/json"], true),
            (&["application/json", "text/plain"], false),
            (&["text/plain", "application/json"], false),
            (&["application/json; charset=latin1"], false),
            (&["application/x-www-form-urlencoded"], false),
            (&["text/plain"], false),
            (&["\u{e9}"], false),
            (&[""], false),
        ] {
            let fields: Vec<_> = types.iter().map(|text| ("content-type", text.as_bytes())).collect();
            assert_eq!(check_fields(&fields, "").is_ok(), expected, "{types:?}");
        }
    }

    #[test]
    fn an_encoding_is_named_and_never_called_another_type() {
        let json: (&str, &[u8]) = ("content-type", b"application/json");
        for (codings, told) in [
            (&[b"identity" as &[u8]] as &[&[u8]], None),
            (&[b"Identity", b" IDENTITY ,"], None),
            (&[b""], None),
            (&[b"GZip"], Some("compressed (GZip)")),
            (&[b"identity", b"gzip"], Some("compressed (gzip)")),
            (&[b"identity, br ,zstd"], Some("compressed (br, zstd)")),
            (&[b"aes128gcm"], Some("encoded (aes128gcm)")),
            (&[b"\xff"], Some("encoded (\u{fffd})")),
        ] {
            let fields = codings.iter().map(|coding| ("content-encoding", *coding)).chain([json]);
            let told = told.map(|told| format!("the body is {told}; send it without Content-Encoding"));
            assert_eq!(check_fields(&fields.collect::<Vec<_>>(), "").err(), told);
        }
    }

    #[test]
    fn what_a_browser_sends_unasked_is_taken_from_listed_origins_alone() {
        let (ours, other): (&[u8], &[u8]) = (b"https://app.example.org", b"https://evil.example.org");
        let text: (&str, &[u8]) = ("content-type", b"text/plain;charset=UTF-8");
        for listed in ["https://app.example.org", "https://b.example.org, HTTPS://App.example.org:443", "*"] {
            assert_eq!(check_fields(&[("origin", ours), text], listed), Ok(()), "{listed}");
            assert_eq!(check_fields(&[("origin", ours)], listed), Ok(()), "{listed}");
            let is_all = listed == "*";
            assert_eq!(check_fields(&[("origin", other), text], listed).is_ok(), is_all, "{listed}");
            assert_eq!(check_fields(&[("origin", other)], listed).is_ok(), is_all, "{listed}");
            assert!(check_fields(&[text], listed).is_err(), "{listed}");
        }
        let told = check_fields(&[("origin", ours), text], "").unwrap_err();
        assert!(told.contains("ANALYTICS_CORS_ORIGINS"), "{told}");
    }
}
