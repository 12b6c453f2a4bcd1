use std::path::Path;

use proptest::prelude::*;
use sqlx::postgres::PgSslMode;

use super::tests::{check, parse};
use crate::environment::Environment;
use crate::postgres::{Target, Tls, host, read};

fn url(text: &str) -> Result<Target, String> {
    read(text, Tls::default())
}

/// user, password, host, port, database
fn parts(text: &str) -> (String, Option<String>, String, u16, String) {
    let target = url(text).unwrap_or_else(|fault| panic!("{text} {fault}"));
    (target.user, target.password, target.host, target.port, target.database)
}

#[test]
fn a_url_is_read_as_it_is_meant() {
    for (text, user, password, host, port, database) in [
        ("postgres://u@h/d", "u", None, "h", 5432, "d"),
        ("postgresql://u:pw@db.example:6432/d", "u", Some("pw"), "db.example", 6432, "d"),
        ("postgres://u:pw@[::1]:5433/d", "u", Some("pw"), "::1", 5433, "d"),
        ("postgres://u:pw@[2001:db8::7]/d", "u", Some("pw"), "2001:db8::7", 5432, "d"),
        ("postgres://u@[fe80::1%25eth0]:1/d", "u", None, "fe80::1%eth0", 1, "d"),
        ("postgres://u@[::ffff:10.0.0.1]/d", "u", None, "::ffff:10.0.0.1", 5432, "d"),
        ("postgres://u@10.0.0.1:65535/d", "u", None, "10.0.0.1", 65535, "d"),
        ("postgres://u@my_db-1.local/d", "u", None, "my_db-1.local", 5432, "d"),
        ("postgres://u%40x:1234%2Fw%3F%23%25%3A@h/d%2F1", "u@x", Some("1234/w?#%:"), "h", 5432, "d/1"),
        ("postgres://u:a+b=c&d!$*[x]@h/d", "u", Some("a+b=c&d!$*[x]"), "h", 5432, "d"),
        ("postgres://ü:pässwörd@h/dätä", "ü", Some("pässwörd"), "h", 5432, "dätä"),
        ("postgres://u:p%C3%A4@h/d", "u", Some("pä"), "h", 5432, "d"),
        ("postgres://u@%2Fvar%2Frun%2Fpostgresql/d", "u", None, "/var/run/postgresql", 5432, "d"),
        ("postgres://u@%2Ftmp:5433/d", "u", None, "/tmp", 5433, "d"),
        ("postgres://u@/d?host=/tmp&port=5433", "u", None, "/tmp", 5433, "d"),
        ("postgres://u@:5433/d?host=%2Ftmp", "u", None, "/tmp", 5433, "d"),
    ] {
        let expected =
            (user.to_owned(), password.map(str::to_owned), host.to_owned(), port, database.to_owned());
        assert_eq!(parts(text), expected, "{text}");
    }
}

#[test]
fn what_the_url_says_about_tls_wins_over_the_settings() {
    let settings = Tls { mode: PgSslMode::VerifyFull, root: Some("/settings.pem".into()), ..Tls::default() };
    let tls = read("postgres://u@h/d", settings.clone()).ok().unwrap().tls;
    assert!(
        matches!(tls.mode, PgSslMode::VerifyFull) && tls.root.as_deref() == Some(Path::new("/settings.pem"))
    );
    let query =
        "sslmode=verify-ca&sslrootcert=/a%20b+c.pem&sslcert=/c.pem&sslkey=/k.pem&statement-cache-capacity=0";
    let target = read(&format!("postgres://u@h/d?{query}"), settings).ok().unwrap();
    assert!(matches!(target.tls.mode, PgSslMode::VerifyCa));
    assert_eq!(target.tls.root.as_deref(), Some(Path::new("/a b+c.pem")));
    assert_eq!(target.tls.identity, Some(("/c.pem".into(), "/k.pem".into())));
    assert_eq!(target.statement_cache, 0);
}

/// The secret of each is `s3cret`, wherever a slip of the pen puts it.
const WRONG: [(&str, &str); 51] = [
    ("", "neither postgres:// nor"),
    ("s3cret", "neither postgres:// nor"),
    ("mysql://u:s3cret@h/d", "neither postgres:// nor"),
    ("postgres:/u:s3cret@h/d", "neither postgres:// nor"),
    ("postgresql+asyncpg://u:s3cret@h/d", "neither postgres:// nor"),
    ("jdbc:postgresql://h/d?user=u&password=s3cret", "neither postgres:// nor"),
    (" postgres://u:s3cret@h/d", "neither postgres:// nor"),
    ("postgres://u:s3cret@h/d ", "%20"),
    ("postgres://u:s3cret w@h/d", "%20"),
    ("postgres://u:s3cret\n@h/d", "control character"),
    ("postgres://h/d", "no user"),
    ("postgres://h:5432/s3cret", "no user"),
    ("postgres://@h/d", "empty user"),
    ("postgres://:s3cret@h/d", "empty user"),
    ("postgres://u:@h/d", "empty password"),
    ("postgres://u:1234/s3cret@h:5432/d", "%2F"),
    ("postgres://u:s3cret?w@h/d", "%3F"),
    ("postgres://u:s3cret#w@h/d", "%23"),
    ("postgres://u:s3cret@w@h/d", "%40"),
    ("postgres://u:s3cret:w@h/d", "%3A"),
    ("postgres://u:s3cret%@h/d", "%25"),
    ("postgres://u:s3cret%zz@h/d", "%25"),
    ("postgres://u:s3cret%+f@h/d", "%25"),
    ("postgres://u:s3cret%ff@h/d", "not UTF-8"),
    ("postgres://u:s3cret%00@h/d", "NUL"),
    ("postgres://u:p@s3cret/w@h/d", "%40"),
    ("postgres://u:p@s3cret?w@h/d", "%40"),
    ("postgres://u:s3cret@h", "no database"),
    ("postgres://u:s3cret@h/", "empty database"),
    ("postgres://u:s3cret@h?sslmode=require", "no database"),
    ("postgres://u:s3cret@h/d/e", "%2F"),
    ("postgres://u:s3cret@/d", "no host"),
    ("postgres://u:s3cret@:5432/d", "no host"),
    ("postgres://u:s3cret@::1:5432/d", "brackets"),
    ("postgres://u:s3cret@[::1/d", "a host that"),
    ("postgres://u:s3cret@[::1]5432/d", "1 to 65535"),
    ("postgres://u:s3cret@[10.0.0.1]/d", "a host that"),
    ("postgres://u:s3cret@a,b/d", "one host"),
    ("postgres://u:s3cret@h:0/d", "1 to 65535"),
    ("postgres://u:s3cret@h:65536/d", "1 to 65535"),
    ("postgres://u:s3cret@h:+1/d", "1 to 65535"),
    ("postgres://u:s3cret@h:/d", "1 to 65535"),
    ("postgres://u@h/d?sslmod=verify-full&x=s3cret", "perhaps sslmode is meant; allowed are sslmode,"),
    ("postgres://u@h/d?s3cret=1", "unknown parameter, number 1; allowed are sslmode,"),
    ("postgres://u@h/d?sslmode=require&password=s3cret", "the parameter password, which is not supported"),
    ("postgres://u@h/d?sslmode=s3cret", "not disable, allow, prefer, require, verify-ca or verify-full"),
    ("postgres://u@h/d?sslmode=", "empty sslmode"),
    ("postgres://u@h/d?sslmode", "empty sslmode"),
    ("postgres://u@h/d?", "unknown parameter, number 1"),
    ("postgres://u@h/d?sslmode=require&sslmode=disable", "sslmode twice"),
    ("postgres://u@h:1/d?port=2", "port twice"),
];

#[test]
fn what_is_no_url_is_refused_with_advice_and_shown_to_nobody() {
    let more = [
        ("postgres://u@h/d?host=/tmp", "host twice"),
        ("postgres://u@/d?host=s3cret", "no folder"),
        ("postgres://u@h/d?sslcert=/s3cret", "both or none"),
        ("postgres://u@h/d?SSLMODE=require", "perhaps sslmode is meant"),
        ("postgres://u@h/d?sslmode=require&", "unknown parameter, number 2"),
        ("postgres://u@h/d?statement-cache-capacity=-1", "0 to 10000"),
    ];
    for (text, expected) in WRONG.into_iter().chain(more) {
        let fault = url(text).err().unwrap_or_else(|| panic!("{text} is taken"));
        assert!(fault.contains(expected), "{text}: {fault}");
        assert!(!fault.contains("s3cret") && !fault.contains("1234"), "{text}: {fault}");
        // As the process reports it.
        let faults = check(&[], &[("ANALYTICS_DATABASE_URL", text)]).err();
        let (faults, needed) = (faults.unwrap_or_default().join("\n"), !text.is_empty());
        assert!(
            faults.starts_with("ANALYTICS_DATABASE_URL ") == needed && !faults.contains("s3cret"),
            "{faults}"
        );
    }
}

#[test]
fn a_host_of_its_own_is_as_strict() {
    for (text, expected) in [
        ("localhost", "localhost"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("/tmp", "/tmp"),
        ("db.example.", "db.example."),
    ] {
        assert_eq!(host(text), Ok(expected.to_owned()));
    }
    for (value, expected) in [
        ("postgres://u:s3cret@h/d", "is a URL"),
        ("u:s3cret@h", "is a URL"),
        ("h:5432", "has a port"),
        ("[::1]:5432", "has a port"),
        ("[::1", "no IPv6"),
        ("a b", "a character other than"),
        ("a,b", "a list"),
        ("höst", "a character other than"),
        ("  ", "is empty"),
    ] {
        let faults = check(&[&format!("--postgres-host={value}")], &[]).err().unwrap();
        let [fault] = faults.as_slice() else { panic!("{value}: {faults:?}") };
        assert!(
            fault.starts_with("ANALYTICS_POSTGRES_HOST ") && fault.contains(expected),
            "{value}: {fault}"
        );
        assert!(!fault.contains("s3cret"), "{fault}");
    }
    let target = check(&["--postgres-host= [::1] "], &[]).ok().unwrap().database;
    assert_eq!((target.options.get_host(), target.options.get_port()), ("::1", 5432));
    let line = parse(&["worker", "--postgres-user=a\tb", "--postgres-db=postgres://u:s3cret@h/d"]);
    let faults = line.settings.check(Environment::default()).err().unwrap();
    assert_eq!(
        faults,
        [
            "ANALYTICS_POSTGRES_USER has control characters",
            "ANALYTICS_POSTGRES_DB is a URL; allowed is a name alone, a URL is ANALYTICS_DATABASE_URL",
        ]
    );
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

proptest! {
    #[test]
    fn any_password_survives_its_encoding(
        user in "[^\0]{1,9}", password in "[^\0]{1,20}", database in "[^\0]{1,9}", port in 1_u16..,
    ) {
        let text =
            format!("postgres://{}:{}@[::1]:{port}/{}", encoded(&user), encoded(&password), encoded(&database));
        prop_assert_eq!(parts(&text), (user, Some(password), "::1".to_owned(), port, database));
    }

    /// Either it is taken whole, or the password was ambiguous and nothing of it is shown.
    #[test]
    fn a_password_as_it_is_is_taken_whole_or_refused(password in "[ -~]{0,4}(secret)[ -~]{0,4}") {
        match url(&format!("postgres://u:{password}@h:1/d")) {
            Ok(target) => prop_assert!(
                target.password.as_deref() == Some(password.as_str()) || password.contains('%')
            ),
            Err(fault) => prop_assert!(!fault.contains("secret"), "{}", fault),
        }
    }

    #[test]
    fn no_text_ends_the_process(text in "(postgres://)?[ -~ä]{0,40}") {
        let _ = url(&text);
    }

    #[test]
    fn ambiguous_text_is_never_taken(text in "[a-z:@/?#%\\[\\]&=1]{0,24}") {
        if let Ok(target) = url(&format!("postgres://{text}")) {
            prop_assert_eq!(text.matches('@').count(), 1);
            prop_assert!(!target.user.is_empty() && !target.host.is_empty() && !target.database.is_empty());
        }
    }
}
