//! What the ids of upstream events are made of: once events are stored, a rule must go on making the same ids.

use sqlx::PgConnection;

use super::failure::WriteFailure;
use crate::normalize::RuleIdentity;

/// Takes down the identities that are new and compares the others.
///
/// # Errors
/// A defect if a rule would make other ids than those stored: a replay would not recognize what is there. Else as
/// [`WriteFailure`] says.
pub async fn hold(connection: &mut PgConnection, ours: &[RuleIdentity]) -> Result<(), WriteFailure> {
    let changed: Vec<(String, String, String)> = sqlx::query_as(include_str!("rule_identities.sql"))
        .bind(ours.iter().map(|rule| rule.identity.as_str()).collect::<Vec<_>>())
        .bind(ours.iter().map(|rule| rule.definition.as_str()).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    match changed.first() {
        None => Ok(()),
        Some((identity, ours, known)) => Err(WriteFailure::Defect(format!(
            "rule identity {identity} is now '{ours}', but stored events were identified by '{known}': a replay would \
             store them twice; give the rule a new identity name, or accept with `ingest-worker migrate --accept-rules`"
        ))),
    }
}

/// Makes these the identities that count from now on, as the owner of the tables.
///
/// # Errors
/// As PostgreSQL says.
pub async fn accept(connection: &mut PgConnection, ours: &[RuleIdentity]) -> Result<(), sqlx::Error> {
    sqlx::query(include_str!("rule_identities_accept.sql"))
        .bind(ours.iter().map(|rule| rule.identity.as_str()).collect::<Vec<_>>())
        .bind(ours.iter().map(|rule| rule.definition.as_str()).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map(drop)
}
