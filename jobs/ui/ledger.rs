use std::time::Duration;

use console::measure_text_width;
use serde::Serialize;

use super::table::visible;
use super::{Look, Paint, seconds, thousands};

/// The summary of a job: what stands in the lake, that it adds up, and what to look at next.
///
/// The same struct is the `--json` summary and, through [`render`](Self::render), the text for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ledger {
    pub job: String,
    /// The latest complete epoch.
    pub epoch: i64,
    pub elapsed_s: f64,
    /// Of this run; not of the whole lake.
    pub flow: Flow,
    pub tables: Vec<TableLine>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub riskiest: Vec<Risk>,
    /// Shell commands to try next.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub try_next: Vec<String>,
}

/// The two laws of conservation, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Flow {
    pub messages: u64,
    pub bronze_rows: u64,
    pub dead_letters: u64,
    pub silver_rows: u64,
    pub duplicates: u64,
    pub quarantined: u64,
}

/// A table as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableLine {
    /// `layer.name`.
    pub table: String,
    pub rows: u64,
    pub version: i64,
}

/// A transaction that the rules find suspicious.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Risk {
    pub transaction_id: String,
    pub score: i64,
    pub class: String,
    /// With two decimals, as it is in the table.
    pub amount: String,
    pub merchant: String,
    pub country: String,
    pub reasons: Vec<String>,
}

impl Flow {
    /// Whether every message and every bronze row is accounted for.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.messages == self.bronze_rows + self.dead_letters
            && self.bronze_rows == self.silver_rows + self.duplicates + self.quarantined
    }
}

impl Ledger {
    /// For people; ends with a line break.
    #[must_use]
    pub fn render(&self, look: Look) -> String {
        let mut lines = vec![String::new(), self.title(look), String::new()];
        self.tables(look, &mut lines);
        self.conservation(look, &mut lines);
        self.riskiest(look, &mut lines);
        if !self.try_next.is_empty() {
            heading("Try next", look, &mut lines);
            // Never cut: these are there to be copied.
            lines.extend(self.try_next.iter().map(|command| format!("  {}", look.paint(Paint::Accent, command))));
            lines.push(String::new());
        }
        lines.join("\n") + "\n"
    }

    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    fn title(&self, look: Look) -> String {
        let elapsed = Duration::try_from_secs_f64(self.elapsed_s).unwrap_or_default();
        let mut line = format!("  {}  epoch {}", look.paint(Paint::Title, &self.job), self.epoch);
        line.push_str(&format!("  {} messages in {}", thousands(self.flow.messages), seconds(elapsed)));
        if self.elapsed_s > 0.0 && self.flow.messages > 0 {
            let rate = (self.flow.messages as f64 / self.elapsed_s).round() as u64;
            line.push_str("  ");
            line.push_str(&look.paint(Paint::Accent, &format!("{} events/s", thousands(rate))));
        }
        line
    }

    fn tables(&self, look: Look, lines: &mut Vec<String>) {
        if self.tables.is_empty() {
            return;
        }
        let name = self.tables.iter().map(|line| line.table.len()).max().unwrap_or(0).max(24);
        let head = format!("  {:<name$}  {:>15}  {:>9}", "Table", "rows", "version");
        lines.push(look.paint(Paint::Title, &head));
        lines.push(rule(measure_text_width(&head) - 2, look));
        for line in &self.tables {
            lines.push(format!("  {:<name$}  {:>15}  {:>9}", line.table, thousands(line.rows), line.version));
        }
        lines.push(String::new());
    }

    fn conservation(&self, look: Look, lines: &mut Vec<String>) {
        let Flow { messages, bronze_rows, dead_letters, silver_rows, duplicates, quarantined } = self.flow;
        heading("Conservation", look, lines);
        let laws = [
            ("messages", messages, vec![("bronze rows", bronze_rows), ("dead letters", dead_letters)]),
            (
                "bronze rows",
                bronze_rows,
                vec![("silver rows", silver_rows), ("duplicates", duplicates), ("quarantined", quarantined)],
            ),
        ];
        for (name, whole, parts) in laws {
            let sum: u64 = parts.iter().map(|(_, part)| part).sum();
            let told: Vec<String> = parts.iter().map(|(name, part)| format!("{} {name}", thousands(*part))).collect();
            let verdict = match whole.cmp(&sum) {
                std::cmp::Ordering::Equal => look.paint(Paint::Good, "✓"),
                std::cmp::Ordering::Greater if self.job == "ingest" && silver_rows == 0 && name == "bronze rows" => {
                    look.paint(Paint::Faint, "`assay refine` takes them from here")
                }
                std::cmp::Ordering::Greater => {
                    look.paint(Paint::Bad, &format!("✗ {} are missing", thousands(whole - sum)))
                }
                std::cmp::Ordering::Less => look.paint(Paint::Bad, &format!("✗ {} too many", thousands(sum - whole))),
            };
            lines.push(format!("  {:>13} {name:<11} = {}  {verdict}", thousands(whole), told.join(" + ")));
        }
        lines.push(String::new());
    }

    fn riskiest(&self, look: Look, lines: &mut Vec<String>) {
        if self.riskiest.is_empty() {
            return;
        }
        heading("Riskiest transactions", look, lines);
        let wide = |cell: fn(&Risk) -> &str| {
            self.riskiest.iter().map(|risk| measure_text_width(cell(risk))).max().unwrap_or(0)
        };
        let (amount, class) = (wide(|risk| &risk.amount), wide(|risk| &risk.class));
        for risk in &self.riskiest {
            let paint = if risk.score >= 75 { Paint::Bad } else { Paint::Warning };
            let line = format!(
                "  {:>3} {}  {:>amount$}  {}, {}  {}",
                risk.score,
                look.paint(paint, &format!("{:<class$}", risk.class)),
                risk.amount,
                visible(risk.merchant.clone()),
                visible(risk.country.clone()),
                look.paint(Paint::Faint, &visible(risk.transaction_id.clone())),
            );
            lines.push(look.fit(&line));
            lines.push(look.fit(&format!("      {}", look.paint(Paint::Faint, &risk.reasons.join(" · ")))));
        }
        lines.push(String::new());
    }
}

fn heading(text: &str, look: Look, lines: &mut Vec<String>) {
    lines.push(format!("  {}", look.paint(Paint::Title, text)));
    lines.push(rule(text.len(), look));
}

fn rule(width: usize, look: Look) -> String {
    format!("  {}", look.paint(Paint::Faint, &"─".repeat(width)))
}
