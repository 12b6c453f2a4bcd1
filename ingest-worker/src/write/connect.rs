use std::{fmt, io, str::FromStr as _, time::Duration};

use sqlx::{
    ConnectOptions as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

use super::failure::{Statement, WriteFailure, needs_a_person};
use super::{nodelay, session};
use crate::config::{Faults, Secret};
use crate::postgres_session::{self, BRIEFLY, Server, THOROUGHLY};
use crate::telemetry::Throttle;

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
    /// Host name, address, or the folder of a Unix socket
    #[arg(long, env = "ANALYTICS_POSTGRES_HOST", default_value = "localhost", value_name = "HOST")]
    postgres_host: String,
    /// Port
    #[arg(long, env = "ANALYTICS_POSTGRES_PORT", default_value = "5432", value_name = "PORT")]
    postgres_port: String,
    /// Database, needed if there is no URL
    #[arg(long, env = "ANALYTICS_POSTGRES_DB", value_name = "NAME")]
    postgres_db: Option<String>,
    /// disable, allow, prefer, require, verify-ca or verify-full
    #[arg(long, env = "ANALYTICS_POSTGRES_SSLMODE", default_value = "prefer", value_name = "MODE")]
    postgres_sslmode: String,
    /// A file with the certificates that verify-ca and verify-full trust, besides the system's
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
        let options = self.options(faults).application_name(application).disable_statement_logging();
        DatabaseSettings { options, claim_lock_timeout }
    }

    fn options(self, faults: &mut Faults) -> PgConnectOptions {
        let url = faults.secret("ANALYTICS_DATABASE_URL");
        let password = faults.secret("ANALYTICS_POSTGRES_PASSWORD");
        let port = faults.number("ANALYTICS_POSTGRES_PORT", &self.postgres_port, 1..=65_535);
        let mode = faults.read(
            "ANALYTICS_POSTGRES_SSLMODE",
            &self.postgres_sslmode,
            "disable, allow, prefer, require, verify-ca or verify-full",
            |value| PgSslMode::from_str(value).ok(),
        );
        if let Some(url) = url {
            return from_url(&url, faults);
        }
        for (name, value) in
            [("ANALYTICS_POSTGRES_USER", &self.postgres_user), ("ANALYTICS_POSTGRES_DB", &self.postgres_db)]
        {
            if value.is_none() {
                faults.error(format!(
                    "{name} is not set; allowed is a name, or ANALYTICS_DATABASE_URL instead"
                ));
            }
        }
        // Without the password file of libpq: one source of settings.
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(&self.postgres_host)
            .port(port)
            .username(&self.postgres_user.unwrap_or_default())
            .database(&self.postgres_db.unwrap_or_default())
            .ssl_mode(mode);
        if let Some(password) = password {
            options = options.password(password.expose());
        }
        if let Some(file) = self.postgres_sslrootcert {
            if let Err(error) = std::fs::metadata(&file) {
                faults.error(format!(
                    "ANALYTICS_POSTGRES_SSLROOTCERT is `{file}`; allowed is a readable file: {error}"
                ));
            }
            options = options.ssl_root_cert(file);
        }
        options
    }
}

fn from_url(url: &Secret, faults: &mut Faults) -> PgConnectOptions {
    let scheme = ["postgres://", "postgresql://"].iter().any(|scheme| url.expose().starts_with(scheme));
    let options = PgConnectOptions::from_str(url.expose()).ok().filter(|_| scheme);
    options.unwrap_or_else(|| {
        // Neither the URL nor what the parser says about it: both may show the password.
        faults.error(
            "ANALYTICS_DATABASE_URL cannot be read; allowed is postgres://user:password@host:port/database",
        );
        PgConnectOptions::new_without_pgpass()
    })
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
                tracing::error!(%error, target, suppressed, "PostgreSQL cannot be used with these settings");
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
        let mut connection = in_time(1, postgres_session::connect(&self.options)).await?;
        nodelay::on_all_sockets();
        let server =
            in_time(holders, postgres_session::verify(&mut connection, &self.options, holders)).await?;
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
