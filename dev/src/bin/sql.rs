//! Runs statements and prints their rows as a table: the local PostgreSQL comes without `psql`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use futures_util::TryStreamExt as _;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Column as _, Connection as _, Either, Executor as _, PgConnection, Row as _};
use sqlx::{SqlSafeStr as _, TypeInfo as _, ValueRef as _};

/// Runs statements and prints their rows as a table.
#[derive(Parser)]
#[command(name = "sql")]
struct Options {
    /// One statement or several with semicolons between them.
    statements: String,

    /// The database.
    #[arg(long, env = "STACK_OWNER_URL", hide_env_values = true)]
    url: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        // `head` has seen enough.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(is_broken_pipe) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sql: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

async fn run(options: &Options) -> Result<()> {
    let mut connection = PgConnection::connect(&options.url).await.context("no connection")?;
    let mut results = Vec::new();
    {
        let statements = sqlx::raw_sql(AssertSqlSafe(options.statements.clone()));
        let mut stream = statements.fetch_many(&mut connection);
        let mut rows = Vec::new();
        while let Some(item) = stream.try_next().await? {
            match item {
                Either::Right(row) => rows.push(row),
                Either::Left(done) => results.push((std::mem::take(&mut rows), done.rows_affected())),
            }
        }
    }
    let alone = results.len() == 1;
    for (rows, affected) in results {
        let mut header = rows.first().map(header).unwrap_or_default();
        if header.is_empty() && alone {
            // Rows bring their columns along; where there are none, only preparing the statement tells.
            let prepared =
                connection.describe(AssertSqlSafe(options.statements.clone()).into_sql_str()).await;
            let columns = prepared.map(|described| described.columns).unwrap_or_default();
            header = columns.iter().map(|column| heading(column.name(), column.type_info().name())).collect();
        }
        let text = if header.is_empty() { done(affected) } else { table(&header, &rows)? };
        io::stdout().write_all(text.as_bytes())?;
    }
    Ok(connection.close().await?)
}

fn done(affected: u64) -> String {
    if affected == 0 { "done\n".to_owned() } else { format!("done, {}\n", rows_in_words(affected)) }
}

fn rows_in_words(rows: u64) -> String {
    if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") }
}

struct Heading {
    name: String,
    numeric: bool,
}

fn heading(name: &str, type_name: &str) -> Heading {
    let numeric = ["INT2", "INT4", "INT8", "FLOAT4", "FLOAT8", "NUMERIC", "OID"].contains(&type_name);
    Heading { name: name.to_owned(), numeric }
}

fn header(row: &PgRow) -> Vec<Heading> {
    row.columns().iter().map(|column| heading(column.name(), column.type_info().name())).collect()
}

fn table(header: &[Heading], rows: &[PgRow]) -> Result<String> {
    let cells: Vec<Vec<String>> = rows.iter().map(cells).collect::<Result<_>>()?;
    let width = |index: usize| {
        let cells = cells.iter().filter_map(|row| row.get(index)).map(|cell| cell.chars().count());
        cells.chain(header.get(index).map(|heading| heading.name.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    let names: Vec<_> =
        header.iter().zip(&widths).map(|(heading, width)| format!(" {:^width$} ", heading.name)).collect();
    push_line(&mut text, &names.join("|"));
    let rule: Vec<_> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
    push_line(&mut text, &rule.join("+"));
    for row in &cells {
        let aligned = |((cell, heading), width): ((&String, &Heading), &usize)| {
            if heading.numeric { format!(" {cell:>width$} ") } else { format!(" {cell:<width$} ") }
        };
        let line: Vec<_> = row.iter().zip(header).zip(&widths).map(aligned).collect();
        push_line(&mut text, &line.join("|"));
    }
    let count = u64::try_from(rows.len())?;
    push_line(&mut text, &format!("({})", rows_in_words(count)));
    Ok(text)
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

/// PostgreSQL's own text of every value, whatever its type; NULL is nothing.
fn cells(row: &PgRow) -> Result<Vec<String>> {
    let cell = |index| {
        let value = row.try_get_raw(index)?;
        let text =
            if value.is_null() { "" } else { value.as_str().map_err(|error| anyhow::anyhow!(error))? };
        Ok(text.replace('\r', "").replace('\n', "↵").replace('\t', "  "))
    };
    (0..row.len()).map(cell).collect()
}

/// What PostgreSQL says, on one line.
fn sentence(error: &anyhow::Error) -> String {
    let database = error.chain().find_map(|cause| cause.downcast_ref::<sqlx::Error>()?.as_database_error());
    let Some(database) = database else { return format!("{error:#}").replace('\n', " ") };
    let postgres = database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>();
    let code = database.code().map(|code| format!(" ({code})")).unwrap_or_default();
    let detail =
        postgres.and_then(|error| error.detail()).map(|detail| format!("; {detail}")).unwrap_or_default();
    let hint = postgres.and_then(|error| error.hint()).map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("{}{code}{detail}{hint}", database.message()).replace('\n', " ")
}
