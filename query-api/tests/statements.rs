use std::path::{Path, PathBuf};

use futures_util::TryStreamExt as _;
use query_api::projections::{edge_counts, event_counts, events};
use query_api::queries::range::{BucketWidth, Window};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, PgPool, Row as _};
use uuid::Uuid;

use crate::harness::{event, store};

fn statements(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.fold(Vec::new(), |mut found, path| {
        if path.is_dir() {
            found.extend(statements(&path));
        } else if path.extension().is_some_and(|extension| extension == "sql") {
            found.push(path);
        }
        found
    })
}

fn sql(path: &Path) -> AssertSqlSafe<String> {
    AssertSqlSafe(std::fs::read_to_string(path).unwrap())
}

#[sqlx::test(migrations = "../migrations")]
async fn every_statement_can_be_prepared(pool: PgPool) {
    let files = statements(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(files.len() >= 4, "{files:?}");
    let mut connection = pool.acquire().await.unwrap();
    for file in files {
        let name = file.display().to_string();
        if let Err(fault) = (&mut *connection).prepare(sqlx::SqlSafeStr::into_sql_str(sql(&file))).await {
            panic!("{name}: {fault}");
        }
    }
}

async fn plan(
    connection: &mut PgConnection,
    file: &str,
    bind: impl FnOnce(Explained) -> Explained,
) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/projections").join(file);
    let statement = format!("EXPLAIN (COSTS OFF) {}", std::fs::read_to_string(path).unwrap());
    let rows = bind(sqlx::query(AssertSqlSafe(statement))).fetch_all(connection).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(0) + "\n").collect()
}

type Explained = sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>;

#[sqlx::test(migrations = "../migrations")]
async fn no_projection_needs_to_read_a_whole_table(pool: PgPool) {
    store(&pool, &[event("a", "2025-10-16T18:14:00Z"), event("a", "2025-11-16T18:13:00Z")]).await;
    let mut connection = pool.acquire().await.unwrap();
    connection.execute("SET enable_seqscan = off").await.unwrap();

    let window = Window::ending("2025-11-16T18:14:30.5Z".parse().unwrap(), 10_079).unwrap();
    let width = BucketWidth::of(window);
    let pieces = window.split(width);
    let (edge, minutes) = (pieces.edges[0], pieces.minutes.unwrap());
    let plans = [
        plan(&mut connection, "edge_counts.sql", |query| query.bind(edge.start()).bind(edge.end())).await,
        plan(&mut connection, "events.sql", |query| query.bind(50_i64).bind(9_000_i64).bind(9_000_i64)).await,
        plan(&mut connection, "event_counts.sql", |query| {
            let query = query.bind(minutes.start).bind(minutes.end).bind(width.minutes());
            query.bind(width.bucket_of(minutes.start)).bind(minutes.cut_hours.clone())
        })
        .await,
        plan(&mut connection, "payloads.sql", |query| {
            let query = query.bind(vec![minutes.start]).bind(vec![Uuid::nil()]).bind(vec![1_i64]);
            query.bind(minutes.start).bind(minutes.end)
        })
        .await,
        plan(&mut connection, "payload_sizes.sql", |query| {
            let query = query.bind(vec![minutes.start]).bind(vec![Uuid::nil()]);
            query.bind(minutes.start).bind(minutes.end)
        })
        .await,
    ];
    for plan in &plans {
        assert!(!plan.contains("Seq Scan"), "{plan}");
    }
    assert!(
        plans[0].contains("analytics_events_2025_11_pkey") && !plans[0].contains("2025_10"),
        "one month:\n{}",
        plans[0]
    );
    assert!(!plans[1].contains("Sort"), "in the key's own order:\n{}", plans[1]);
    assert_eq!(plans[2].matches("event_counts_pkey").count(), 2, "{}", plans[2]);

    // And they answer.
    let edges: Vec<_> = edge_counts::read(&mut connection, edge).try_collect().await.unwrap();
    let counts: Vec<_> = event_counts::read(&mut connection, &minutes, width).try_collect().await.unwrap();
    assert_eq!((edges.len(), counts.len()), (0, 1));
    assert_eq!(events::read_newest(&mut connection, 50, false).await.unwrap().len(), 2);
}
