//! How a connection to PostgreSQL is made: where to, as whom, and with what it begins.

use std::path::PathBuf;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::time::timeout;

use super::pool::Forgotten;
use super::privileges::{self, Privileges};
use crate::faults::{Faults, duration};
use crate::postgres::{self, Target, Tls};
use crate::postgres_session::{self, Server, verify};
use crate::settings::{Setting, Values};
use crate::units;

const READ_DATABASE_URL: Setting = Setting::new("ANALYTICS_READ_DATABASE_URL", "URL", "")
    .help("PostgreSQL for reading only, perhaps a replica: postgres://user:password@host:port/database?sslmode=…")
    .secret();
const DATABASE_URL: Setting = Setting::new("ANALYTICS_DATABASE_URL", "URL", "")
    .help("PostgreSQL, if there is no URL for reading only; overrides ANALYTICS_POSTGRES_…")
    .secret();
const USER: Setting =
    Setting::new("ANALYTICS_POSTGRES_USER", "NAME", "").help("Login; needed if there is no URL");
const PASSWORD: Setting =
    Setting::new("ANALYTICS_POSTGRES_PASSWORD", "TEXT", "").help("Password of the login").secret();
const HOST: Setting = Setting::new("ANALYTICS_POSTGRES_HOST", "NAME", "localhost")
    .help("Name, address (IPv6 too) or the folder of a socket");
const PORT: Setting = Setting::new("ANALYTICS_POSTGRES_PORT", "PORT", "5432").help("Its port");
const DB: Setting =
    Setting::new("ANALYTICS_POSTGRES_DB", "NAME", "").help("Database; needed if there is no URL");
const SSLMODE: Setting = Setting::new("ANALYTICS_POSTGRES_SSLMODE", "MODE", "prefer")
    .help("disable, allow, prefer, require, verify-ca or verify-full, as libpq means them: the first four verify nothing");
const SSLROOTCERT: Setting = Setting::new("ANALYTICS_POSTGRES_SSLROOTCERT", "FILE", "")
    .help("Certificates (PEM) that the server's chain must end in, for verify-ca and verify-full; require then verifies as verify-ca");
const STATEMENT_TIMEOUT: Setting = Setting::new("ANALYTICS_STATEMENT_TIMEOUT", "DURATION", "5s")
    .help("How long PostgreSQL may work on one statement");
const POOL_SIZE: Setting =
    Setting::new("ANALYTICS_POOL_SIZE", "NUMBER", "8").help("Most connections to PostgreSQL");

/// What this room reads.
pub const SETTINGS: &[Setting] = &[
    READ_DATABASE_URL,
    DATABASE_URL,
    USER,
    PASSWORD,
    HOST,
    PORT,
    DB,
    SSLMODE,
    SSLROOTCERT,
    STATEMENT_TIMEOUT,
    POOL_SIZE,
];

/// Besides what all sessions are set to. The bounds of a summary are parameters and differ each time: a generic plan would
/// guess. A lock is waited for as long as a statement may take.
const SESSION: &str = "\
    SET plan_cache_mode = force_custom_plan; SET default_transaction_read_only = on; SET lock_timeout = 0; \
    SET idle_in_transaction_session_timeout = '5min'";
/// How long several connections may take.
const PROOF: Duration = Duration::from_secs(10);

/// How to reach PostgreSQL.
#[derive(Clone)]
pub struct DatabaseConfig {
    /// Server and login.
    pub connect: PgConnectOptions,
    /// What is asked of the server's certificate.
    pub tls: Tls,
    /// The login is shared with the writer, so each connection steps down to `analytics_reader` where it may.
    pub steps_down: bool,
    /// How long PostgreSQL may work on one statement.
    pub statement_timeout: Duration,
    /// Most connections.
    pub pool_size: usize,
}

impl std::fmt::Debug for DatabaseConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("DatabaseConfig") // The options hold a password.
    }
}

impl DatabaseConfig {
    /// For the OpenAPI document, which describes routes and asks nothing.
    #[must_use]
    pub fn nowhere() -> Self {
        let connect = PgConnectOptions::new_without_pgpass();
        Self {
            connect,
            tls: Tls::default(),
            steps_down: false,
            statement_timeout: Duration::from_secs(1),
            pool_size: 1,
        }
    }

    /// With the name that PostgreSQL's list of sessions shows.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.connect = self.connect.application_name(name);
        self
    }

    /// Checks the settings.
    pub fn check(values: &Values, faults: &mut Faults) -> Option<Self> {
        let statement_timeout = faults.take(values, &STATEMENT_TIMEOUT, duration);
        let pool_size = faults.take(values, &POOL_SIZE, |text| units::number(text, 1..=1000));
        let read_url = faults.secret(values, &READ_DATABASE_URL);
        let steps_down = read_url.is_none();
        let url = read_url.map(|url| (READ_DATABASE_URL, url));
        let url = url.or_else(|| Some((DATABASE_URL, faults.secret(values, &DATABASE_URL)?)));
        let target = target(url, values, faults)?;
        Some(Self {
            connect: target.options("query-api"),
            tls: target.tls,
            steps_down,
            statement_timeout: statement_timeout?,
            pool_size: pool_size?,
        })
    }
}

/// The URL, or the parts; what a URL does not say about TLS, the parts do.
fn target(url: Option<(Setting, String)>, values: &Values, faults: &mut Faults) -> Option<Target> {
    let mode = faults.read(values, &SSLMODE, postgres::SSL_MODES, |text| postgres::mode(text.trim()));
    let root = values.get(&SSLROOTCERT).map(PathBuf::from);
    let tls = Tls { mode: mode.unwrap_or_default(), root: root.clone(), identity: None };
    let target = match &url {
        Some((setting, url)) => {
            postgres::read(url, tls).map_err(|fault| faults.add(format!("{} {fault}", setting.variable))).ok()
        }
        None => from_parts(values, faults, tls),
    };
    let target = target?;
    let url = url.as_ref().map(|(setting, _)| setting.variable);
    target.check(url, root.as_deref()).map_err(|fault| faults.add(fault)).ok()?;
    if let Some(warning) = target.tls.warning() {
        faults.warn(warning.to_owned());
    }
    Some(target)
}

fn from_parts(values: &Values, faults: &mut Faults, tls: Tls) -> Option<Target> {
    let any = |text: &str| Some(text.trim().to_owned());
    let user = faults.read(values, &USER, "a name, or ANALYTICS_DATABASE_URL instead", any);
    let database = faults.read(values, &DB, "a name, or ANALYTICS_DATABASE_URL instead", any);
    // Without the value: a URL may hold a password.
    let mut strictly = |setting: &Setting, read: Result<String, &str>| {
        read.map_err(|fault| faults.add(format!("{} {fault}", setting.variable))).ok()
    };
    let user = user.and_then(|user| strictly(&USER, postgres::name(&user)));
    let database = database.and_then(|database| strictly(&DB, postgres::name(&database)));
    let host = strictly(&HOST, postgres::host(values.get(&HOST).unwrap_or_default().trim()));
    let port = faults.take(values, &PORT, |text| units::number(text, 1..=u16::MAX));
    let password = faults.secret(values, &PASSWORD);
    Some(Target {
        host: host?,
        port: port?,
        user: user?,
        password,
        database: database?,
        statement_cache: 100,
        tls,
    })
}

/// How each connection is set up.
pub struct Session {
    /// Server and login.
    pub connect: PgConnectOptions,
    tls: Tls,
    pub(super) forgotten: Forgotten,
    steps_down: bool,
    statement_timeout: Duration,
}

impl Session {
    /// As the settings say.
    #[must_use]
    pub fn new(config: &DatabaseConfig) -> Self {
        Self {
            connect: config.connect.clone(),
            tls: config.tls.clone(),
            forgotten: Forgotten::default(),
            steps_down: config.steps_down,
            statement_timeout: config.statement_timeout,
        }
    }

    /// Connects and sets the session up.
    ///
    /// # Errors
    /// PostgreSQL is away.
    pub async fn open(&self) -> sqlx::Result<PgConnection> {
        let mut connection = postgres::connect(&self.connect, &self.tls).await?;
        self.prepare(&mut connection).await?;
        Ok(connection)
    }

    /// Role and limits of a new connection.
    async fn prepare(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let timeout = self.statement_timeout.as_millis();
        let all = postgres_session::SETTINGS;
        let settings = format!("{all}; {SESSION}; SET statement_timeout = '{timeout}ms'");
        connection.execute(AssertSqlSafe(settings)).await?;
        if self.steps_down
            && let Err(fault) = connection.execute("SET ROLE analytics_reader").await
            && !may_not_step_down(&fault)
        {
            return Err(fault);
        }
        Ok(())
    }

    /// What PostgreSQL is, and what the role in effect may do there, asked on a connection of its own. Each step takes as
    /// long as `patience` at most, but for the proof by `holders` more connections that the session is ours alone.
    ///
    /// # Errors
    /// PostgreSQL is away, or unsuitable.
    pub async fn inspect(&self, patience: Duration, holders: usize) -> sqlx::Result<(Server, Privileges)> {
        let no_answer = |_| {
            let sentence = format!("no answer within {} s", patience.as_secs());
            sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, sentence))
        };
        let connecting = timeout(patience, postgres::connect(&self.connect, &self.tls));
        let mut connection = connecting.await.map_err(no_answer)??;
        let proving = timeout(PROOF, verify(&mut connection, (&self.connect, &self.tls), holders));
        let server = proving.await.map_err(no_answer)??;
        let asking = timeout(patience, async {
            self.prepare(&mut connection).await?;
            privileges::read(&mut connection).await
        });
        let privileges = asking.await.map_err(no_answer)??;
        drop(timeout(patience, connection.close()).await); // Whether it ends in order does not matter.
        Ok((server, privileges))
    }

    /// Its name; without one, PostgreSQL takes the login's.
    #[must_use]
    pub fn database(&self) -> &str {
        self.connect.get_database().unwrap_or(self.connect.get_username())
    }

    /// For people: never with the login.
    #[must_use]
    pub fn place(&self) -> String {
        match self.connect.get_socket() {
            Some(folder) => folder.display().to_string(),
            None => format!("{}:{}", self.connect.get_host(), self.connect.get_port()),
        }
    }
}

/// No such role, or not a member of it: then the login's own privileges count.
fn may_not_step_down(fault: &sqlx::Error) -> bool {
    let code = fault.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "42501" || code == "22023")
}
