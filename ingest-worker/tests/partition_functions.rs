use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool};

use crate::stored::{events, number};

const EVENT: &str = "INSERT INTO analytics_events (id, event_type, source, occurred_at, payload)
    VALUES (gen_random_uuid(), 't', 's', '2025-11-16Z', '{}')";

/// A session that waits for no lock.
async fn impatient(pool: &PgPool) -> PgConnection {
    let mut connection = PgConnection::connect_with(&pool.connect_options()).await.unwrap();
    connection.execute("SET lock_timeout = '100ms'").await.unwrap();
    connection
}

async fn create(connection: &mut PgConnection, moment: &str) -> Result<bool, sqlx::Error> {
    let statement = "SELECT create_event_partition($1::text::timestamptz)";
    sqlx::query_scalar(statement).bind(moment).fetch_one(connection).await
}

async fn drop_before(connection: &mut PgConnection, horizon: &str) -> Result<Vec<String>, sqlx::Error> {
    let statement = "SELECT drop_event_partitions($1::text::timestamptz)";
    sqlx::query_scalar(statement).bind(horizon).fetch_all(connection).await
}

async fn horizon(pool: &PgPool) -> String {
    sqlx::query_scalar("SELECT (horizon AT TIME ZONE 'UTC')::text FROM event_retention")
        .fetch_one(pool)
        .await
        .unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn several_that_make_one_month_make_it_once(pool: PgPool) {
    let make = async || {
        let mut connection = PgConnection::connect_with(&pool.connect_options()).await.unwrap();
        for month in 1..=12 {
            assert!(create(&mut connection, &format!("2025-{month:02}-16Z")).await.unwrap());
        }
    };
    tokio::join!(make(), make(), make(), make());
    assert_eq!(
        number(&pool, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'analytics_events'::regclass")
            .await,
        12
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_month_is_utc_whatever_the_session_says(pool: PgPool) {
    let mut connection = impatient(&pool).await;
    for (zone, moment, name) in [
        ("Pacific/Kiritimati", "2025-01-31T23:59:59.999999Z", "analytics_events_2025_01"),
        ("America/Los_Angeles", "2025-03-01T00:00:00Z", "analytics_events_2025_03"),
    ] {
        connection
            .execute(AssertSqlSafe(format!("SET TimeZone = '{zone}'; SET DateStyle = 'German'")))
            .await
            .unwrap();
        assert!(create(&mut connection, moment).await.unwrap());
        let insert = EVENT.replace("2025-11-16Z", moment);
        connection.execute(AssertSqlSafe(insert)).await.unwrap();
        let count = format!("SELECT count(*) FROM {name}");
        let stored: i64 = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&pool).await.unwrap();
        assert_eq!(stored, 1, "{name}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn making_one_waits_for_no_writer_and_no_writer_for_it(pool: PgPool) {
    let (mut writer, mut maker) = (impatient(&pool).await, impatient(&pool).await);
    create(&mut maker, "2025-11-16Z").await.unwrap();
    writer.execute("BEGIN").await.unwrap();
    writer.execute(EVENT).await.unwrap();
    maker.execute("BEGIN").await.unwrap();
    assert!(create(&mut maker, "2025-12-16Z").await.unwrap());
    // Neither is done, and a third comes.
    writer.execute(EVENT).await.unwrap();
    impatient(&pool).await.execute(EVENT).await.unwrap();
    maker.execute("COMMIT").await.unwrap();
    writer.execute("COMMIT").await.unwrap();
    assert_eq!(events(&pool).await, 3);
}

#[sqlx::test(migrations = "../migrations")]
async fn the_horizon_only_moves_forward_and_takes_whole_months_with_it(pool: PgPool) {
    let mut connection = impatient(&pool).await;
    for moment in ["2025-09-16Z", "2025-10-16Z", "2025-11-16Z"] {
        create(&mut connection, moment).await.unwrap();
    }
    let dropped = drop_before(&mut connection, "2025-10-31T23:59:59Z").await.unwrap();
    assert_eq!(dropped, ["analytics_events_2025_09"]);
    let dropped = drop_before(&mut connection, "2025-11-01T00:00:00Z").await.unwrap();
    assert_eq!(dropped, ["analytics_events_2025_10"]);
    // Back it cannot go.
    assert_eq!(drop_before(&mut connection, "2020-01-01Z").await.unwrap(), Vec::<String>::new());
    assert_eq!(horizon(&pool).await, "2025-11-01 00:00:00");
    assert!(!create(&mut connection, "2025-10-31T23:59:59Z").await.unwrap());
    assert!(create(&mut connection, "2025-11-01T00:00:00Z").await.unwrap());
}

#[sqlx::test(migrations = "../migrations")]
async fn the_horizon_cannot_lie_in_the_future(pool: PgPool) {
    let mut connection = impatient(&pool).await;
    for horizon in ["infinity", "2525-01-01Z"] {
        let refused = drop_before(&mut connection, horizon).await.unwrap_err();
        assert_eq!(
            refused.as_database_error().and_then(|error| error.code()).as_deref(),
            Some("22023"),
            "{refused}"
        );
    }
    let refused = connection.execute("SELECT drop_event_partitions(NULL)").await.unwrap_err();
    assert!(refused.to_string().contains("must lie in the past"), "{refused}");
    assert_eq!(horizon(&pool).await, "-infinity");
}

#[sqlx::test(migrations = "../migrations")]
async fn dropping_gives_way_to_an_open_writer_and_changes_nothing_then(pool: PgPool) {
    let (mut writer, mut dropper) = (impatient(&pool).await, impatient(&pool).await);
    create(&mut dropper, "2025-01-16Z").await.unwrap();
    writer.execute("BEGIN").await.unwrap();
    writer.execute(AssertSqlSafe(EVENT.replace("2025-11-16Z", "2025-01-16Z"))).await.unwrap();
    let busy = drop_before(&mut dropper, "2025-02-01Z").await;
    writer.execute("COMMIT").await.unwrap();
    let code = busy.unwrap_err();
    assert_eq!(code.as_database_error().and_then(|error| error.code()).as_deref(), Some("55P03"), "{code}");
    assert_eq!((horizon(&pool).await, events(&pool).await), ("-infinity".to_owned(), 1));
}
