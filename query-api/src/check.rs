//! `query-api check`: one screen on whether the process could do its work.

use std::time::Duration;

use crate::config::Config;
use crate::postgres::TlsFault;
use crate::postgres_session::{THOROUGHLY, Unsuitable};
use crate::projections::connection::Session;
use crate::projections::database::RoleMayWrite;
use crate::projections::failure::sentence;
use crate::screen::Screen;

/// Nobody waits for an answer here.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether everything is well, warnings aside.
pub async fn check(config: &Config) -> bool {
    let mut screen = Screen::of("query-api", env!("CARGO_PKG_VERSION"));
    let session = Session::new(&config.database);
    screen.title("Settings", "");
    screen.ok(&format!("all can be read; it would answer on {}:{}", config.http.host, config.http.port));
    for warning in &config.warnings {
        screen.warn(warning, "see query-api --help");
    }
    screen.title("PostgreSQL", &format!("database {} at {}", session.database(), session.place()));
    postgres(&session, &mut screen).await;
    screen.end()
}

async fn postgres(session: &Session, screen: &mut Screen) {
    let (server, privileges) = match session.inspect(PATIENCE, THOROUGHLY).await {
        Ok(inspected) => inspected,
        Err(fault) => {
            return match (Unsuitable::of(&fault), TlsFault::of(&fault)) {
                (Some(unsuitable), _) => screen.wrong(&unsuitable.found, unsuitable.remedy),
                (_, Some(tls)) => screen.wrong(&format!("cannot connect: {}", tls.what), &tls.remedy),
                _ => screen.wrong(&format!("cannot connect: {}", sentence(&fault)), remedy(&fault)),
            };
        }
    };
    screen.ok(&format!("connected, PostgreSQL {}, database {} in UTF8", server.version, server.database));
    screen.ok("the session is the reader's own, no pooler shares it");
    let (login, role) = (privileges.login.clone(), privileges.role.clone());
    match privileges.readable() {
        Ok(version) => {
            screen.ok(&format!("schema version {version}"));
            screen.ok(&format!("the role {role} (login {login}) may read everything"));
        }
        Err(not) => screen.wrong(&not.found, not.remedy),
    }
    if privileges.may_write.is_empty() {
        screen.ok(&format!("the role {role} (login {login}) may write nothing of ours"));
    } else {
        let refusal = RoleMayWrite::new(privileges);
        screen.wrong(&refusal.found(), RoleMayWrite::REMEDY);
    }
}

fn remedy(fault: &sqlx::Error) -> &'static str {
    let state = fault.as_database_error().and_then(sqlx::error::DatabaseError::code);
    match state.as_deref() {
        Some("28P01" | "28000") => {
            "check ANALYTICS_READ_DATABASE_URL or ANALYTICS_POSTGRES_USER and _PASSWORD, the TLS mode, and pg_hba.conf"
        }
        Some("3D000") => "make the database, or check its name",
        Some("53300") => "too many connections: raise max_connections or stop something",
        _ => {
            "check host and port in ANALYTICS_READ_DATABASE_URL or ANALYTICS_POSTGRES_…, and that the server runs"
        }
    }
}
