//! Twin: where PostgreSQL is, as whom to log in, and how a connection is made. The settings are the only source: what sqlx
//! would take from libpq's variables and files is overridden or cleared.

mod tls;
mod url;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, Error, PgConnection};

pub use tls::TlsFault;
use tls::{Files, examine, wrapped};
pub use url::{SSL_MODES, host, mode, name, read};

/// Server and login. No `Debug`: it holds a password.
#[derive(Clone, Default)]
pub struct Target {
    /// Name, address, or the folder of a Unix socket, which begins with `/`.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
    /// Login role.
    pub user: String,
    /// None for a server that asks for none.
    pub password: Option<String>,
    /// Never empty.
    pub database: String,
    /// Prepared statements that a session keeps.
    pub statement_cache: usize,
    /// What is asked of the server's certificate.
    pub tls: Tls,
}

impl Target {
    /// What a setting holds that is sslrootcert itself, where the URL says none.
    const ROOT: &str = "ANALYTICS_POSTGRES_SSLROOTCERT";

    /// What can be known before anything connects. `url` is the setting that the URL came from, `root` what the setting of
    /// the root certificate says.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn check(&self, url: Option<&str>, root: Option<&Path>) -> Result<(), String> {
        self.tls.check().map_err(|TlsFault { what, remedy }| match (url, root) {
            (_, Some(root)) if self.tls.root.as_deref() == Some(root) && what.starts_with("sslrootcert") => {
                format!("{} is `{}`; {remedy}: {what}", Self::ROOT, root.display())
            }
            (url, _) => format!("{}: {what}; {remedy}", url.unwrap_or(Self::ROOT)),
        })
    }

    /// For sqlx; TLS is added by [`connect`].
    #[must_use]
    pub fn options(&self, application: &str) -> PgConnectOptions {
        let options = PgConnectOptions::new_without_pgpass()
            .host(&self.host)
            .port(self.port)
            .username(&self.user)
            .password(self.password.as_deref().unwrap_or_default())
            .database(&self.database)
            .application_name(application)
            .statement_cache_capacity(self.statement_cache)
            .disable_statement_logging();
        if self.host.starts_with('/') { options.socket(&self.host) } else { options }
    }
}

/// How TLS is used, in libpq's words.
#[derive(Clone, Default)]
pub struct Tls {
    /// `prefer` by default.
    pub mode: PgSslMode,
    /// What is trusted instead of the system's certificates, which `system` names.
    pub root: Option<PathBuf>,
    /// Our own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// `require` with a root certificate verifies as `verify-ca`: so does libpq.
    fn verifies(&self) -> bool {
        let required = matches!(self.mode, PgSslMode::Require) && self.root.is_some();
        required || matches!(self.mode, PgSslMode::VerifyCa | PgSslMode::VerifyFull)
    }

    fn root_file(&self) -> Option<&Path> {
        self.root.as_deref().filter(|root| *root != Path::new("system"))
    }

    fn check(&self) -> Result<(), TlsFault> {
        if self.root.is_some() && self.root_file().is_none() && !matches!(self.mode, PgSslMode::VerifyFull) {
            let what = "sslrootcert=system trusts every public authority";
            return Err(TlsFault::new(what, "allowed with it is sslmode=verify-full"));
        }
        Files::read(self).map(drop)
    }

    /// What is allowed but probably not meant.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        match self.mode {
            PgSslMode::VerifyCa if self.root.is_none() => Some(
                "sslmode=verify-ca without sslrootcert takes any public authority's certificate for any host: use verify-full",
            ),
            _ if self.root.is_some() && !self.verifies() => Some(
                "sslrootcert is given, but this sslmode verifies nothing: use require, verify-ca or verify-full",
            ),
            _ => None,
        }
    }
}

/// Takes out of the environment what sqlx would read there and nothing could clear later. Before any thread.
#[expect(
    unsafe_code,
    reason = "sound as long as the process has one thread; there is no other way to clear PGOPTIONS"
)]
pub fn forget_libpq_variables() {
    let names =
        "HOST HOSTADDR PORT USER DATABASE PASSWORD OPTIONS APPNAME SSLMODE SSLROOTCERT SSLCERT SSLKEY";
    for name in names.split(' ') {
        // SAFETY: called first in `main`.
        unsafe { std::env::remove_var(format!("PG{name}")) };
    }
}

/// A connection, with the fall-back of libpq between TLS and none.
///
/// # Errors
/// As PostgreSQL says; what is wrong with TLS or a certificate is a [`TlsFault`] within [`Error::Tls`].
pub async fn connect(options: &PgConnectOptions, tls: &Tls) -> sqlx::Result<PgConnection> {
    let plain = open(options, PgSslMode::Disable);
    // A Unix socket knows no TLS: as libpq, whatever the mode.
    let is_local = options.get_host().starts_with('/') || options.get_socket().is_some();
    if is_local || matches!(tls.mode, PgSslMode::Disable) {
        return plain.await;
    }
    let unused = Tls { root: None, ..tls.clone() };
    let files = Files::read(if tls.verifies() { tls } else { &unused })?;
    let secured = files.identify(options.clone())?;
    match tls.mode {
        _ if tls.verifies() => verified(secured, tls, files).await.map_err(|error| seen(error, tls)),
        PgSslMode::Allow => match plain.await {
            Err(first) if is_refused(&first) => again(first, open(&secured, PgSslMode::Require).await),
            opened => opened,
        },
        PgSslMode::Prefer => match open(&secured, PgSslMode::Prefer).await {
            Err(first) if is_refused(&first) || is_of_tls(&first) => again(first, plain.await),
            opened => opened,
        },
        _ => open(&secured, PgSslMode::Require).await.map_err(|error| seen(error, tls)),
    }
}

/// PgBouncer refuses the parameter that is left out here; the session sets it.
async fn open(options: &PgConnectOptions, mode: PgSslMode) -> sqlx::Result<PgConnection> {
    let options = options.clone().ssl_mode(mode).extra_float_digits(None);
    PgConnection::connect_with(&options).await.map_err(TlsFault::classify)
}

/// A server that does not accept our certificate says so after the handshake, and its words may be lost with the connection.
fn seen(error: Error, tls: &Tls) -> Error {
    match (&tls.identity, &error) {
        (Some((certificate, _)), Error::Io(fault)) if is_ended(fault) => {
            let what =
                format!("the server ended the connection when shown sslcert `{}`", certificate.display());
            TlsFault::new(what, "see its log, whether it accepts this certificate").into()
        }
        _ => error,
    }
}

/// sqlx takes one root certificate, the first of a file, and the system's besides. So the chain is looked at before, with
/// those of the file alone, and sqlx gets the one that it ends in.
async fn verified(options: PgConnectOptions, tls: &Tls, files: Files) -> sqlx::Result<PgConnection> {
    let is_named = matches!(tls.mode, PgSslMode::VerifyFull);
    let mode = if is_named { PgSslMode::VerifyFull } else { PgSslMode::VerifyCa };
    let root = if files.roots.is_empty() { None } else { examine(&options, &files, is_named).await? };
    let options = match root {
        Some(root) => options.ssl_root_cert_from_pem(root.to_pem().map_err(wrapped)?),
        None => options,
    };
    match open(&options, mode).await {
        // It says neither which certificate was refused nor why.
        Err(Error::Tls(fault)) => match examine(&options, &files, is_named).await {
            Err(Error::Tls(found)) => Err(Error::Tls(found)),
            _ => Err(Error::Tls(fault)),
        },
        opened => opened,
    }
}

/// Refused before a password counts: by `pg_hba.conf`, or by a pooler that takes one kind only. A wrong password (28P01)
/// is none: it stays wrong.
fn is_refused(error: &Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| ["28000", "08P01", "08004"].contains(&code.as_ref()))
}

/// The handshake failed, or the server ended the connection or answered otherwise when asked for TLS.
fn is_of_tls(error: &Error) -> bool {
    matches!(error, Error::Tls(_) | Error::Protocol(_))
        || matches!(error, Error::Io(fault) if is_ended(fault))
}

fn is_ended(fault: &std::io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    [BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof].contains(&fault.kind())
}

/// Of two refusals the one that tells more: the second if it came further than the first.
fn again(first: Error, second: sqlx::Result<PgConnection>) -> sqlx::Result<PgConnection> {
    second.map_err(
        |second| if is_refused(&second) || TlsFault::is_not_offered(&second) { first } else { second },
    )
}
