use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use shared::analytics::{InvalidEvent, Payload, PayloadLimits};
use sqlx::migrate::Migrator;
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::given::{Worker, an_event};

static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

fn a_string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z ,:{}\\[\\]]{0,5}",
        prop::sample::select(vec![
            "é",
            "€",
            "😀",
            "\u{7f}",
            "/",
            r"\/",
            r#"\""#,
            r"\\",
            r"\b",
            r"\f",
            r"\n",
            r"\r",
            r"\t",
            r"\u0001",
            r"\u001f",
            r"\u0008",
            r"\u000A",
            r"\u0020",
            r"\u0022",
            r"\u005c",
            r"\u007f",
            r"\u0080",
            r"\u00e9",
            r"\u07ff",
            r"\u0800",
            r"\u20AC",
            r"\uffff",
            r"\ud83d\ude00",
            r"\\u0041",
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

/// JSON as odd as producers write it; names come twice or not.
fn a_value(twice: bool) -> impl Strategy<Value = String> {
    let number = "-?(0|[1-9][0-9]{0,9})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,3})?";
    let border = prop::sample::select(vec![
        "1e131071",
        "-1E+131071",
        "1e-16383",
        "-0e-16383",
        "0.0e-5",
        "-0",
        "-0.00",
        "0e999",
        "100e-2",
        "0.001e131074",
        "0.00100",
        "123456789012345678901234567890.1200",
    ]);
    let literal = prop::sample::select(vec!["true", "false", " null "]);
    let leaf = prop_oneof![
        40 => number,
        1 => border.prop_map(str::to_owned),
        10 => literal.prop_map(str::to_owned),
        30 => a_string(),
    ];
    leaf.prop_recursive(4, 24, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|items| format!("[{} ]", items.join(" ,"))),
            members(inner, twice),
        ]
    })
}

fn members(value: impl Strategy<Value = String>, twice: bool) -> impl Strategy<Value = String> {
    prop::collection::vec((a_string(), "[ \t\n]{0,2}", value), 0..5).prop_map(move |members| {
        let member = |(number, (name, space, value)): (usize, &(String, String, String))| {
            let name = if twice { name.clone() } else { format!("\"{number}{}", &name[1..]) };
            format!("{space}{name}{space}:{value}")
        };
        format!("{{{}}}", members.iter().enumerate().map(member).collect::<Vec<_>>().join(","))
    })
}

/// No payload is let pass with so little.
fn written_bytes(json: &str) -> u64 {
    match Payload::new(json, PayloadLimits { max_depth: 128, max_bytes: 0 }) {
        Err(InvalidEvent::PayloadBytes { bytes, .. }) => bytes,
        other => panic!("{json}: {other:?}"),
    }
}

#[sqlx::test(migrations = false)]
async fn a_payload_is_as_long_as_postgresql_writes_it(pool: PgPool) {
    let mut runner = TestRunner::deterministic();
    for twice in [false, true] {
        let object = members(a_value(twice), twice);
        let objects: Vec<_> = (0..3_000).map(|_| object.new_tree(&mut runner).unwrap().current()).collect();
        let lengths: Vec<i32> = sqlx::query_scalar(
            "SELECT octet_length(json::jsonb::text) FROM unnest($1::text[]) WITH ORDINALITY AS k (json, place) ORDER BY place",
        )
        .bind(&objects)
        .fetch_all(&pool)
        .await
        .unwrap();
        for (json, length) in objects.iter().zip(lengths) {
            let (ours, theirs) = (written_bytes(json), u64::try_from(length).unwrap());
            // Of names that come twice PostgreSQL keeps the last, and all count here.
            assert!(ours == theirs || twice && ours > theirs, "{ours}, not {theirs}: {json}");
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn the_length_of_a_long_payload_is_stored_with_it(pool: PgPool) {
    let text = |length: usize| format!(r#"{{"t":"{}","n":1e20}}"#, "x".repeat(length));
    let drafts = [an_event(1).with_payload(&text(10)), an_event(2).with_payload(&text(20_000))];
    Worker::holding(&pool, &[0]).await.record_events(&drafts).await;
    let stored: Vec<(i32, Option<i64>)> =
        sqlx::query_as("SELECT octet_length(payload::text), payload_bytes FROM analytics_events ORDER BY 1")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(stored, [(47, None), (20_037, Some(20_037))]);
}

/// Of a release that let them pass.
const GREW: [(&str, u64); 6] = [
    (r#"{"x":[1e131071,-1e131071,{"y":[[0.001e131074]]}]}"#, 393_245),
    (r#"{"x":[0e-16383,-1e-16383,1.5e-16000]}"#, 48_800),
    (r#"{"a":0,"b":1e100,"c":-1e-100}"#, 0),
    (r#"{"a":[0,0.0,-17,1.10,1e20,12345678901234567890]}"#, 0),
    ("{}", 0),
    (r#"{"t":"1e131071"}"#, 0),
];

#[sqlx::test(migrations = false)]
async fn payloads_that_were_stored_before_are_measured_without_being_written_out(pool: PgPool) {
    let mut connection = PgConnection::connect_with(&pool.connect_options()).await.unwrap();
    let until = |last: i64| {
        let migrations = MIGRATOR.iter().filter(|migration| migration.version <= last).cloned().collect();
        let mut migrator = Migrator::with_migrations(migrations);
        migrator.set_ignore_missing(true);
        migrator
    };
    until(6).run(&mut connection).await.unwrap();
    sqlx::query("SELECT create_event_partition('2025-11-16Z')").execute(&mut connection).await.unwrap();
    let insert = "INSERT INTO analytics_events (id, event_type, source, occurred_at, payload)
        VALUES (gen_random_uuid(), 'grew', 'tests', '2025-11-16Z'::timestamptz + $1 * interval '1 s', $2::text::jsonb)";
    let poison = format!(r#"{{"x":[{}]}}"#, vec!["1e131071"; 9_000].join(","));
    let all: Vec<_> = GREW.into_iter().chain([(poison.as_str(), 1_179_666_007)]).collect();
    for (number, (json, _)) in (0..).zip(&all) {
        sqlx::query(insert).bind(number).bind(json).execute(&mut connection).await.unwrap();
    }
    MIGRATOR.run(&mut connection).await.unwrap();
    let noted: Vec<Option<i64>> =
        sqlx::query_scalar("SELECT payload_bytes FROM analytics_events ORDER BY occurred_at")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    for ((json, bytes), noted) in all.iter().zip(noted) {
        let noted = u64::try_from(noted.unwrap_or(0)).unwrap();
        // What is no number is estimated.
        assert!(noted.abs_diff(*bytes) <= bytes / 100, "{noted}, not {bytes}: {json:.60}");
    }
}

/// Somebody's long look at the table must not stop those who come after the migration.
#[sqlx::test(migrations = false)]
async fn the_migration_waits_for_no_lock_in_everybody_s_way(pool: PgPool) {
    let mut connection = PgConnection::connect_with(&pool.connect_options()).await.unwrap();
    let before = MIGRATOR.iter().filter(|migration| migration.version <= 6).cloned().collect();
    Migrator::with_migrations(before).run(&mut connection).await.unwrap();
    let mut looking = pool.begin().await.unwrap();
    sqlx::query("SELECT count(*) FROM analytics_events").execute(&mut *looking).await.unwrap();
    let migrating = async { MIGRATOR.run(&mut connection).await.unwrap() };
    let others = async {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while std::time::Instant::now() < until {
            let asked = std::time::Instant::now();
            sqlx::query("SELECT count(*) FROM analytics_events").execute(&pool).await.unwrap();
            assert!(asked.elapsed() < std::time::Duration::from_secs(3), "{:?}", asked.elapsed());
        }
        looking.rollback().await.unwrap();
    };
    tokio::join!(migrating, others);
}
