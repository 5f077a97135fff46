//! `assay sql`: one query, a script from a pipe, or a prompt.

mod complete;
mod output;
mod prompt;
mod query;
#[cfg(test)]
mod tests;

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use assay::query::statements;
use async_trait::async_trait;
use clap::{Args, ValueEnum};
use datafusion::prelude::SessionContext;

use crate::exit::UsageError;
use crate::ui::{Look, Paint};

use query::{CtrlC, Interrupt};

/// A script larger than this is a mistake: a data file, most likely.
const SCRIPT_BYTES_MAX: u64 = 16 << 20;
const TERMINAL_ROWS: usize = 1000;
/// A table is aligned in memory; other formats stream.
const PIPED_ROWS: usize = 100_000;

/// Query the lake with SQL.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:\n  \
    assay sql \"SELECT count(*) FROM silver.transactions\"\n  \
    assay sql \"SELECT * FROM gold.platform_hourly AS OF EPOCH 12\"\n  \
    assay sql --output scores.parquet \"SELECT * FROM gold.fraud_scores\"\n\n\
    Without a query: a prompt on a terminal, else the queries of stdin, each ended by a semicolon.")]
pub struct SqlArgs {
    /// The query; `AS OF EPOCH n` at its end or after a table reads the lake as it was then
    pub query: Option<String>,
    /// How rows are written; csv, json and parquet stream, so memory stays constant [default: what the ending of --output
    /// says, else json with --json, else a table]
    #[arg(long, short, value_enum)]
    pub format: Option<Format>,
    /// Write rows to this file instead of stdout; it appears only once it is whole
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Read the lake as it was after this epoch
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub epoch: Option<i64>,
    /// Rows that a table shows at most, 0 for all [default: 1000 on a terminal, else 100000]
    #[arg(long, value_name = "N")]
    pub limit_rows: Option<usize>,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Aligned columns, for people
    #[default]
    Table,
    /// Comma-separated with a header line; nested values as JSON text
    Csv,
    /// One JSON object a line
    Json,
    /// A Parquet file, zstd
    Parquet,
}

impl SqlArgs {
    /// The format that was asked for, by name, by the ending of a file, or by the flag for machines.
    fn format(&self) -> Format {
        let ending = self.output.as_ref().and_then(|output| output.extension()).and_then(|ending| ending.to_str());
        self.format.unwrap_or(match ending {
            Some("csv") => Format::Csv,
            Some("json" | "jsonl" | "ndjson") => Format::Json,
            Some("parquet") => Format::Parquet,
            _ => Format::Table,
        })
    }
}

/// Where queries run: the lake, as of its latest complete epoch or an earlier one.
#[async_trait]
pub trait QueryContext: Send + Sync {
    /// A session whose tables, `layer.name`, are all as of one epoch: this one, or the latest complete.
    async fn session(&self, epoch: Option<i64>) -> anyhow::Result<SessionContext>;

    /// The latest complete epoch; 0 when there is none.
    fn latest_epoch(&self) -> i64;
}

/// Runs the job.
///
/// # Errors
/// [`UsageError`] for arguments and queries that cannot be right; anything else when a query fails or is cancelled.
pub async fn run(args: SqlArgs, ctx: &dyn QueryContext) -> anyhow::Result<()> {
    let target = output::Target::of(args.output.clone());
    if args.format() == Format::Parquet && args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(UsageError("parquet is not for a terminal: add --output FILE, or pipe it".to_owned()).into());
    }
    let script = match &args.query {
        Some(query) => query.clone(),
        None if std::io::stdin().is_terminal() => {
            if args.output.is_some() || matches!(args.format(), Format::Parquet) {
                return Err(UsageError("--output and parquet need a query".to_owned()).into());
            }
            return prompt::run(&args, ctx).await;
        }
        None => read_script()?,
    };
    let settings = query::Settings::new(&args, Look::of_stdout(), target);
    run_script(&script, &settings, ctx, &CtrlC).await
}

/// The statements of a script, one after the other; the first that fails ends it.
pub(crate) async fn run_script(
    script: &str,
    settings: &query::Settings,
    ctx: &dyn QueryContext,
    interrupt: &dyn Interrupt,
) -> anyhow::Result<()> {
    let statements = statements(script).map_err(|error| UsageError(error.render(script)))?;
    if statements.is_empty() {
        return Err(UsageError("there is no query: give one as the argument or on stdin".to_owned()).into());
    }
    if statements.len() > 1 && settings.format != Format::Table {
        let count = statements.len();
        let message = format!("{count} queries make one table each, not one file: run them one by one");
        return Err(UsageError(message).into());
    }
    let several = statements.len() > 1;
    for statement in &statements {
        let done = query::run(statement, settings, ctx, interrupt).await?;
        if done.truncated {
            let look = Look::of_stderr();
            eprintln!("{}", look.paint(Paint::Faint, &query::truncation_note(done.rows)));
        }
        if several {
            say!("")?;
        }
    }
    Ok(())
}

fn read_script() -> anyhow::Result<String> {
    let mut script = String::new();
    let read = std::io::stdin().take(SCRIPT_BYTES_MAX + 1).read_to_string(&mut script);
    let bytes = read.map_err(|error| UsageError(format!("stdin cannot be read as a query: {error}")))?;
    if bytes as u64 > SCRIPT_BYTES_MAX {
        return Err(UsageError(format!("stdin has more than {SCRIPT_BYTES_MAX} bytes: is it a query?")).into());
    }
    Ok(script)
}
