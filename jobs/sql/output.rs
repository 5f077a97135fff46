//! Rows to a file or stdout, batch by batch, on a thread of their own.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use arrow::array::RecordBatch;
use arrow::csv;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::json::writer::{LineDelimited, WriterBuilder};
use assay::query::{flat_schema, flatten};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::Format;
use crate::ui::{Look, render_table};

/// Bounds the memory of a Parquet writer.
const ROW_GROUP_ROWS: usize = 128 * 1024;

/// Where rows go.
#[derive(Debug, Clone)]
pub enum Target {
    Stdout,
    File(PathBuf),
}

impl Target {
    pub fn of(path: Option<PathBuf>) -> Self {
        path.map_or(Self::Stdout, Self::File)
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    pub rows: u64,
    /// There were more rows than the table may show.
    pub truncated: bool,
}

/// Writes all batches of `next`, which ends with `Ok(None)`; an error leaves no file behind.
///
/// `rows_max` holds for tables only.
pub fn write(
    format: Format,
    schema: &SchemaRef,
    target: &Target,
    look: Look,
    rows_max: usize,
    next: impl FnMut() -> anyhow::Result<Option<RecordBatch>>,
) -> anyhow::Result<Written> {
    match target {
        Target::Stdout => {
            let mut out = Pipe { out: BufWriter::new(io::stdout()), closed: false };
            let written = write_to(format, schema, &mut out, look, rows_max, next);
            // `assay sql … | head` has what it wanted.
            if out.closed { Ok(written.unwrap_or_default()) } else { written }
        }
        Target::File(path) => {
            let mut file = PartialFile::create(path)?;
            let written = write_to(format, schema, &mut file.out, Look::PLAIN, rows_max, next)?;
            file.keep()?;
            Ok(written)
        }
    }
}

/// As [`write`], to a writer of the caller's.
pub fn write_to(
    format: Format,
    schema: &SchemaRef,
    out: &mut (impl Write + Send),
    look: Look,
    rows_max: usize,
    mut next: impl FnMut() -> anyhow::Result<Option<RecordBatch>>,
) -> anyhow::Result<Written> {
    let mut written = Written::default();
    match format {
        Format::Table => return write_table(schema, out, look, rows_max, next),
        Format::Csv => {
            let flat = flat_schema(schema, |_| true);
            let mut writer = csv::WriterBuilder::new().with_header(true).build(&mut *out);
            writer.write(&RecordBatch::new_empty(flat.clone()))?;
            while let Some(batch) = next()? {
                written.rows += batch.num_rows() as u64;
                writer.write(&flatten(&batch, &flat)?)?;
            }
        }
        Format::Json => {
            refuse_equal_names(schema)?;
            let builder = WriterBuilder::new().with_explicit_nulls(true);
            let mut writer = builder.build::<_, LineDelimited>(&mut *out);
            while let Some(batch) = next()? {
                written.rows += batch.num_rows() as u64;
                writer.write(&batch)?;
            }
            writer.finish()?;
        }
        Format::Parquet => {
            refuse_equal_names(schema)?;
            let properties = WriterProperties::builder()
                .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
                .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
                .build();
            let mut writer = ArrowWriter::try_new(&mut *out, schema.clone(), Some(properties))?;
            while let Some(batch) = next()? {
                written.rows += batch.num_rows() as u64;
                writer.write(&batch)?;
            }
            writer.close()?;
        }
    }
    out.flush()?;
    Ok(written)
}

fn write_table(
    schema: &SchemaRef,
    out: &mut impl Write,
    look: Look,
    rows_max: usize,
    mut next: impl FnMut() -> anyhow::Result<Option<RecordBatch>>,
) -> anyhow::Result<Written> {
    let (mut batches, mut rows, mut truncated) = (Vec::new(), 0, false);
    while let Some(batch) = next()? {
        let room = rows_max - rows;
        if batch.num_rows() > room {
            truncated = true;
            batches.push(batch.slice(0, room));
            rows = rows_max;
            break;
        }
        rows += batch.num_rows();
        batches.push(batch);
    }
    out.write_all(render_table(schema, &batches, look)?.as_bytes())?;
    out.flush()?;
    Ok(Written { rows: rows as u64, truncated })
}

fn refuse_equal_names(schema: &Schema) -> anyhow::Result<()> {
    let fields = schema.fields();
    for (index, field) in fields.iter().enumerate() {
        if fields.iter().take(index).any(|before| before.name() == field.name()) {
            let message = format!("two columns are named `{}`: name them apart with AS", field.name());
            bail!(crate::exit::UsageError(message));
        }
    }
    Ok(())
}

/// Remembers that the reader went away, whatever the error becomes on its way up.
struct Pipe<W> {
    out: W,
    closed: bool,
}

impl<W: Write> Pipe<W> {
    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        self.closed |= matches!(&result, Err(error) if error.kind() == io::ErrorKind::BrokenPipe);
        result
    }
}

impl<W: Write> Write for Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.out.write(bytes);
        self.note(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.out.flush();
        self.note(result)
    }
}

/// A file that has its name only once it is whole.
struct PartialFile {
    out: BufWriter<File>,
    partial: PathBuf,
    target: PathBuf,
}

impl PartialFile {
    fn create(target: &Path) -> anyhow::Result<Self> {
        let name = target.file_name().with_context(|| format!("--output {} is no file name", target.display()))?;
        let partial = target.with_file_name(format!(".{}.{}.partial", name.to_string_lossy(), std::process::id()));
        let file = File::create(&partial).with_context(|| format!("{} cannot be written", target.display()))?;
        Ok(Self { out: BufWriter::new(file), partial, target: target.to_owned() })
    }

    fn keep(mut self) -> anyhow::Result<()> {
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        fs::rename(&self.partial, &self.target).with_context(|| format!("{} cannot be written", self.target.display()))
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // After `keep` there is none, and a file that cannot be removed harms nobody.
        let _ = fs::remove_file(&self.partial);
    }
}
