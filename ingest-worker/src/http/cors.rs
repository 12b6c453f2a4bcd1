//! Twin: the same file in both processes. Which pages of other origins may use the API from a browser.
//!
//! Not poem's `Cors`: it answers an unlisted origin 401, a client's that is no browser and our own page's too, leaves out
//! `Vary: Origin` where origins are listed, and replaces another `Vary`.

use poem::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use poem::{IntoResponse as _, Request, Response};

/// `ANALYTICS_CORS_ORIGINS`: none, all, or those listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    all: bool,
    listed: Vec<String>,
}

impl Origins {
    /// What may be set, for people.
    pub const ALLOWED: &'static str = "* or origins separated by commas, such as https://app.example.org";

    /// None if the text is empty.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "" => Some(Self::default()),
            "*" => Some(Self { all: true, listed: vec![] }),
            list => Some(Self { all: false, listed: list.split(',').map(origin).collect::<Option<_>>()? }),
        }
    }

    /// The request's origin, if its pages may send requests and read answers.
    #[must_use]
    pub fn allow(&self, request: &Request) -> Option<HeaderValue> {
        let mut origins = request.headers().get_all(header::ORIGIN).iter();
        let origin = origins.next().filter(|_| origins.next().is_none())?;
        let listed = || self.listed.iter().any(|listed| listed.as_bytes() == origin.as_bytes());
        (self.all || listed()).then(|| origin.clone())
    }

    /// The answer to a browser that asks before it sends the request itself.
    #[must_use]
    pub fn preflight(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        let asks = headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if request.method() != Method::OPTIONS || !asks || self.allow(request).is_none() {
            return None;
        }
        let mut response = StatusCode::NO_CONTENT.into_response();
        let answer = response.headers_mut();
        answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST"));
        answer.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        // No header makes a request do more than another client's.
        for names in headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.append(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        Some(response)
    }

    /// What every answer says to a browser. `origin` is from [`Self::allow`].
    pub fn mark(&self, origin: Option<HeaderValue>, headers: &mut HeaderMap) {
        if !self.all && self.listed.is_empty() {
            return;
        }
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = origin else { return };
        let exposed = "Allow, ETag, Location, Retry-After, Server-Timing, X-Request-Id";
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
        // `sendBeacon` always sends with credentials, which `*` does not allow: a page anywhere shall not use those that
        // a proxy in front may ask for.
        if self.all {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        } else {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

/// As browsers write it: scheme and host in lower case, no default port, nothing behind it.
fn origin(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    let uri: Uri = text.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let default = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return None,
    };
    let bare = text == format!("{scheme}://{authority}") && !authority.as_str().contains(['@', '*']);
    bare.then(|| text.strip_suffix(default).unwrap_or(&text).to_owned())
}
