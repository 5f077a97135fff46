use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::fmt::MakeWriter;

use super::{Look, Paint, instant, seconds, thousands};

/// Between two plain lines; a scheduler's log stays readable.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

/// Where a job stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Since the job began.
    pub elapsed: Duration,
    pub messages: u64,
    pub bronze_rows: u64,
    pub dead_letters: u64,
    pub silver_rows: u64,
    pub duplicates: u64,
    pub quarantined: u64,
    pub gold_rows: u64,
    pub score_rows: u64,
    /// The latest published epoch; 0 before the first.
    pub epoch: i64,
    pub watermark_us: Option<i64>,
    /// Messages still to be read; `None` while unknown.
    pub lag: Option<i64>,
    /// Messages per second, lately.
    pub rate_per_s: f64,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Lines that are redrawn, on a terminal.
    Live,
    /// A line every two seconds, in a pipe or a log.
    Plain,
    /// With `--json` or `--quiet`.
    Silent,
}

impl Mode {
    /// What fits stderr; `silent` is what the flags say.
    #[must_use]
    pub fn of_stderr(silent: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        match (silent, io::stderr().is_terminal() && !dumb) {
            (true, _) => Self::Silent,
            (false, true) => Self::Live,
            (false, false) => Self::Plain,
        }
    }
}

/// What there is to do in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// It ends when it is stopped.
    Endless,
    /// So many messages.
    Messages(u64),
    /// So many bytes of files, told by [`Progress::read_bytes`].
    Bytes(u64),
}

/// The terminal, shared by the progress display and the log. Clones share it.
#[derive(Debug, Clone)]
pub struct Screen {
    pub(super) mode: Mode,
    pub(super) lines: MultiProgress,
}

impl Screen {
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        let target =
            if mode == Mode::Live { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
        Self { mode, lines: MultiProgress::with_draw_target(target) }
    }

    /// Where log lines go, so that they scroll above the display instead of through it.
    #[must_use]
    pub fn log_writer(&self) -> LogWriter {
        LogWriter { lines: self.lines.clone() }
    }

    /// Starts to show a job; `title` is its name.
    #[must_use]
    pub fn progress(&self, title: &str, goal: Goal) -> Progress {
        let display = match self.mode {
            Mode::Live => Display::Live(Box::new(live_bar(&self.lines, goal))),
            Mode::Plain => Display::Plain { out: Box::new(io::stderr()), last: None },
            Mode::Silent => Display::Silent,
        };
        Progress { title: title.to_owned(), goal, bytes: 0, display }
    }
}

/// Shows one job. What cannot be written is not shown: progress never fails a job.
pub struct Progress {
    title: String,
    goal: Goal,
    bytes: u64,
    display: Display,
}

enum Display {
    Live(Box<ProgressBar>),
    Plain { out: Box<dyn Write + Send>, last: Option<Duration> },
    Silent,
}

impl Progress {
    /// Plain lines to a writer of the caller's.
    #[cfg(test)]
    pub fn plain(title: &str, goal: Goal, out: Box<dyn Write + Send>) -> Self {
        Self { title: title.to_owned(), goal, bytes: 0, display: Display::Plain { out, last: None } }
    }

    /// How many bytes of [`Goal::Bytes`] are read; shown with the next [`update`](Self::update).
    pub fn read_bytes(&mut self, bytes: u64) {
        self.bytes = bytes;
    }

    /// Call it a few times a second; it draws or prints only when due.
    pub fn update(&mut self, snapshot: &Snapshot) {
        match &mut self.display {
            Display::Live(bar) => draw(bar, &self.title, self.goal, self.bytes, snapshot),
            Display::Plain { out, last } => {
                if last.is_some_and(|last| snapshot.elapsed.saturating_sub(last) < PLAIN_EVERY) {
                    return;
                }
                *last = Some(snapshot.elapsed);
                let _ = writeln!(out, "{}", plain_line(&self.title, share(self.goal, self.bytes, snapshot), snapshot));
            }
            Display::Silent => {}
        }
    }

    /// The last state stays on the terminal; a plain log gets a last line.
    pub fn finish(mut self, snapshot: &Snapshot) {
        match &mut self.display {
            Display::Live(bar) => {
                draw(bar, &self.title, self.goal, self.bytes, snapshot);
                bar.abandon();
            }
            Display::Plain { last, .. } => {
                *last = None;
                self.update(snapshot);
            }
            Display::Silent => {}
        }
    }
}

/// The lines of a live display.
pub(super) fn live_lines(title: &str, snapshot: &Snapshot, look: Look) -> Vec<String> {
    let faint = |text: &str| look.paint(Paint::Faint, text);
    let count = |number: u64| format!("{:>13}", thousands(number));
    let trouble = |number: u64, name: &str| {
        let text = format!("{:>11} {name}", thousands(number));
        if number == 0 { faint(&text) } else { look.paint(Paint::Warning, &text) }
    };
    let head = format!(
        "{}  {}  {}  {}",
        look.paint(Paint::Title, title),
        seconds(snapshot.elapsed),
        look.paint(Paint::Accent, &format!("{} events/s", rate(snapshot.rate_per_s))),
        faint(&format!("epoch {}", snapshot.epoch)),
    );
    let times = format!(
        "  {} {}   {} {}",
        faint("lag"),
        snapshot.lag.map_or_else(|| "–".to_owned(), |lag| thousands(u64::try_from(lag).unwrap_or(0))),
        faint("watermark"),
        snapshot.watermark_us.map_or_else(|| "–".to_owned(), instant),
    );
    let layer =
        |name: &str, rows: u64| format!("  {} {} rows", look.paint(Paint::Title, &format!("{name:<8}")), count(rows));
    let lines = [
        head,
        times,
        format!("{} {}", layer("bronze", snapshot.bronze_rows), trouble(snapshot.dead_letters, "dead letters")),
        format!(
            "{} {} {}",
            layer("silver", snapshot.silver_rows),
            trouble(snapshot.duplicates, "duplicates  "),
            trouble(snapshot.quarantined, "quarantined"),
        ),
        layer("gold", snapshot.gold_rows),
        layer("scores", snapshot.score_rows),
    ];
    lines.iter().map(|line| look.fit(line)).collect()
}

/// One line of a log; the names never change, so that it can be searched.
pub(super) fn plain_line(title: &str, share: Option<f64>, snapshot: &Snapshot) -> String {
    let mut line = format!("{title} {:.1}s", snapshot.elapsed.as_secs_f64());
    if let Some(share) = share {
        line.push_str(&format!(" {:.0}%", share * 100.0));
    }
    let unknown = || "unknown".to_owned();
    let lag = snapshot.lag.map_or_else(unknown, |lag| lag.to_string());
    let watermark = snapshot.watermark_us.map_or_else(unknown, |at| instant(at).replace(' ', "T"));
    line.push_str(&format!(
        " epoch={} rate={:.0}/s messages={} bronze={} dead_letters={} silver={} duplicates={} quarantined={} gold={} \
         scores={} lag={lag} watermark={watermark}",
        snapshot.epoch,
        snapshot.rate_per_s,
        snapshot.messages,
        snapshot.bronze_rows,
        snapshot.dead_letters,
        snapshot.silver_rows,
        snapshot.duplicates,
        snapshot.quarantined,
        snapshot.gold_rows,
        snapshot.score_rows,
    ));
    line
}

fn live_bar(lines: &MultiProgress, goal: Goal) -> ProgressBar {
    let (length, template) = match goal {
        Goal::Endless => (None, "{spinner} {msg}"),
        Goal::Messages(total) => (Some(total), "{spinner} {msg}\n  {bar:40} {percent:>3}%"),
        Goal::Bytes(total) => (Some(total), "{spinner} {msg}\n  {bar:40} {percent:>3}%  {bytes} of {total_bytes}"),
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = lines.add(ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden()));
    bar.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ").progress_chars("━╸─"));
    bar
}

fn draw(bar: &ProgressBar, title: &str, goal: Goal, bytes: u64, snapshot: &Snapshot) {
    let look = Look::of_stderr();
    // The first line begins after the spinner.
    let look = Look { width: look.width.map(|width| width.saturating_sub(2)), ..look };
    bar.set_message(live_lines(title, snapshot, look).join("\n"));
    match goal {
        Goal::Endless => {}
        Goal::Messages(_) => bar.set_position(snapshot.messages),
        Goal::Bytes(_) => bar.set_position(bytes),
    }
    bar.tick();
}

#[allow(clippy::cast_precision_loss, reason = "a percentage needs no more than 53 bits")]
fn share(goal: Goal, bytes: u64, snapshot: &Snapshot) -> Option<f64> {
    let (done, total) = match goal {
        Goal::Endless => return None,
        Goal::Messages(total) => (snapshot.messages, total),
        Goal::Bytes(total) => (bytes, total),
    };
    (total > 0).then(|| (done as f64 / total as f64).min(1.0))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates, NaN is 0")]
fn rate(per_s: f64) -> String {
    thousands(per_s.round() as u64)
}

/// Writes log lines to stderr above the live display.
#[derive(Debug, Clone)]
pub struct LogWriter {
    lines: MultiProgress,
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lines.suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
