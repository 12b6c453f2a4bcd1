//! Twin: the certificates of a connection to PostgreSQL, and what is wrong with them.

use std::fmt;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{HandshakeError, SslConnector, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509NameRef, X509Ref, X509StoreContextRef};
use sqlx::Error;
use sqlx::postgres::PgConnectOptions;

use super::Tls;

/// How long a server may take for a step of the handshake that only looks.
const PATIENCE: Duration = Duration::from_secs(5);
const NOT_OFFERED: &str = "the server offers no TLS";

/// What is wrong with TLS, and what to do.
#[derive(Debug, Clone)]
pub struct TlsFault {
    /// A sentence that names the certificate or file.
    pub what: String,
    /// Another one, of advice.
    pub remedy: String,
}

impl fmt::Display for TlsFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}; {}", self.what, self.remedy)
    }
}

impl std::error::Error for TlsFault {}

impl From<TlsFault> for Error {
    fn from(fault: TlsFault) -> Self {
        Self::Tls(Box::new(fault))
    }
}

impl TlsFault {
    pub(super) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }

    /// Within an error of sqlx.
    #[must_use]
    pub fn of(error: &Error) -> Option<&Self> {
        if let Error::Tls(fault) = error { fault.downcast_ref() } else { None }
    }

    pub(super) fn is_not_offered(error: &Error) -> bool {
        Self::of(error).is_some_and(|fault| fault.what == NOT_OFFERED)
    }

    /// Makes sqlx's and OpenSSL's words a sentence. An alert of the server comes as an I/O error, after the handshake.
    pub(super) fn classify(error: Error) -> Error {
        match error {
            Error::Tls(fault) if !fault.is::<Self>() => Self::handshake(&fault.to_string()).into(),
            Error::Io(fault) => match fault.get_ref() {
                Some(inner) if inner.is::<openssl::ssl::Error>() => {
                    Self::handshake(&inner.to_string()).into()
                }
                _ => Error::Io(fault),
            },
            other => other,
        }
    }

    fn handshake(text: &str) -> Self {
        if text.contains("does not support TLS") {
            return Self::new(NOT_OFFERED, "switch `ssl` on there, or use sslmode=prefer or disable");
        }
        // error:CODE:library:function:reason:file:line:
        let reason = if text.starts_with("error:") { text.split(':').nth(4).unwrap_or(text) } else { text };
        let remedy = if reason.contains("alert") {
            "the server says so: see its log, and sslcert and sslkey if it asks for a certificate"
        } else {
            "see the server's log; TLS 1.2 or newer is spoken"
        };
        Self::new(format!("the TLS handshake with the server failed: {reason}"), remedy)
    }
}

pub(super) fn wrapped(fault: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Tls(fault.into())
}

/// What the files held when the connection was begun: they may be replaced while we run.
pub(super) struct Files {
    /// None: the system's.
    pub(super) roots: Vec<X509>,
    identity: Option<(Vec<X509>, PKey<Private>)>,
    trusted: String,
}

impl Files {
    pub(super) fn read(tls: &Tls) -> Result<Self, TlsFault> {
        let (roots, trusted) = match tls.root_file() {
            Some(file) => {
                (certificates("sslrootcert", file)?, format!("in sslrootcert `{}`", file.display()))
            }
            None => (Vec::new(), "among the system's".to_owned()),
        };
        let identity = tls.identity.as_ref().map(|(certificate, key)| identity(certificate, key));
        Ok(Self { roots, identity: identity.transpose()?, trusted })
    }

    /// With our own certificate. sqlx takes PKCS#8 only.
    pub(super) fn identify(&self, options: PgConnectOptions) -> sqlx::Result<PgConnectOptions> {
        let Some((chain, key)) = &self.identity else { return Ok(options) };
        let chain = chain.iter().map(|certificate| certificate.to_pem()).collect::<Result<Vec<_>, _>>();
        let key = key.private_key_to_pem_pkcs8().map_err(wrapped)?;
        Ok(options.ssl_client_cert_from_pem(chain.map_err(wrapped)?.concat()).ssl_client_key_from_pem(key))
    }
}

fn identity(certificate: &Path, file: &Path) -> Result<(Vec<X509>, PKey<Private>), TlsFault> {
    let chain = certificates("sslcert", certificate)?;
    let text = content("sslkey", file)?;
    // Without the callback OpenSSL would ask the terminal for a password.
    let key = PKey::private_key_from_pem_callback(&text, |_| Ok(0)).ok();
    let owner = chain.first().and_then(|certificate| certificate.public_key().ok());
    key.filter(|key| owner.is_some_and(|owner| owner.public_eq(key))).map(|key| (chain, key)).ok_or_else(
        || {
            let what =
                format!("sslkey `{}` is not the key of sslcert `{}`", file.display(), certificate.display());
            TlsFault::new(what, "allowed is its private key in PEM, without a password")
        },
    )
}

fn content(parameter: &str, file: &Path) -> Result<Vec<u8>, TlsFault> {
    let what = |fault| format!("{parameter} `{}` cannot be read: {fault}", file.display());
    std::fs::read(file).map_err(|fault| TlsFault::new(what(fault), "allowed is a readable file"))
}

fn certificates(parameter: &str, file: &Path) -> Result<Vec<X509>, TlsFault> {
    let bytes = content(parameter, file)?;
    let fault = |what: &str| {
        let what = format!("{parameter} `{}` {what}", file.display());
        TlsFault::new(what, "allowed is a file with certificates in PEM (-----BEGIN CERTIFICATE-----)")
    };
    match X509::stack_from_pem(&bytes) {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) if bytes.is_empty() => Err(fault("is empty")),
        Ok(_) if X509::from_der(&bytes).is_ok() => {
            Err(fault("is in DER, which `openssl x509 -inform der` turns into PEM"))
        }
        Ok(_) => Err(fault("holds no certificate")),
        Err(_) => Err(fault("holds a certificate that cannot be read")),
    }
}

/// The handshake by ourselves, and no more: the certificate that the server's chain ends in, or what is wrong with one.
pub(super) async fn examine(
    options: &PgConnectOptions,
    files: &Files,
    is_named: bool,
) -> sqlx::Result<Option<X509>> {
    let host = options.get_host().to_owned();
    let stream = tokio::net::TcpStream::connect((host.as_str(), options.get_port())).await?.into_std()?;
    let connector = connector(files).map_err(wrapped)?;
    let trusted = files.trusted.clone();
    let looks = tokio::task::spawn_blocking(move || handshake(stream, &connector, host, trusted, is_named));
    looks.await.map_err(|_| Error::WorkerCrashed)?.map_err(TlsFault::classify)
}

fn connector(files: &Files) -> Result<SslConnector, ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    if !files.roots.is_empty() {
        builder.set_cert_store(X509StoreBuilder::new()?.build());
    }
    files.roots.iter().try_for_each(|root| builder.cert_store_mut().add_cert(root.clone()))?;
    if let Some((chain, key)) = &files.identity {
        for (index, certificate) in chain.iter().enumerate() {
            match index {
                0 => builder.set_certificate(certificate)?,
                _ => builder.add_extra_chain_cert(certificate.clone())?,
            }
        }
        builder.set_private_key(key)?;
    }
    Ok(builder.build())
}

fn handshake(
    mut stream: TcpStream,
    connector: &SslConnector,
    host: String,
    trusted: String,
    is_named: bool,
) -> sqlx::Result<Option<X509>> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47])?; // PostgreSQL's SSLRequest.
    let mut answer = [0];
    stream.read_exact(&mut answer).map_err(|fault| match fault.kind() {
        ErrorKind::WouldBlock => silent(),
        _ => fault,
    })?;
    if answer != *b"S" {
        return Err(TlsFault::handshake("does not support TLS").into());
    }
    let found = Arc::new(OnceLock::new());
    let mut attempt = connector.configure().map_err(wrapped)?.verify_hostname(is_named);
    attempt.set_verify_callback(SslVerifyMode::PEER, {
        let (found, host) = (found.clone(), host.clone());
        move |is_right, context| {
            if !is_right {
                found.get_or_init(|| complaint(context, &host, &trusted));
            }
            is_right
        }
    });
    match attempt.connect(&host, stream) {
        Ok(stream) => {
            Ok(stream.ssl().verified_chain().and_then(|chain| Some(chain.iter().last()?.to_owned())))
        }
        Err(HandshakeError::WouldBlock(_)) => Err(silent().into()),
        Err(fault) => Err(match found.get() {
            Some(complaint) => complaint.clone().into(),
            None => wrapped(fault.to_string()),
        }),
    }
}

fn silent() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, "the server does not go on with the TLS handshake")
}

/// In OpenSSL's numbers, which are for ever; see `X509_verify_cert_error_string`.
fn complaint(context: &X509StoreContextRef, host: &str, trusted: &str) -> TlsFault {
    let code = context.error();
    let Some(certificate) = context.current_cert() else {
        return TlsFault::new(code.error_string(), "replace the server's certificate");
    };
    let subject = name(certificate.subject_name());
    let which = match context.error_depth() {
        0 => format!("the server's certificate ({subject})"),
        _ => format!("a certificate ({subject}) that the server's rests on"),
    };
    let give = "as sslrootcert (ANALYTICS_POSTGRES_SSLROOTCERT)";
    match code.as_raw() {
        9 => {
            let what = format!("{which} is not valid before {}", certificate.not_before());
            TlsFault::new(what, "compare the clocks of both machines")
        }
        10 => {
            let what = format!("{which} expired on {}", certificate.not_after());
            TlsFault::new(what, "renew it on the server")
        }
        62 | 64 => {
            let what = format!("{which} is for {}, not for `{host}`", names(certificate));
            TlsFault::new(what, "connect by one of its names; sslmode=verify-ca does not compare them")
        }
        18 => TlsFault::new(format!("{which} is self-signed and not {trusted}"), format!("give it {give}")),
        19 => {
            let what = format!("{which} is self-signed and not {trusted}");
            TlsFault::new(what, format!("give this authority's certificate {give}"))
        }
        2 | 20 | 21 => {
            let issuer = name(certificate.issuer_name());
            let what = format!("{which} is issued by {issuer}, which is not {trusted}");
            TlsFault::new(what, format!("give this authority's certificate {give}"))
        }
        _ => {
            let what = format!("{which} is not accepted: {}", code.error_string());
            TlsFault::new(what, "replace it on the server")
        }
    }
}

/// `CN=db.example, O=…`. It comes from a server that nobody trusts yet.
fn name(name: &X509NameRef) -> String {
    let entry = |entry: &openssl::x509::X509NameEntryRef| {
        let key = entry.object().nid().short_name().unwrap_or("?");
        Some(format!("{key}={}", entry.data().to_string().ok()?))
    };
    shown(&name.entries().filter_map(entry).collect::<Vec<_>>().join(", "))
}

/// Whom it was made for; the common name counts where there is no other.
fn names(certificate: &X509Ref) -> String {
    let all = certificate.subject_alt_names();
    let one = |name: &openssl::x509::GeneralNameRef| {
        let address = name.ipaddress().and_then(|bytes| match bytes.len() {
            4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string()),
            _ => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
        });
        name.dnsname().map(str::to_owned).or(address)
    };
    match all.map(|all| all.iter().filter_map(one).collect::<Vec<_>>().join(", ")) {
        Some(names) if !names.is_empty() => shown(&names),
        _ => name(certificate.subject_name()),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}
