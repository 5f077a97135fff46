use std::io::IsTerminal;
use std::time::Duration;

use console::Term;

/// How wide the output may be, and whether it may have colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Columns of the terminal; `None` where nothing bounds a line (a pipe, a file).
    pub width: Option<usize>,
    pub colors: bool,
}

/// What a piece of text is, rather than its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    Title,
    Faint,
    Good,
    Bad,
    Warning,
    Accent,
}

impl Look {
    /// No colours, no bound on the width.
    pub const PLAIN: Self = Self { width: None, colors: false };

    #[must_use]
    pub fn of_stdout() -> Self {
        Self::of(&Term::stdout(), std::io::stdout().is_terminal())
    }

    #[must_use]
    pub fn of_stderr() -> Self {
        Self::of(&Term::stderr(), std::io::stderr().is_terminal())
    }

    #[must_use]
    pub fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Title => "1",
            Paint::Faint => "2",
            Paint::Good => "32",
            Paint::Bad => "1;31",
            Paint::Warning => "33",
            Paint::Accent => "36",
        };
        if self.colors { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Cut to the width of the terminal.
    #[must_use]
    pub fn fit(self, line: &str) -> String {
        match self.width {
            Some(width) => console::truncate_str(line, width, "…").into_owned(),
            None => line.to_owned(),
        }
    }

    fn of(term: &Term, is_terminal: bool) -> Self {
        let width = is_terminal.then(|| usize::from(term.size().1).max(20));
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self { width, colors: is_terminal && !dumb && !set("NO_COLOR") }
    }
}

/// `1234567` as `1,234,567`.
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `0.42 s`, `12.3 s`, `4:05`, `1:04:05`.
#[must_use]
pub fn seconds(time: Duration) -> String {
    let whole = time.as_secs();
    match whole {
        0..10 => format!("{:.2} s", time.as_secs_f64()),
        10..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{}:{:02}", whole / 60, whole % 60),
        _ => format!("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60),
    }
}

/// Microseconds since 1970 as `2026-01-31 23:59:59Z`.
#[must_use]
pub fn instant(micros: i64) -> String {
    match chrono::DateTime::from_timestamp_micros(micros) {
        Some(at) => at.format("%Y-%m-%d %H:%M:%SZ").to_string(),
        None => format!("{micros} µs"),
    }
}
