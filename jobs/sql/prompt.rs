//! The prompt: history, completion, and commands that begin with a point.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use anyhow::Context;
use rustyline::error::ReadlineError;
use rustyline::hint::HistoryHinter;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};

use super::complete::PromptHelper;
use super::output::Target;
use super::query::{self, Cancelled, CtrlC, Interrupt, Settings};
use super::{Format, QueryContext, SqlArgs};
use crate::ui::{Look, Paint, seconds, thousands};
use assay::domain::closest;
use assay::query::{Column, Names, split_epoch, statements};

/// Commands and what they do.
pub const COMMANDS: &[(&str, &str)] = &[
    (".tables", "list the tables"),
    (".describe layer.table", "the columns of a table"),
    (".epoch n", "read the lake as it was after epoch n; `.epoch latest` follows it again"),
    (".format table|csv|json", "how rows are shown"),
    (".help", "this list"),
    (".quit", "leave (also Ctrl-D)"),
];

const HISTORY_LINES: usize = 10_000;

type LineEditor = Editor<PromptHelper, FileHistory>;

/// Reads and answers until the user leaves.
///
/// # Errors
/// When the terminal or the lake fails; a query that fails only says so.
pub async fn run(args: &SqlArgs, ctx: &dyn QueryContext) -> anyhow::Result<()> {
    let look = Look::of_stdout();
    let mut shell = Shell::new(args, look, ctx).await?;
    let history = history_file();
    let mut editor = editor(&shell, history.as_deref())?;
    say!("{}", shell.banner())?;
    loop {
        let prompt = shell.prompt();
        let (returned, line) = read_line(editor, prompt).await?;
        editor = returned;
        let line = match line {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error).context("the terminal cannot be read"),
        };
        if line.trim().is_empty() {
            continue;
        }
        let _ = editor.add_history_entry(line.trim());
        match shell.answer(&line, &CtrlC).await {
            Answer::Text(text) => crate::ui::print(format_args!("{text}"))?,
            Answer::Shown => {}
            Answer::Quit => break,
        }
    }
    if let Some(path) = history
        && let Err(error) = editor.save_history(&path)
    {
        eprintln!("the history could not be kept in {}: {error}", path.display());
    }
    Ok(())
}

/// Whether a line of the prompt is a command rather than SQL.
pub fn is_command(line: &str) -> bool {
    let line = line.trim().trim_end_matches(';').trim_end();
    line.starts_with('.') || line.starts_with('\\') || matches!(line, "help" | "quit" | "exit")
}

/// What the prompt does with a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// To print.
    Text(String),
    /// Rows, already printed.
    Shown,
    Quit,
}

/// The prompt without its terminal.
pub struct Shell<'a> {
    ctx: &'a dyn QueryContext,
    settings: Settings,
    pub names: Arc<RwLock<Names>>,
}

impl<'a> Shell<'a> {
    pub async fn new(args: &SqlArgs, look: Look, ctx: &'a dyn QueryContext) -> anyhow::Result<Self> {
        let settings = Settings::new(args, look, Target::Stdout);
        query::prepare("", settings.epoch, ctx.latest_epoch())?;
        let names = Names::load(&ctx.session(settings.epoch).await?).await;
        Ok(Self { ctx, settings, names: Arc::new(RwLock::new(names)) })
    }

    pub fn prompt(&self) -> String {
        self.settings.epoch.map_or_else(|| "assay> ".to_owned(), |epoch| format!("assay@{epoch}> "))
    }

    /// Answers one whole input: a command, or statements that end with a semicolon.
    pub async fn answer(&mut self, line: &str, interrupt: &dyn Interrupt) -> Answer {
        if is_command(line) {
            return self.command(line.trim().trim_end_matches(';').trim_end()).await;
        }
        let statements = match statements(line) {
            Ok(statements) => statements,
            Err(error) => return self.error(&error.render(line)),
        };
        for statement in &statements {
            if let Err(error) = self.query(statement, interrupt).await {
                if error.is::<Cancelled>() {
                    return Answer::Text(format!("{}\n", self.settings.look.paint(Paint::Warning, "cancelled")));
                }
                return self.error(&format!("{error:#}"));
            }
        }
        Answer::Shown
    }

    async fn query(&self, statement: &str, interrupt: &dyn Interrupt) -> anyhow::Result<()> {
        #[expect(clippy::disallowed_methods, reason = "the user is told how long a query took")]
        let began = Instant::now();
        let (_, named) = split_epoch(statement).unwrap_or_default();
        // An epoch that the query names is meant; that of the prompt is only the habit.
        let epoch = named.or(self.settings.epoch);
        let settings = Settings { epoch, ..self.settings.clone() };
        let done = query::run(statement, &settings, self.ctx, interrupt).await?;
        if self.settings.format == Format::Table {
            let rows = if done.truncated { query::truncation_note(done.rows) } else { rows(done.rows) };
            let of = epoch.map_or_else(String::new, |epoch| format!(", epoch {epoch}"));
            let note = format!("{rows}{of}, {}", seconds(began.elapsed()));
            say!("{}\n", self.settings.look.paint(Paint::Faint, &note))?;
        }
        Ok(())
    }

    async fn command(&mut self, line: &str) -> Answer {
        let mut words = line.trim_end_matches(';').split_whitespace();
        let (name, argument) = (words.next().unwrap_or_default(), words.next());
        match (name, argument) {
            (".quit" | ".exit" | "\\q" | "quit" | "exit", _) => Answer::Quit,
            (".help" | "\\?" | "\\h" | "help", _) => Answer::Text(self.help()),
            (".tables" | "\\dt" | "\\d", None) => Answer::Text(self.tables()),
            (".describe" | "\\d", Some(table)) => self.describe(table),
            (".describe", None) => self.error("which table? .describe layer.table"),
            (".epoch", argument) => self.epoch(argument).await,
            (".format", argument) => self.format(argument),
            _ => {
                let known = COMMANDS.iter().map(|(name, _)| name.split(' ').next().unwrap_or(name));
                let hint = closest(name, known).first().map_or(String::new(), |name| format!(" Did you mean {name}?"));
                self.error(&format!("there is no command {name}; .help lists them.{hint}"))
            }
        }
    }

    async fn epoch(&mut self, argument: Option<&str>) -> Answer {
        let latest = self.ctx.latest_epoch();
        let epoch = match argument {
            None => {
                let reading = self.settings.epoch.map_or("the latest".to_owned(), |epoch| epoch.to_string());
                return Answer::Text(format!("reading epoch: {reading}; the latest complete one is {latest}\n"));
            }
            Some("latest") => None,
            Some(number) => match number.parse::<i64>() {
                Ok(number) if number >= 1 => Some(number),
                _ => return self.error("an epoch is a number from 1, or `latest`"),
            },
        };
        if let Err(error) = query::prepare("", epoch, latest) {
            return self.error(&error.to_string());
        }
        match self.ctx.session(epoch).await {
            Ok(session) => {
                let names = Names::load(&session).await;
                *self.names.write().unwrap_or_else(PoisonError::into_inner) = names;
                self.settings.epoch = epoch;
                Answer::Text(String::new())
            }
            Err(error) => self.error(&format!("{error:#}")),
        }
    }

    fn format(&mut self, argument: Option<&str>) -> Answer {
        self.settings.format = match argument {
            Some("table") => Format::Table,
            Some("csv") => Format::Csv,
            Some("json") => Format::Json,
            _ => return self.error("the formats of the prompt are table, csv and json"),
        };
        Answer::Text(String::new())
    }

    fn tables(&self) -> String {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        if names.tables.is_empty() {
            return "there are no tables yet\n".to_owned();
        }
        let width = names.tables.keys().map(String::len).max().unwrap_or(0);
        let line = |(name, columns): (&String, &Vec<_>)| {
            format!(
                "  {name:<width$}  {}\n",
                self.settings.look.paint(Paint::Faint, &format!("{} columns", columns.len()))
            )
        };
        names.tables.iter().map(line).collect()
    }

    fn describe(&self, table: &str) -> Answer {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let Some(columns) = names.tables.get(table) else {
            let near = names.like_table(table).join(", ");
            let hint = if near.is_empty() { ".tables lists them".to_owned() } else { format!("did you mean {near}?") };
            return self.error(&format!("there is no table `{table}`; {hint}"));
        };
        let width = columns.iter().map(|column| column.name.len()).max().unwrap_or(0);
        let line = |column: &Column| {
            let null = if column.nullable { "" } else { "  not null" };
            format!(
                "  {:<width$}  {}{null}\n",
                column.name,
                self.settings.look.paint(Paint::Accent, &column.kind.to_string())
            )
        };
        Answer::Text(columns.iter().map(line).collect())
    }

    fn help(&self) -> String {
        let line = |(name, about): &(&str, &str)| format!("  {name:<24}{about}\n");
        let commands: String = COMMANDS.iter().map(line).collect();
        format!(
            "{commands}\n  SQL ends with a semicolon. `AS OF EPOCH n` reads a consistent past. Ctrl-C stops a query.\n"
        )
    }

    fn banner(&self) -> String {
        let tables = self.names.read().unwrap_or_else(PoisonError::into_inner).tables.len();
        let look = self.settings.look;
        let state = format!("{tables} tables, latest epoch {}; .help for help", self.ctx.latest_epoch());
        format!(
            "{} {}",
            look.paint(Paint::Title, concat!("assay ", env!("CARGO_PKG_VERSION"))),
            look.paint(Paint::Faint, &state)
        )
    }

    fn error(&self, text: &str) -> Answer {
        Answer::Text(format!("{}{text}\n", self.settings.look.paint(Paint::Bad, "error: ")))
    }
}

fn rows(count: u64) -> String {
    if count == 1 { "1 row".to_owned() } else { format!("{} rows", thousands(count)) }
}

fn editor(shell: &Shell<'_>, history: Option<&std::path::Path>) -> anyhow::Result<LineEditor> {
    let config = Config::builder()
        .history_ignore_space(true)
        .max_history_size(HISTORY_LINES)?
        .completion_type(CompletionType::List)
        .build();
    let mut editor = LineEditor::with_config(config).context("the terminal cannot be used")?;
    let colors = shell.settings.look.colors;
    editor.set_helper(Some(PromptHelper { names: shell.names.clone(), hinter: HistoryHinter::new(), colors }));
    if let Some(path) = history {
        // There is none the first time.
        let _ = editor.load_history(path);
    }
    Ok(editor)
}

/// Reading blocks, so it has a thread; the editor goes there and comes back.
async fn read_line(mut editor: LineEditor, prompt: String) -> anyhow::Result<(LineEditor, rustyline::Result<String>)> {
    let reading = tokio::task::spawn_blocking(move || {
        let line = editor.readline(&prompt);
        (editor, line)
    });
    reading.await.context("the prompt failed")
}

/// `$XDG_STATE_HOME/assay/sql_history`, by default below `~/.local/state`; `None` when there is no home.
fn history_file() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")))?;
    let assay = state.join("assay");
    std::fs::create_dir_all(&assay).ok()?;
    Some(assay.join("sql_history"))
}
