use std::io::{self, Write};
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};

use super::{Mode, Screen};

/// Shows a job that goes from step to step: a bar on a terminal, a line per step in a pipe or a log.
///
/// May be told from several threads. What cannot be written is not shown: progress never fails a job.
pub struct Steps {
    display: Display,
}

enum Display {
    Live(ProgressBar),
    Plain { title: String, last: Mutex<String> },
    Silent,
}

impl Screen {
    /// Starts to show a job; `title` is its name.
    #[must_use]
    pub fn steps(&self, title: &str) -> Steps {
        let display = match self.mode {
            Mode::Live => {
                let style = ProgressStyle::with_template("{spinner} {prefix}  {elapsed}  {msg}  {bar:24} {pos}/{len}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner());
                let bar = self.lines.add(ProgressBar::new(1));
                bar.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ").progress_chars("━╸─"));
                bar.set_prefix(title.to_owned());
                bar.enable_steady_tick(std::time::Duration::from_millis(100));
                Display::Live(bar)
            }
            Mode::Plain => Display::Plain { title: title.to_owned(), last: Mutex::default() },
            Mode::Silent => Display::Silent,
        };
        Steps { display }
    }
}

impl Steps {
    /// `done` of `of` parts of a step are done. In a log each step is one line, when it begins.
    pub fn at(&self, step: &str, done: usize, of: usize) {
        match &self.display {
            Display::Live(bar) => {
                bar.set_message(step.to_owned());
                bar.set_length(of as u64);
                bar.set_position(done as u64);
            }
            Display::Plain { title, last } => {
                let Ok(mut last) = last.lock() else { return };
                if *last != step {
                    step.clone_into(&mut last);
                    let _ = writeln!(io::stderr(), "{title}: {step}");
                }
            }
            Display::Silent => {}
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if let Display::Live(bar) = &self.display {
            bar.finish_and_clear();
        }
    }
}
