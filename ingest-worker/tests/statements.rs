use std::fs;
use std::path::{Path, PathBuf};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool, SqlSafeStr as _};

use crate::given::{NOON, instant};

/// No statement may read these from end to end.
const LARGE: [&str; 7] = [
    "analytics_events",
    "event_ids",
    "event_counts",
    "event_series",
    "ingest_offsets",
    "ingest_ledger",
    "dead_letters",
];

/// Every `.sql` file below `src`, so that a new one cannot be forgotten.
fn statements() -> Vec<(String, String)> {
    let mut files = Vec::new();
    find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    files.sort();
    assert!(files.len() >= 13, "where are the statements? {files:?}");
    let name = |file: &Path| file.file_name().unwrap().to_string_lossy().into_owned();
    files.iter().map(|file| (name(file), fs::read_to_string(file).unwrap())).collect()
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "sql") {
            files.push(path);
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn every_statement_can_be_prepared(pool: PgPool) {
    let mut connection = PgConnection::connect_with(&pool.connect_options()).await.unwrap();
    for (name, statement) in statements() {
        let prepared = connection.prepare(AssertSqlSafe(statement).into_sql_str()).await;
        assert!(prepared.is_ok(), "{name}: {}", prepared.unwrap_err());
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn no_statement_reads_a_whole_table(pool: PgPool) {
    for month in [NOON, "2025-12-01T00:00:00Z"] {
        sqlx::query("SELECT create_event_partition($1)").bind(instant(month)).execute(&pool).await.unwrap();
    }
    let mut connection = PgConnection::connect_with(&pool.connect_options()).await.unwrap();
    connection.execute("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan").await.unwrap();
    for (name, statement) in statements() {
        let plan = plan(&mut connection, &statement).await;
        let whole = plan.lines().filter(|line| line.contains("Seq Scan on"));
        let large: Vec<_> = whole.filter(|line| LARGE.iter().any(|table| line.contains(table))).collect();
        assert!(large.is_empty(), "{name} reads a whole table:\n{plan}");
    }
}

/// The generic plan, as it is for any parameters.
async fn plan(connection: &mut PgConnection, statement: &str) -> String {
    connection.execute(AssertSqlSafe(format!("PREPARE probe AS {statement}"))).await.unwrap();
    let parameters = (1..).take_while(|number| statement.contains(&format!("${number}::"))).count();
    let nulls = vec!["NULL"; parameters].join(", ");
    let list = if parameters == 0 { String::new() } else { format!("({nulls})") };
    let explain = format!("EXPLAIN EXECUTE probe{list}");
    let lines: Vec<String> =
        sqlx::query_scalar(AssertSqlSafe(explain)).fetch_all(&mut *connection).await.unwrap();
    connection.execute("DEALLOCATE probe").await.unwrap();
    lines.join("\n")
}
