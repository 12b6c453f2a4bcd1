//! A database of one's own.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::stack::{Login, Stack, checkout};

/// A database that nobody else uses, and a pool that sees everything in it.
pub struct Database {
    stack: Stack,
    /// Its name.
    pub name: String,
    /// As the administrator, in UTC.
    pub pool: PgPool,
}

impl Database {
    /// Drops a database of this name and makes it anew, empty, owned by the owner's login.
    ///
    /// # Errors
    /// PostgreSQL does not answer or refuses.
    pub async fn fresh(stack: &Stack, name: &str) -> Result<Self> {
        // `template0`: nobody can be connected to it, which would be an error.
        Self::create(stack, name, "template0").await
    }

    /// As [`Database::fresh`], in another encoding.
    ///
    /// # Errors
    /// As [`Database::fresh`].
    pub async fn encoded(stack: &Stack, name: &str, encoding: &str) -> Result<Self> {
        let template = format!("template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'");
        Self::create(stack, name, &template).await
    }

    /// Another database with the same content, to be spoilt.
    ///
    /// # Errors
    /// PostgreSQL does not answer, or somebody else is connected to this one.
    pub async fn copy(&self, name: &str) -> Result<Self> {
        let mut admin = administrator(&self.stack).await?;
        // Nobody may be connected to a template; the pool connects again when it is used.
        sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1")
            .bind(&self.name)
            .execute(&mut admin)
            .await?;
        Self::create(&self.stack, name, &self.name).await
    }

    async fn create(stack: &Stack, name: &str, template: &str) -> Result<Self> {
        let mut admin = administrator(stack).await?;
        drop_database(&mut admin, name).await?;
        let create = format!("CREATE DATABASE {name} OWNER analytics_owner TEMPLATE {template}");
        sqlx::raw_sql(AssertSqlSafe(create))
            .execute(&mut admin)
            .await
            .context("no database could be made")?;
        admin.close().await?;
        let options: PgConnectOptions = stack.url(Login::Admin, name).parse()?;
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(10))
            .connect_lazy_with(options.options([("timezone", "UTC")]));
        Ok(Self { stack: stack.clone(), name: name.to_owned(), pool })
    }

    /// Its URL for a login.
    #[must_use]
    pub fn url(&self, login: Login) -> String {
        self.stack.url(login, &self.name)
    }

    /// Applies the files of `migrations/` as the owner, without the worker: for tests of the schema and of the oracle.
    ///
    /// # Errors
    /// A migration fails.
    pub async fn migrate_from_files(&self) -> Result<()> {
        let mut owner = PgConnection::connect(&self.url(Login::Owner)).await?;
        Migrator::new(checkout().join("migrations")).await?.run_direct(None, &mut owner, false).await?;
        Ok(owner.close().await?)
    }

    /// Away with it.
    ///
    /// # Errors
    /// PostgreSQL does not answer.
    pub async fn remove(self) -> Result<()> {
        self.pool.close().await;
        let mut admin = administrator(&self.stack).await?;
        drop_database(&mut admin, &self.name).await?;
        Ok(admin.close().await?)
    }
}

/// The names of all databases for which this is true.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn names(stack: &Stack, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let mut admin = administrator(stack).await?;
    let names: Vec<String> =
        sqlx::query_scalar("SELECT datname::text FROM pg_database").fetch_all(&mut admin).await?;
    admin.close().await?;
    Ok(names.into_iter().filter(|name| wanted(name)).collect())
}

/// Drops databases.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn remove_all(stack: &Stack, names: &[String]) -> Result<()> {
    let mut admin = administrator(stack).await?;
    for name in names {
        drop_database(&mut admin, name).await?;
    }
    Ok(admin.close().await?)
}

async fn administrator(stack: &Stack) -> Result<PgConnection> {
    PgConnection::connect(&stack.url(Login::Admin, "postgres")).await.context("PostgreSQL does not answer")
}

async fn drop_database(admin: &mut PgConnection, name: &str) -> Result<()> {
    let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
    sqlx::raw_sql(AssertSqlSafe(drop))
        .execute(admin)
        .await
        .context(format!("{name} could not be dropped"))?;
    Ok(())
}
