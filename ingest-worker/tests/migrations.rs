use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

use crate::stored::number;

static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// Tables, columns, indexes, constraints, functions and privileges, in words.
async fn schema(pool: &PgPool) -> Vec<String> {
    let statement = "
        SELECT concat_ws(' ', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, c.relacl::text)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        WHERE c.relnamespace = 'public'::regnamespace
        UNION ALL
        SELECT concat_ws(' ', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace
        UNION ALL
        SELECT concat_ws(' ', oid::regprocedure, md5(prosrc), proacl::text) FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace
        ORDER BY 1";
    sqlx::query_scalar(statement).fetch_all(pool).await.unwrap()
}

#[sqlx::test(migrations = false)]
async fn they_can_be_applied_again(pool: PgPool) {
    MIGRATOR.run(&pool).await.unwrap();
    let before = schema(&pool).await;
    MIGRATOR.run(&pool).await.unwrap();
    assert_eq!(schema(&pool).await, before);
}

#[sqlx::test(migrations = false)]
async fn three_may_apply_them_at_once(pool: PgPool) {
    let apply = async || {
        let mut connection = PgConnection::connect_with(&pool.connect_options()).await.unwrap();
        MIGRATOR.run(&mut connection).await.unwrap();
    };
    tokio::join!(apply(), apply(), apply());
    let applied = number(&pool, "SELECT count(*) FROM _sqlx_migrations WHERE success").await;
    assert_eq!(applied, i64::try_from(MIGRATOR.iter().count()).unwrap());
}

#[sqlx::test(migrations = "../migrations")]
async fn granting_again_changes_nothing(pool: PgPool) {
    let before = schema(&pool).await;
    let to_be_run: Vec<String> =
        sqlx::query_scalar("SELECT grant_analytics_privileges()").fetch_all(&pool).await.unwrap();
    assert_eq!(to_be_run, Vec::<String>::new());
    assert_eq!(schema(&pool).await, before);
}

#[sqlx::test(migrations = "../migrations")]
async fn every_table_column_and_function_says_what_it_is_for(pool: PgPool) {
    let silent = "
        SELECT format('%I', c.relname) FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND c.relname <> '_sqlx_migrations' AND obj_description(c.oid, 'pg_class') IS NULL
        UNION ALL
        SELECT format('%I.%I', c.relname, a.attname) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND c.relname <> '_sqlx_migrations' AND a.attnum > 0 AND NOT a.attisdropped
          AND col_description(c.oid, a.attnum) IS NULL
        UNION ALL
        SELECT p.oid::regprocedure::text FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL";
    let silent_ones = async || -> Vec<String> { sqlx::query_scalar(silent).fetch_all(&pool).await.unwrap() };
    assert_eq!(silent_ones().await, Vec::<String>::new());
    sqlx::raw_sql("ALTER TABLE event_ids ADD COLUMN unexplained text").execute(&pool).await.unwrap();
    assert_eq!(silent_ones().await, ["event_ids.unexplained"], "this test sees what it looks for");
}

#[sqlx::test(migrations = "../migrations")]
async fn events_have_no_index_but_their_key_and_no_default_partition(pool: PgPool) {
    sqlx::query("SELECT create_event_partition(now())").execute(&pool).await.unwrap();
    let indexes = "SELECT count(*) FROM pg_indexes WHERE tablename LIKE 'analytics_events_%'";
    assert_eq!(number(&pool, indexes).await, 1);
    let default = "SELECT count(*) FROM pg_partitioned_table WHERE partdefid <> 0";
    assert_eq!(number(&pool, default).await, 0);
}

#[sqlx::test(migrations = "../migrations")]
async fn the_sum_of_sixty_minutes_is_written_out_in_order(pool: PgPool) {
    let mut connection = PgConnection::connect_with(&pool.connect_options()).await.unwrap();
    let statement = include_str!("../src/write/event_counts.sql");
    let minutes: Vec<i32> = (1..=60).collect();
    for _ in 0..2 {
        sqlx::query(AssertSqlSafe(statement))
            .bind(0_i16)
            .bind(vec![crate::given::instant(crate::given::NOON)])
            .bind(vec![1_i32])
            .bind(vec![1_830_i64])
            .bind(&minutes)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    let (total, sums): (i64, Vec<i32>) =
        sqlx::query_as("SELECT total, minutes FROM event_counts").fetch_one(&pool).await.unwrap();
    assert_eq!(total, 3_660);
    assert_eq!(sums, minutes.iter().map(|minute| minute * 2).collect::<Vec<_>>());
}
