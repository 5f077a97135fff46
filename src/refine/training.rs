//! The set that a model learns from: one SQL file over the lake, whose header says what its columns are for.

use serde::Deserialize;
use toml::Spanned;

use super::SqlFileError;
use super::sql_file::{Parsed, check_query, split};

/// One SQL file of `training/`: the header parsed, the query as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainingDef {
    /// The name of the file, without its ending.
    pub name: String,
    /// One sentence for people.
    pub about: String,
    /// The column that identifies a row; no feature. Rows of one instant are put in its order.
    pub key: String,
    /// The column that says what is fraud.
    pub label: String,
    /// When the row happened: a timestamp.
    pub time: String,
    /// Whose row it is, for the precision among the top cards of a day; no feature.
    pub card: Option<String>,
    /// By which quality is reported; features too.
    pub segments: Vec<String>,
    /// Selected, but no features.
    pub ignore: Vec<String>,
    pub sql: String,
    /// Path of the file as shown in errors.
    pub file: String,
    /// The line of the file on which `sql` begins, from 1.
    pub sql_line: usize,
    /// Of the whole file, in hexadecimal.
    pub blake3: String,
    pub bytes: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    about: Spanned<String>,
    key: String,
    label: String,
    time: String,
    card: Option<String>,
    #[serde(default)]
    segment: Vec<String>,
    #[serde(default)]
    ignore: Vec<String>,
}

impl TrainingDef {
    /// Reads one file. The names of columns are not known here; they are checked when the lake is read.
    ///
    /// # Errors
    /// When the header or the query is not what it must be, with the line.
    pub fn parse(name: &str, file: &str, text: &str) -> Result<Self, SqlFileError> {
        let split = split(text);
        let header = Parsed { file, text: &split.header };
        let raw: Header = toml::from_str(&split.header).map_err(|error| header.toml_error(&error))?;
        if raw.about.get_ref().trim().is_empty() {
            return header.refuse(&raw.about.span(), "`about` is empty: say in one sentence what the rows are");
        }
        check_query(file, split.sql_line, &split.sql)?;
        Ok(Self {
            name: name.to_owned(),
            about: raw.about.into_inner(),
            key: raw.key,
            label: raw.label,
            time: raw.time,
            card: raw.card,
            segments: raw.segment,
            ignore: raw.ignore,
            sql: split.sql,
            file: file.to_owned(),
            sql_line: split.sql_line,
            blake3: blake3::hash(text.as_bytes()).to_hex().to_string(),
            bytes: text.len() as u64,
        })
    }

    /// Whether a column is one to learn from.
    #[must_use]
    pub fn is_feature(&self, column: &str) -> bool {
        let roles = [&self.key, &self.label, &self.time].into_iter().chain(&self.card).chain(&self.ignore);
        roles.into_iter().all(|role| role != column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "-- about = \"x\"\n-- key = \"id\"\n-- label = \"bad\"\n-- time = \"at\"\n-- ignore = [\"note\"]\n";

    #[test]
    fn roles_are_no_features() {
        let text = format!("{HEADER}SELECT id, bad, at, note, amount FROM silver.t JOIN gold.u ON t.id = u.id");
        let def = TrainingDef::parse("t", "training/t.sql", &text).unwrap();
        let features = ["id", "bad", "at", "note", "amount"].into_iter().filter(|name| def.is_feature(name));
        assert_eq!(features.collect::<Vec<_>>(), ["amount"]);
        assert_eq!((def.sql_line, def.bytes), (6, text.len() as u64));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let told = |text: &str| TrainingDef::parse("t", "training/t.sql", text).unwrap_err().to_string();
        let error = told("-- about = \"x\"\n-- key = \"id\"\n-- lable = \"bad\"\nSELECT 1");
        assert!(error.starts_with("training/t.sql:3: ") && error.contains("lable"), "{error}");
        let error = told(&format!("{HEADER}SELECT *\nFROM silver.t; SELECT 2"));
        assert!(error.starts_with("training/t.sql:6: ") && error.contains("exactly one query"), "{error}");
        let error = told(&format!("{HEADER}DELETE FROM silver.t"));
        assert!(error.contains("not a query"), "{error}");
    }

    #[test]
    fn another_text_has_another_hash() {
        let hash = |sql: &str| TrainingDef::parse("t", "f", &format!("{HEADER}{sql}")).unwrap().blake3;
        assert_ne!(hash("SELECT 1"), hash("SELECT 2"));
        assert_eq!(hash("SELECT 1"), hash("SELECT 1"));
    }
}
