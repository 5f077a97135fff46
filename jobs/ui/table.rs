use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use console::{measure_text_width, truncate_str};

use super::{Look, Paint};

/// No column is cut below this, unless all of them do not fit.
const TEXT_MIN: usize = 8;
/// A cut number misleads, so numbers keep more.
const NUMBER_MIN: usize = 20;
const NULL: &str = "NULL";
const SEPARATOR: &str = " │ ";

/// Rows as an aligned table with a line break at its end: numbers to the right, timestamps in ISO 8601.
///
/// Where the look has a width, long cells are cut with `…`, and when that is not enough the columns in the middle are
/// left out, which the last line says. Control characters are shown as escapes, so data cannot steer the terminal.
///
/// # Errors
/// When a column has a type that cannot be shown.
pub fn render_table(schema: &Schema, batches: &[RecordBatch], look: Look) -> Result<String, ArrowError> {
    if schema.fields().is_empty() {
        return Ok(String::new());
    }
    let mut columns = Vec::with_capacity(schema.fields().len());
    for (index, field) in schema.fields().iter().enumerate() {
        columns.push(Column::read(field.name(), field.data_type(), index, batches)?);
    }
    let (shown, hidden) = fit(columns, look.width);
    let mut text = String::new();
    draw(&shown, look, &mut text);
    if hidden > 0 {
        let all = shown.len() - 1 + hidden;
        let note = format!("… {hidden} of {all} columns do not fit: select fewer, or use --format json");
        text.push_str(&look.paint(Paint::Faint, &look.fit(&note)));
        text.push('\n');
    }
    Ok(text)
}

struct Column {
    header: String,
    right: bool,
    cells: Vec<Option<String>>,
    width: usize,
}

impl Column {
    fn read(name: &str, kind: &DataType, index: usize, batches: &[RecordBatch]) -> Result<Self, ArrowError> {
        let options = FormatOptions::default();
        let mut cells = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
        for batch in batches {
            let array = batch.column(index);
            let formatter = ArrayFormatter::try_new(array, &options)?;
            for row in 0..array.len() {
                let value = array.is_valid(row).then(|| formatter.value(row).try_to_string()).transpose()?;
                cells.push(value.map(visible));
            }
        }
        let header = visible(name.to_owned());
        let width_of = |cell: &Option<String>| measure_text_width(cell.as_deref().unwrap_or(NULL));
        let width = cells.iter().map(width_of).max().unwrap_or(0).max(measure_text_width(&header)).max(1);
        let right = kind.is_numeric();
        Ok(Self { header, right, cells, width })
    }

    fn gap(rows: usize) -> Self {
        Self { header: "…".into(), right: false, cells: vec![Some("…".into()); rows], width: 1 }
    }

    fn least(&self) -> usize {
        self.width.min(if self.right { NUMBER_MIN } else { TEXT_MIN })
    }
}

/// Characters that move the cursor or reorder text are data here, not commands.
pub(super) fn visible(text: String) -> String {
    let commands = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !text.contains(commands) {
        return text;
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if commands(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// Narrows the columns to the width; returns those to draw and the number of those left out.
fn fit(mut columns: Vec<Column>, width: Option<usize>) -> (Vec<Column>, usize) {
    let Some(width) = width else { return (columns, 0) };
    let separators = |count: usize| count.saturating_sub(1) * 3 + 2;
    let least = |columns: &[Column]| columns.iter().map(Column::least).sum::<usize>() + separators(columns.len());
    let mut hidden = 0;
    if least(&columns) > width && columns.len() > 2 {
        let rows = columns.first().map_or(0, |column| column.cells.len());
        // What is left out is taken from the middle: the first columns identify a row, the last are what was added.
        let mut middle = columns.len() / 2;
        while columns.len() > 2 && least(&columns) + 4 > width {
            middle = middle.min(columns.len() - 2).max(1);
            columns.remove(middle);
            hidden += 1;
            middle = columns.len() / 2;
        }
        columns.insert(columns.len().div_ceil(2), Column::gap(rows));
    }
    let room = width.saturating_sub(separators(columns.len()));
    let at = |cap: usize| columns.iter().map(|column| column.width.min(cap.max(column.least()))).sum::<usize>();
    let widest = columns.iter().map(|column| column.width).max().unwrap_or(1);
    let (mut low, mut high) = (1, widest);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if at(middle) <= room { low = middle } else { high = middle - 1 }
    }
    let mut spare = room.saturating_sub(at(low));
    for column in &mut columns {
        let cap = low.max(column.least());
        let more = usize::from(spare > 0 && column.width > cap);
        spare -= more;
        column.width = column.width.min(cap + more);
    }
    (columns, hidden)
}

fn draw(columns: &[Column], look: Look, text: &mut String) {
    let bar = look.paint(Paint::Faint, SEPARATOR);
    let head: Vec<String> = columns
        .iter()
        .map(|column| look.paint(Paint::Title, &pad(&column.header, column.width, column.right)))
        .collect();
    push_line(text, &head, &bar);
    let rule: Vec<String> = columns.iter().map(|column| "─".repeat(column.width)).collect();
    text.push_str(&look.paint(Paint::Faint, &format!("─{}─", rule.join("─┼─"))));
    text.push('\n');
    for row in 0..columns.first().map_or(0, |column| column.cells.len()) {
        let cells: Vec<String> = columns
            .iter()
            .map(|column| match column.cells.get(row) {
                Some(Some(cell)) => pad(cell, column.width, column.right),
                _ => look.paint(Paint::Faint, &pad(NULL, column.width, column.right)),
            })
            .collect();
        push_line(text, &cells, &bar);
    }
}

fn push_line(text: &mut String, cells: &[String], bar: &str) {
    text.push(' ');
    text.push_str(&cells.join(bar));
    text.truncate(text.trim_end_matches(' ').len());
    text.push('\n');
}

fn pad(cell: &str, width: usize, right: bool) -> String {
    let cut = truncate_str(cell, width, "…");
    let blank = " ".repeat(width.saturating_sub(measure_text_width(&cut)));
    if right { format!("{blank}{cut}") } else { format!("{cut}{blank}") }
}
