use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ModelName, RegistryError, Version};
use crate::model::calibration::Calibration;
use crate::model::table::{Encoding, Order, Roles, TableFile};
use crate::model::{FamilyName, Metrics, TrainReport, TrainedModel};

/// How versions are laid out; another number is not read.
pub const FORMAT: u32 = 1;

/// What a version is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u32,
    pub name: ModelName,
    pub version: Version,
    /// The version of assay that trained it.
    pub code_version: String,
    /// Whether it may be the champion.
    pub passed: bool,
    /// Why not.
    pub refusals: Vec<String>,
    /// Absent when nothing was fitted.
    pub recorded: Option<Recorded>,
    /// The columns that it reads and how they become features.
    pub encoding: Encoding,
    /// In the model's order.
    pub features: Vec<String>,
    /// Of `encoding`.
    pub features_blake3: String,
    pub data: DataSource,
    /// Each file of the version but this one.
    pub files: BTreeMap<String, FileSum>,
}

/// The model of a version, in numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    pub family: FamilyName,
    /// A row whose calibrated probability reaches it is called fraud.
    pub threshold: f64,
    pub calibration: Calibration,
    /// Of the folds in time: by its F1 champions are compared.
    pub out_of_fold: Metrics,
    pub test: Metrics,
}

/// What it was learned from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSource {
    pub files: Vec<TableFile>,
    pub roles: Roles,
    pub order: Order,
    pub ignored: Vec<String>,
    /// Columns that are no features, and why.
    pub left_out: Vec<(String, String)>,
    /// Where the rows were read from, when that was the lake; the file is then the SQL file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lake: Option<LakeSource>,
    /// Where the model itself is from, when it was not learned here; the rows are then those that it was measured on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<ImportSource>,
}

/// A file that a model was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportSource {
    /// As it was given.
    pub file: String,
    pub sum: FileSum,
    /// The tool that wrote it.
    pub producer: String,
    /// The operator that is the model.
    pub operator: String,
    /// What a missing number counts as, in words.
    pub missing: String,
}

/// A lake as of one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LakeSource {
    pub location: String,
    pub pipeline: String,
    pub epoch: i64,
    /// The name of the training set.
    pub set: String,
    /// Rows without a label yet: younger than the label delay at that epoch.
    pub unlabelled: u64,
    /// What each feature column is in the lake, in the order of the query.
    pub columns: Vec<LakeColumn>,
}

/// A column that is one of a table, unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LakeColumn {
    /// As the model knows it.
    pub column: String,
    /// `layer.name`
    pub table: String,
    /// As the table calls it.
    pub of: String,
}

/// A file, by its size and hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSum {
    pub bytes: u64,
    pub blake3: String,
}

impl FileSum {
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, blake3: blake3::hash(bytes).to_hex().to_string() }
    }

    pub(super) fn verify(&self, bytes: &[u8]) -> Result<(), String> {
        let found = Self::of(bytes);
        if found.bytes != self.bytes {
            return Err(format!("it has {} bytes instead of {}", found.bytes, self.bytes));
        }
        if found.blake3 != self.blake3 { Err("its checksum differs".to_owned()) } else { Ok(()) }
    }
}

impl Recorded {
    /// None when the run fitted nothing.
    #[must_use]
    pub fn of(report: &TrainReport) -> Option<Self> {
        let (champion, best) = (report.champion.as_ref()?, report.best()?);
        Some(Self {
            family: champion.family,
            threshold: champion.threshold,
            calibration: champion.calibration.clone(),
            out_of_fold: best.in_time.pooled.clone(),
            test: champion.test.clone(),
        })
    }
}

/// The manifest as it is stored: with a checksum of its own.
#[derive(Serialize, Deserialize)]
struct Sealed {
    manifest: Manifest,
    blake3: String,
}

impl Manifest {
    pub(super) fn to_json(&self) -> Result<String, RegistryError> {
        let failed = |cause: serde_json::Error| RegistryError::Json { what: "the manifest", cause: cause.to_string() };
        let sealed = Sealed { manifest: self.clone(), blake3: self.checksum().map_err(failed)? };
        serde_json::to_string_pretty(&sealed).map(|text| text + "\n").map_err(failed)
    }

    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, String> {
        /// Looked at before the rest, which another format may hold differently.
        #[derive(Deserialize)]
        struct Outline {
            manifest: Format,
        }
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let outline: Outline = serde_json::from_slice(bytes).map_err(|cause| cause.to_string())?;
        if outline.manifest.format != FORMAT {
            return Err(format!("it has format {}, and this assay reads format {FORMAT}", outline.manifest.format));
        }
        let Sealed { manifest, blake3 } = serde_json::from_slice(bytes).map_err(|cause| cause.to_string())?;
        // Written again, it must be the same bytes: two spellings of one number have the same checksum.
        let same = manifest.to_json().is_ok_and(|text| text.as_bytes() == bytes);
        if !same || manifest.checksum().map_err(|cause| cause.to_string())? != blake3 {
            return Err("its checksum differs".to_owned());
        }
        Ok(manifest)
    }

    fn checksum(&self) -> Result<String, serde_json::Error> {
        Ok(blake3::hash(&serde_json::to_vec(self)?).to_hex().to_string())
    }

    /// Whether a model is the one of this manifest.
    pub(super) fn check(&self, model: &TrainedModel) -> Result<(), String> {
        use crate::model::Classifier;
        let Some(recorded) = &self.recorded else { return Err("the manifest knows of no model".to_owned()) };
        if self.encoding.hash() != self.features_blake3 {
            return Err("the hash of the manifest's features differs".to_owned());
        }
        if self.encoding.features() != self.features || model.features != self.features {
            return Err("its features are not those of the manifest".to_owned());
        }
        if model.width() != self.features.len() {
            return Err(format!("it reads {} features, and the manifest has {}", model.width(), self.features.len()));
        }
        #[allow(clippy::float_cmp, reason = "what was written is read back to the bit")]
        let same = model.threshold == recorded.threshold && model.calibrated.model.name() == recorded.family;
        if !same || model.calibrated.calibration != recorded.calibration {
            return Err("its family, threshold or calibration is not that of the manifest".to_owned());
        }
        Ok(())
    }
}
