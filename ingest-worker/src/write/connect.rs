use std::{fmt, io, path::PathBuf, time::Duration};

use sqlx::{PgConnection, postgres::PgConnectOptions};

use super::failure::{Statement, WriteFailure, needs_a_person};
use super::{nodelay, session};
use crate::config::{Faults, Secret};
use crate::postgres::{self, Target, Tls, TlsFault};
use crate::postgres_session::{self, BRIEFLY, Server, THOROUGHLY};
use crate::telemetry::Throttle;

const URL: &str = "ANALYTICS_DATABASE_URL";

/// How long a connection may take, the settings of its session included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that is refused for its settings is worth a line this often.
static REFUSED_LINE: Throttle = Throttle::new(Duration::from_secs(30));

/// Where PostgreSQL is.
#[derive(clap::Args)]
#[command(next_help_heading = "PostgreSQL")]
pub struct DatabaseArgs {
    /// Login role, needed if there is no URL; all workers use the same one
    #[arg(long, env = "ANALYTICS_POSTGRES_USER", value_name = "NAME")]
    postgres_user: Option<String>,
    /// Host name, address (IPv6 too), or the folder of a Unix socket
    #[arg(long, env = "ANALYTICS_POSTGRES_HOST", default_value = "localhost", value_name = "HOST")]
    postgres_host: String,
    /// Port
    #[arg(long, env = "ANALYTICS_POSTGRES_PORT", default_value = "5432", value_name = "PORT")]
    postgres_port: String,
    /// Database, needed if there is no URL
    #[arg(long, env = "ANALYTICS_POSTGRES_DB", value_name = "NAME")]
    postgres_db: Option<String>,
    /// disable, allow, prefer, require, verify-ca or verify-full, as libpq means them: the first four verify nothing
    #[arg(long, env = "ANALYTICS_POSTGRES_SSLMODE", default_value = "prefer", value_name = "MODE")]
    postgres_sslmode: String,
    /// File of certificates (PEM) that the server's chain must end in, for verify-ca and verify-full; require then verifies as verify-ca
    #[arg(long, env = "ANALYTICS_POSTGRES_SSLROOTCERT", value_name = "FILE")]
    postgres_sslrootcert: Option<String>,
    /// After this long a claim of a partition ends the frozen worker that holds it
    #[arg(long, env = "ANALYTICS_CLAIM_LOCK_TIMEOUT", default_value = "2s", value_name = "DURATION")]
    claim_lock_timeout: String,
}

/// [`DatabaseArgs`], checked.
#[derive(Clone)]
pub struct DatabaseSettings {
    /// Where and as whom to log in.
    pub options: PgConnectOptions,
    /// What is asked of the server's certificate.
    pub tls: Tls,
    /// How long a claim waits for the row before its holder counts as frozen.
    pub claim_lock_timeout: Duration,
}

/// Never the password.
impl fmt::Debug for DatabaseSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.target())
    }
}

impl DatabaseArgs {
    /// Notes each fault. `application` is the name that `pg_stat_activity` shows.
    pub fn check(self, application: &str, faults: &mut Faults) -> DatabaseSettings {
        let claim_lock_timeout = faults.duration(
            "ANALYTICS_CLAIM_LOCK_TIMEOUT",
            &self.claim_lock_timeout,
            Duration::from_millis(100)..=Duration::from_secs(9), // Sessions wait for a lock 10 s at most.
        );
        let target = self.target(faults);
        DatabaseSettings { options: target.options(application), tls: target.tls, claim_lock_timeout }
    }

    /// The URL, or the parts; what a URL does not say about TLS, the parts do.
    fn target(self, faults: &mut Faults) -> Target {
        let url = faults.secret(URL);
        let password = faults.secret("ANALYTICS_POSTGRES_PASSWORD");
        let mode = faults.read(
            "ANALYTICS_POSTGRES_SSLMODE",
            &self.postgres_sslmode,
            postgres::SSL_MODES,
            postgres::mode,
        );
        let root = self.postgres_sslrootcert.as_ref().map(PathBuf::from);
        let tls = Tls { mode, root: root.clone(), identity: None };
        let target = match &url {
            Some(url) => postgres::read(url.expose(), tls).unwrap_or_else(|fault| {
                faults.error(format!("{URL} {fault}"));
                Target::default()
            }),
            None => self.parts(tls, password, faults),
        };
        if let Err(fault) = target.check(url.is_some().then_some(URL), root.as_deref()) {
            faults.error(fault);
        } else if let Some(warning) = target.tls.warning() {
            faults.warn(warning);
        }
        target
    }

    fn parts(self, tls: Tls, password: Option<Secret>, faults: &mut Faults) -> Target {
        let mut needed = |variable: &str, value: Option<String>| {
            let value = value.as_deref().map(|value| postgres::name(value.trim()));
            let fault = match value {
                Some(Ok(name)) => return name,
                Some(Err(fault)) => format!("{variable} {fault}"),
                None => format!("{variable} is not set; allowed is a name, or {URL} instead"),
            };
            faults.error(fault);
            String::new()
        };
        let user = needed("ANALYTICS_POSTGRES_USER", self.postgres_user);
        let database = needed("ANALYTICS_POSTGRES_DB", self.postgres_db);
        let host = postgres::host(self.postgres_host.trim()).unwrap_or_else(|fault| {
            // Without the value: a URL may hold a password.
            faults.error(format!("ANALYTICS_POSTGRES_HOST {fault}"));
            String::new()
        });
        let port = faults.number("ANALYTICS_POSTGRES_PORT", &self.postgres_port, 1..=65_535);
        let password = password.map(|password| password.expose().to_owned());
        Target { host, port, user, password, database, statement_cache: 100, tls }
    }
}

impl DatabaseSettings {
    /// `user@host:port/database`, for people.
    #[must_use]
    pub fn target(&self) -> String {
        let options = &self.options;
        let database = options.get_database().unwrap_or(options.get_username());
        format!("{}@{}:{}/{database}", options.get_username(), options.get_host(), options.get_port())
    }

    /// One long-lived connection for whoever writes, its session set and proven to be ours alone. A refusal for which a
    /// person must act is a line.
    ///
    /// # Errors
    /// As [`WriteFailure`] says.
    pub async fn session(&self) -> Result<PgConnection, WriteFailure> {
        let inspected = self.inspect_with(BRIEFLY).await;
        let seen =
            inspected.and_then(|(connection, _, found)| Ok(found.sees_tables().map(|()| connection)?));
        seen.map_err(|error| {
            if needs_a_person(&error)
                && let Some(suppressed) = REFUSED_LINE.pass()
            {
                let target = self.target();
                let error = TlsFault::of(&error).map_or_else(|| error.to_string(), ToString::to_string);
                tracing::error!(error, target, suppressed, "PostgreSQL cannot be used with these settings");
            }
            WriteFailure::of(Statement::Connect, &error)
        })
    }

    /// The same for the command line: the tables need not be there, and the error is PostgreSQL's own.
    ///
    /// # Errors
    /// As PostgreSQL says; an I/O error after ten seconds, or if this server takes no writes: the caller tries again.
    pub async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        self.inspect().await.map(|(connection, ..)| connection)
    }

    /// The same, with what was found out on the way.
    ///
    /// # Errors
    /// As [`DatabaseSettings::connect`].
    pub async fn inspect(&self) -> Result<(PgConnection, Server, session::Found), sqlx::Error> {
        self.inspect_with(THOROUGHLY).await
    }

    async fn inspect_with(
        &self,
        holders: usize,
    ) -> Result<(PgConnection, Server, session::Found), sqlx::Error> {
        let mut connection = in_time(1, postgres::connect(&self.options, &self.tls)).await?;
        nodelay::on_all_sockets();
        let proof = postgres_session::verify(&mut connection, (&self.options, &self.tls), holders);
        let server = in_time(holders, proof).await?;
        let found = in_time(1, session::begin(&mut connection)).await?;
        Ok((connection, server, found))
    }
}

/// So many connections and what is asked on them.
async fn in_time<T>(
    connections: usize,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let limit = CONNECT_TIMEOUT * u32::try_from(connections).unwrap_or(1);
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let sentence = format!("no connection to PostgreSQL within {} seconds", limit.as_secs());
        Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, sentence)))
    })
}
