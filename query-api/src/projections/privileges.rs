//! What the role in effect sees and may do: this side of the service must not be able to write, whatever it is asked.

use std::fmt;

use sqlx::PgConnection;

/// The schema version that this release reads.
const SCHEMA_VERSION: &str = env!("SCHEMA_VERSION");

/// What the role in effect may do to our tables, by PostgreSQL's catalogue.
#[derive(Debug, sqlx::FromRow)]
pub struct Privileges {
    /// The role in effect, after `SET ROLE`.
    pub role: String,
    /// As whom this process logged in.
    pub login: String,
    /// Tables, partitions, sequences and functions by which it may write.
    pub may_write: Vec<String>,
    database: String,
    /// None if there is no such schema.
    may_use_public: Option<bool>,
    has_tables: bool,
    may_read_version: bool,
    may_not_read: Vec<String>,
    #[sqlx(skip)]
    version: Option<i64>,
}

/// Why there is nothing to read: where it was looked for, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotReadable {
    /// What was found.
    pub found: String,
    /// What to do.
    pub remedy: &'static str,
}

impl fmt::Display for NotReadable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.found, self.remedy)
    }
}

/// What to do about tables that are not there.
pub const MIGRATE: &str = "run `ingest-worker migrate`, or name the database that is migrated";
const MEMBER: &str = "make it a member of analytics_reader";

/// Asks PostgreSQL's catalogue.
///
/// # Errors
/// PostgreSQL is away.
pub async fn read(connection: &mut PgConnection) -> sqlx::Result<Privileges> {
    let mut found: Privileges =
        sqlx::query_as(include_str!("privileges.sql")).fetch_one(&mut *connection).await?;
    if found.may_use_public == Some(true) && found.may_read_version {
        let version = "SELECT coalesce(max(version), 0) FROM public._sqlx_migrations WHERE success";
        found.version = Some(sqlx::query_scalar(version).fetch_one(connection).await?);
    }
    Ok(found)
}

/// The schema version that this release reads.
#[must_use]
pub fn newest() -> i64 {
    SCHEMA_VERSION.parse().unwrap_or(i64::MAX)
}

impl Privileges {
    /// The schema version, once everything can be read.
    ///
    /// # Errors
    /// The first of: schema, tables, version, privileges.
    pub fn readable(&self) -> Result<i64, NotReadable> {
        let Self { role, database, .. } = self;
        let not = |found: String, remedy| Err(NotReadable { found, remedy });
        match self.may_use_public {
            None => {
                return not(
                    format!("database {database} has no schema public, where tables are looked for"),
                    MIGRATE,
                );
            }
            Some(false) => {
                let found = format!(
                    "the role {role} has no USAGE on schema public of database {database}, where the tables are"
                );
                return not(
                    found,
                    "make it a member of analytics_reader, or run GRANT USAGE ON SCHEMA public TO analytics_reader",
                );
            }
            Some(true) => {}
        }
        if !self.has_tables {
            let found =
                format!("database {database} is not migrated, its schema public has none of our tables");
            return not(found, MIGRATE);
        }
        if !self.may_not_read.is_empty() {
            return not(format!("the role {role} may not read {}", self.may_not_read.join(", ")), MEMBER);
        }
        match self.version {
            None => not(
                format!(
                    "the role {role} may not read _sqlx_migrations in schema public of database {database}"
                ),
                MEMBER,
            ),
            Some(version) if version < newest() => {
                let found = format!(
                    "database {database} is not migrated: its schema version is {version}, this release needs {}",
                    newest()
                );
                not(found, MIGRATE)
            }
            Some(version) => Ok(version),
        }
    }
}
