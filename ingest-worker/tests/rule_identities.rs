use ingest_worker::normalize::{RuleIdentity, Rules};
use ingest_worker::write::{WriteFailure, rule_identities};
use sqlx::PgPool;

fn changed() -> Vec<RuleIdentity> {
    let mut rules = Rules::built_in().unwrap().identities();
    rules[0].definition = "somethingElse at registeredAt".to_owned();
    rules
}

#[sqlx::test(migrations = "../migrations")]
async fn a_rule_that_would_make_other_ids_is_refused_until_it_is_accepted(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let rules = Rules::built_in().unwrap().identities();
    assert_eq!(rules.len(), 6);
    rule_identities::hold(&mut connection, &rules).await.unwrap();
    rule_identities::hold(&mut connection, &rules).await.unwrap();

    let refusal = rule_identities::hold(&mut connection, &changed()).await.unwrap_err();
    assert!(matches!(refusal, WriteFailure::Defect(_)));
    let sentence = refusal.to_string();
    assert!(sentence.contains("iam.user-registered/1"), "{sentence}");
    assert!(sentence.contains("userId at registeredAt"), "{sentence}");
    assert!(sentence.contains("migrate --accept-rules"), "{sentence}");

    rule_identities::accept(&mut connection, &changed()).await.unwrap();
    rule_identities::hold(&mut connection, &changed()).await.unwrap();
    assert!(rule_identities::hold(&mut connection, &rules).await.is_err());
}
