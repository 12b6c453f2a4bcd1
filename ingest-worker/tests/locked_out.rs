use std::sync::Arc;

use ingest_worker::commands::{LaneWriter, WriterReport};
use ingest_worker::health::Health;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::given::{GROUP, eventually, settings};

async fn run(pool: &PgPool, statement: String) {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(pool).await.unwrap();
}

/// As an operator does it who changes the database first and the workers' settings later, or the other way round.
#[sqlx::test(migrations = "../migrations")]
async fn a_password_that_is_rotated_keeps_a_lane_waiting_and_ends_nothing(pool: PgPool) {
    let role = format!("lane_{}", Uuid::new_v4().simple());
    run(&pool, format!("CREATE ROLE {role} LOGIN PASSWORD 'x' IN ROLE analytics_writer")).await;
    let login = settings((*pool.connect_options()).clone().username(&role).password("x"));
    let (batches, writer_batches) = mpsc::channel(1);
    let (reports, mut lane_reports) = mpsc::channel(4);
    let health = Health::default();
    let writer = LaneWriter {
        name: "database lane 0".to_owned(),
        database: login,
        group: Arc::from(GROUP),
        worker: Arc::from("test"),
        batches: writer_batches,
        reports,
        health: health.clone(),
    };
    let stop = CancellationToken::new();
    let operator = async {
        for round in 1..=3 {
            let report = lane_reports.recv().await.unwrap();
            let WriterReport::Connected(connection, backend) = report else { panic!("{report:?}") };
            assert_eq!(connection, round);
            assert_eq!(health.reasons(), []);
            run(&pool, format!("ALTER ROLE {role} PASSWORD 'y'")).await;
            sqlx::query("SELECT pg_terminate_backend($1, 5000)")
                .bind(backend.pid)
                .execute(&pool)
                .await
                .unwrap();
            let report = lane_reports.recv().await.unwrap();
            assert!(matches!(report, WriterReport::Disconnected), "{report:?}");
            let says = "it lets nobody in with these settings";
            let not_ready = async || {
                health.reasons().iter().any(|(_, reason)| reason.contains(says) && reason.contains("28P01"))
            };
            eventually("readiness says why", not_ready).await;
            run(&pool, format!("ALTER ROLE {role} PASSWORD 'x'")).await;
        }
        stop.cancel();
        drop(batches);
    };
    let (ended, ()) = tokio::join!(writer.run(stop.clone()), operator);
    ended.unwrap();
    run(&pool, format!("DROP ROLE {role}")).await;
}
