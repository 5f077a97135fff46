//! CSV in two passes, so that only typed cells are ever held: what the columns are, then their values.

use std::fs::File;
use std::io::{BufReader, Read};

use csv::{Reader, ReaderBuilder, StringRecord};
use flate2::read::MultiGzDecoder;

use super::{Cells, Column, Planned, TableError, boolean, is_missing, number, open, time, unreadable};

pub(super) fn names(path: &str) -> Result<Vec<String>, TableError> {
    let mut reader = reader(path)?;
    let names = reader.headers().map_err(|cause| unreadable(path, cause))?;
    // Spreadsheets put a byte order mark in front.
    Ok(names.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_owned()).collect())
}

pub(super) fn look(path: &str, plan: &mut [Planned]) -> Result<(), TableError> {
    let places = places(path, plan.iter().map(|planned| planned.name.as_str()))?;
    each_row(path, |_, record| {
        for (planned, &place) in plan.iter_mut().zip(&places) {
            planned.see(record.get(place).unwrap_or_default());
        }
        Ok(())
    })?;
    Ok(())
}

/// Adds the rows of the file to the columns, and returns how many.
pub(super) fn read(path: &str, columns: &mut [Column]) -> Result<usize, TableError> {
    let places = places(path, columns.iter().map(|column| column.name.as_str()))?;
    each_row(path, |row, record| {
        for (column, &place) in columns.iter_mut().zip(&places) {
            let cell = record.get(place).unwrap_or_default();
            if !push(&mut column.cells, cell) {
                return Err(TableError::Cell {
                    file: path.to_owned(),
                    row,
                    column: column.name.clone(),
                    value: format!("`{cell}`"),
                    must_be: column.cells.kind().to_string(),
                });
            }
        }
        Ok(())
    })
}

fn push(cells: &mut Cells, cell: &str) -> bool {
    let missing = is_missing(cell);
    match cells {
        Cells::Numbers(values) => {
            let value = if missing { Some(f64::NAN) } else { number(cell) };
            value.map(|value| values.push(value)).is_some()
        }
        Cells::Booleans(values) => {
            let value = if missing { None } else { boolean(cell) };
            values.push(value);
            missing || value.is_some()
        }
        Cells::Times(values) => {
            let value = if missing { None } else { time(cell) };
            values.push(value);
            missing || value.is_some()
        }
        Cells::Texts(texts) => {
            texts.push((!missing).then_some(cell.trim()));
            true
        }
        Cells::Other => true,
    }
}

fn places<'a>(path: &str, wanted: impl Iterator<Item = &'a str>) -> Result<Vec<usize>, TableError> {
    let names = names(path)?;
    Ok(wanted.filter_map(|wanted| names.iter().position(|name| name == wanted)).collect())
}

/// Calls with each row and its number from 1; returns how many there were.
fn each_row(
    path: &str,
    mut with: impl FnMut(usize, &StringRecord) -> Result<(), TableError>,
) -> Result<usize, TableError> {
    let mut reader = reader(path)?;
    let expected = reader.headers().map_err(|cause| unreadable(path, cause))?.len();
    let mut record = StringRecord::new();
    let mut row = 0;
    while reader.read_record(&mut record).map_err(|cause| unreadable(path, cause))? {
        row += 1;
        if record.len() != expected {
            return Err(TableError::Ragged { file: path.to_owned(), row, found: record.len(), expected });
        }
        with(row, &record)?;
    }
    Ok(row)
}

fn reader(path: &str) -> Result<Reader<Box<dyn Read>>, TableError> {
    let file: BufReader<File> = BufReader::with_capacity(1 << 18, open(path)?);
    let bytes: Box<dyn Read> =
        if path.to_ascii_lowercase().ends_with(".gz") { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    Ok(ReaderBuilder::new().flexible(true).from_reader(bytes))
}
