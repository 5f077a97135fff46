use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{Schema as ArrowSchema, SchemaRef};
use serde_json::Value;

use super::error::{ContractError, Problem};
use super::field::{ContractField, Fill, Kind, fields_of};
use super::resolve::resolve;
use super::schema::{Schema, unqualified};

/// What a topic's messages have to look like: the versions of one Avro record, each of which reads the earlier ones.
///
/// Any mix of the versions may be in one topic. Rows have the columns of the latest version.
#[derive(Debug, Clone)]
pub struct Contract {
    name: String,
    versions: Vec<Version>,
    /// Of the latest version.
    fields: Vec<ContractField>,
    /// The unqualified names that a writer's record may have.
    records: Vec<String>,
    arrow: SchemaRef,
}

#[derive(Debug, Clone)]
struct Version {
    file: String,
    json: String,
    schema: Schema,
    fields: Vec<ContractField>,
    records: Vec<String>,
}

impl Contract {
    /// Reads `<name>.v1.avsc`, `<name>.v2.avsc`, … from a folder.
    ///
    /// # Errors
    /// When there is no version 1, a number is left out, a file is not an Avro record of types that make a table, a
    /// field has the name of a column of provenance, or a version cannot read an earlier one by Avro's rules.
    pub fn load(folder: &Path, name: &str) -> Result<Self, ContractError> {
        let mut files = Vec::new();
        let unreadable = |path: &Path, cause| ContractError::Unreadable { path: path.to_owned(), cause };
        for entry in fs::read_dir(folder).map_err(|cause| unreadable(folder, cause))? {
            let path = entry.map_err(|cause| unreadable(folder, cause))?.path();
            let Some(version) = path.file_name().and_then(|file| version_text(file.to_str()?, name)) else { continue };
            let file = path.display().to_string();
            let Some(version) = version_number(version) else {
                return Err(ContractError::FileName { file, name: name.to_owned() });
            };
            let json = fs::read_to_string(&path).map_err(|cause| unreadable(&path, cause))?;
            files.push((version, file, json));
        }
        files.sort_unstable_by_key(|(version, ..)| *version);
        if files.is_empty() {
            return Err(ContractError::Missing { folder: folder.to_owned(), name: name.to_owned() });
        }
        for ((found, ..), expected) in files.iter().zip(1..) {
            if *found != expected {
                return Err(ContractError::Gap { name: name.to_owned(), expected, found: *found });
            }
        }
        Self::parse(name, files.into_iter().map(|(_, file, json)| (file, json)).collect())
    }

    /// The contract of transactions that is built into the program.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn embedded() -> Result<Self, ContractError> {
        let file = |file: &str, json: &str| (file.to_owned(), json.to_owned());
        Self::parse(
            "transactions",
            vec![
                file("transactions.v1.avsc", include_str!("../../contracts/transactions.v1.avsc")),
                file("transactions.v2.avsc", include_str!("../../contracts/transactions.v2.avsc")),
            ],
        )
    }

    /// A contract from `(file, text)` of each version, from version 1 on; `file` is what errors name.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(name: &str, files: Vec<(String, String)>) -> Result<Self, ContractError> {
        let mut versions: Vec<Version> = Vec::with_capacity(files.len());
        for (file, json) in files {
            let version = Version::parse(file, json)?;
            for earlier in &versions {
                version.check_reads(earlier)?;
            }
            versions.push(version);
        }
        let (Some(first), Some(latest)) = (versions.first(), versions.last()) else {
            return Err(ContractError::Missing { folder: ".".into(), name: name.to_owned() });
        };
        let mut fields = latest.fields.clone();
        for field in &mut fields {
            field.evolved = !first.fields.iter().any(|known| known.name == field.name);
        }
        let columns: Vec<_> = fields.iter().map(ContractField::column).collect();
        let (name, records) = (name.to_owned(), latest.records.clone());
        Ok(Self { name, fields, records, arrow: Arc::new(ArrowSchema::new(columns)), versions })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Avro schema of a version, counted from 1, as it stands in its file.
    #[must_use]
    pub fn version(&self, version: usize) -> Option<&str> {
        let at = version.checked_sub(1)?;
        self.versions.get(at).map(|version| version.json.as_str())
    }

    /// The number of versions; the latest has this number.
    #[must_use]
    pub fn versions(&self) -> usize {
        self.versions.len()
    }

    /// The columns of the latest version, in its order. Strings are `Utf8`, timestamps microseconds in UTC; a column is
    /// nullable when its field is a union with null or came after version 1.
    #[must_use]
    pub fn arrow_schema(&self) -> SchemaRef {
        Arc::clone(&self.arrow)
    }

    /// The names of the latest version that version 1 lacks.
    #[must_use]
    pub fn evolved_columns(&self) -> Vec<String> {
        self.fields.iter().filter(|field| field.evolved).map(|field| field.name.clone()).collect()
    }

    /// Other names of a field; none for a field that does not exist.
    #[must_use]
    pub fn aliases(&self, field: &str) -> &[String] {
        self.fields.iter().find(|known| known.name == field).map_or(&[], |known| &known.aliases)
    }

    /// The same contract for messages that may lack these fields where they are booleans: false then stands in their
    /// place. Columns stay as they are.
    #[must_use]
    pub fn with_false_defaults(&self, names: &[String]) -> Self {
        let mut contract = self.clone();
        let booleans =
            contract.fields.iter_mut().filter(|field| field.kind == Kind::Boolean && names.contains(&field.name));
        for field in booleans {
            field.default.get_or_insert(Fill::Bool(false));
        }
        contract
    }

    /// The fields that every JSON message must have.
    pub fn required(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(|field| field.default.is_none() && !field.nullable).map(|field| field.name.as_str())
    }

    pub(super) fn fields(&self) -> &[ContractField] {
        &self.fields
    }

    pub(super) fn records(&self) -> &[String] {
        &self.records
    }
}

impl Version {
    fn parse(file: String, json: String) -> Result<Self, ContractError> {
        let value: Value = serde_json::from_str(&json).map_err(|cause| ContractError::Syntax {
            file: file.clone(),
            line: cause.line(),
            column: cause.column(),
            cause: cause.to_string(),
        })?;
        let invalid = |problem: Problem| {
            let line = line_of(&json, problem.field.as_deref());
            ContractError::Invalid { file: file.clone(), line, problem: Box::new(problem) }
        };
        let schema = Schema::parse(&value).map_err(invalid)?;
        let Some(record) = schema.record() else {
            let what = format!("the schema is {}", schema.describe(&schema.root));
            return Err(invalid(Problem::new(what, "a contract is a record")));
        };
        let fields = fields_of(&schema, record).map_err(invalid)?;
        let names = record.aliases.iter().chain([&record.name]);
        let records = names.rev().map(|name| unqualified(name).to_owned()).collect();
        Ok(Self { records, fields, schema, file, json })
    }

    fn check_reads(&self, earlier: &Self) -> Result<(), ContractError> {
        let problem = match resolve(earlier.schema.clone(), &self.records, &self.fields) {
            Ok(plan) => plan.partial.into_iter().next(),
            Err(problem) => Some(problem),
        };
        let Some(problem) = problem else { return Ok(()) };
        Err(ContractError::Incompatible {
            file: self.file.clone(),
            line: line_of(&self.json, problem.field.as_deref()),
            earlier: earlier.file.clone(),
            problem: Box::new(problem),
        })
    }
}

/// The text between `<name>.v` and `.avsc`.
fn version_text<'a>(file: &'a str, name: &str) -> Option<&'a str> {
    file.strip_prefix(name)?.strip_prefix(".v")?.strip_suffix(".avsc")
}

fn version_number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| plain)
}

/// The line, from 1, on which a field's name stands; 1 when it cannot be told.
fn line_of(json: &str, field: Option<&str>) -> usize {
    let Some(field) = field else { return 1 };
    let quoted = format!("\"{field}\"");
    let is_field = |(at, key): &(usize, &str)| {
        let rest = json.get(at + key.len()..).unwrap_or_default().trim_start();
        rest.strip_prefix(':').is_some_and(|rest| rest.trim_start().starts_with(&quoted))
    };
    let found = json.match_indices("\"name\"").find(is_field);
    found.and_then(|(at, _)| json.get(..at)).map_or(1, |before| before.matches('\n').count() + 1)
}
