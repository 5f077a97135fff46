use rayon::iter::Either;
use serde::{Deserialize, Serialize};

use super::data_file::DataFile;
use super::encoder::Encoder;
use super::error::LakeError;
use super::reader::FileReader;
use super::rewrite::successor;
use super::table::Table;

/// When small files are merged into larger ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct CompactionSettings {
    /// So many files of one size class are merged into one of the next: each row is rewritten log(files) times.
    pub fan_in: usize,
    /// Fewer are merged where more would exceed this size; a file of half of it is left alone.
    pub file_bytes_max: i64,
    /// A checkpoint of a table's log is written every so many versions.
    pub checkpoint_versions: u64,
    /// Rows of closed windows that late events changed are put into their files after so many seconds, at the latest;
    /// assay's own readers see them at once.
    pub restate_interval_s: u64,
}

impl Default for CompactionSettings {
    fn default() -> Self {
        Self { fan_in: 12, file_bytes_max: 128 << 20, checkpoint_versions: 100, restate_interval_s: 30 }
    }
}

/// Files that are to become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compaction {
    pub inputs: Vec<DataFile>,
}

impl Compaction {
    /// The next merge that a table needs, if any: a run of neighbours in the order of arrival, of one partition and one
    /// size class. `skip` names files that are no candidates (those of open windows).
    #[must_use]
    pub fn next(table: &Table, settings: &CompactionSettings, skip: impl Fn(&DataFile) -> bool) -> Option<Self> {
        let mut files: Vec<&DataFile> = table.files().filter(|file| !skip(file)).collect();
        files.sort_by(|a, b| (&a.partition, file_name(&a.path)).cmp(&(&b.partition, file_name(&b.path))));
        let mut run: Vec<&DataFile> = Vec::new();
        for file in files {
            let joins = run
                .last()
                .is_some_and(|last| last.partition == file.partition && class(last, settings) == class(file, settings));
            let bytes: i64 = run.iter().map(|file| file.size).sum();
            if joins && run.len() > 1 && bytes + file.size > settings.file_bytes_max {
                return Some(Self::of(&run));
            }
            if !joins || file.size >= settings.file_bytes_max / 2 {
                run.clear();
            }
            if file.size < settings.file_bytes_max / 2 {
                run.push(file);
            }
            if run.len() >= settings.fan_in {
                return Some(Self::of(&run));
            }
        }
        None
    }

    fn of(run: &[&DataFile]) -> Self {
        Self { inputs: run.iter().copied().cloned().collect() }
    }

    /// Reads the inputs and stores the one file that replaces them, rows in the order of arrival: a batch at a time, for
    /// together they are many epochs. Blocking.
    ///
    /// # Errors
    /// When a file cannot be read or stored.
    pub fn merge(&self, encoder: &Encoder, files: &FileReader, now_ms: i64) -> Result<Option<DataFile>, LakeError> {
        let Some(first) = self.inputs.first() else { return Ok(None) };
        let rows = self.inputs.iter().flat_map(|file| match files.open(file, &files.columns(), None) {
            Ok(batches) => {
                Either::Left(batches.map(|batch| batch.map_err(|cause| LakeError::read(files.table(), cause))))
            }
            Err(error) => Either::Right(std::iter::once(Err(error))),
        });
        // Sorts where its first input stood.
        encoder.store_partition(rows, &first.partition, &successor(first, "c"), files, now_ms)
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Size classes grow by the fan-in.
fn class(file: &DataFile, settings: &CompactionSettings) -> u32 {
    let rows = u64::try_from(file.rows.max(1)).unwrap_or(1);
    let base = u64::try_from(settings.fan_in.max(2)).unwrap_or(2);
    rows.ilog(base)
}
