use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::{References, SqlFileError, TableDef, TrainingDef, parse};
use crate::domain::{Layer, TableName};
use crate::features::{Enabled, FeatureSettings, LabelDelay};

/// Every file under `sql/`, by its path there.
const EMBEDDED: &[(&str, &str)] = &[
    ("checks/amounts_are_positive.sql", include_str!("../../sql/checks/amounts_are_positive.sql")),
    ("checks/dim_countries.sql", include_str!("../../sql/checks/dim_countries.sql")),
    ("checks/dim_merchants.sql", include_str!("../../sql/checks/dim_merchants.sql")),
    ("checks/dim_users.sql", include_str!("../../sql/checks/dim_users.sql")),
    ("checks/dimensions_add_up.sql", include_str!("../../sql/checks/dimensions_add_up.sql")),
    ("checks/fct_transactions.sql", include_str!("../../sql/checks/fct_transactions.sql")),
    ("gold/country_activity.sql", include_str!("../../sql/gold/country_activity.sql")),
    ("gold/fraud_scores.sql", include_str!("../../sql/gold/fraud_scores.sql")),
    ("gold/merchant_activity.sql", include_str!("../../sql/gold/merchant_activity.sql")),
    ("gold/platform_hourly.sql", include_str!("../../sql/gold/platform_hourly.sql")),
    ("gold/segment_activity.sql", include_str!("../../sql/gold/segment_activity.sql")),
    ("gold/user_activity.sql", include_str!("../../sql/gold/user_activity.sql")),
    ("reference/high_risk_countries.csv", include_str!("../../sql/reference/high_risk_countries.csv")),
    ("silver/transaction_features.sql", include_str!("../../sql/silver/transaction_features.sql")),
    ("silver/transactions.sql", include_str!("../../sql/silver/transactions.sql")),
    ("training/fraud.sql", include_str!("../../sql/training/fraud.sql")),
    ("training/fraud_features.sql", include_str!("../../sql/training/fraud_features.sql")),
    ("warehouse/access_countries.sql", include_str!("../../sql/warehouse/access_countries.sql")),
    ("warehouse/dim_countries.sql", include_str!("../../sql/warehouse/dim_countries.sql")),
    ("warehouse/dim_merchants.sql", include_str!("../../sql/warehouse/dim_merchants.sql")),
    ("warehouse/dim_users.sql", include_str!("../../sql/warehouse/dim_users.sql")),
    ("warehouse/fct_transactions.sql", include_str!("../../sql/warehouse/fct_transactions.sql")),
    ("warehouse/stg_transactions.sql", include_str!("../../sql/warehouse/stg_transactions.sql")),
];

/// The tables that follow from bronze, each after its source, the reference lists that their SQL uses, the sets that
/// models learn from, and the files of the warehouse.
#[derive(Debug, Clone)]
pub struct Catalog {
    pub tables: Vec<TableDef>,
    pub references: Arc<References>,
    /// By name.
    pub training: Vec<TrainingDef>,
    /// Tables of the warehouse and its checks, as text: that room reads them.
    pub warehouse: Vec<SqlText>,
    pub checks: Vec<SqlText>,
}

/// A file that another room reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlText {
    /// Of the file, without folder and ending.
    pub name: String,
    /// Its path, as shown in errors.
    pub file: String,
    pub text: String,
    /// Not of the user's folder.
    pub built_in: bool,
}

impl Catalog {
    /// The built-in files, overridden and widened by those of `folder` (`<layer>/<name>.sql`, `training/<name>.sql`,
    /// `warehouse/<table>.sql`, `checks/<name>.sql`, `reference/<list>.csv`).
    ///
    /// `bronze` names the tables that are filled from outside. Built-in tables that do not follow from one of them
    /// are left out, so that another source brings its own tables; a file of `folder` must follow from one.
    ///
    /// # Errors
    /// When a file cannot be read or is refused, a name stands twice, or a source does not exist.
    pub fn load(folder: Option<&Path>, bronze: &[TableName]) -> Result<Self, SqlFileError> {
        let mut files: BTreeMap<String, File> = EMBEDDED
            .iter()
            .map(|(path, text)| {
                ((*path).to_owned(), File { shown: format!("sql/{path}"), text: (*text).to_owned(), built_in: true })
            })
            .collect();
        if let Some(folder) = folder {
            files.extend(read_folder(folder)?);
        }
        Self::from_files(&files, bronze)
    }

    /// The definition of a table.
    #[must_use]
    pub fn get(&self, table: &TableName) -> Option<&TableDef> {
        self.tables.iter().find(|def| def.table == *table)
    }

    /// Sets the delay of labels where a feature leaves it to the settings, and leaves out tables of features that are not
    /// wanted; `has` says whether the lake has one.
    #[must_use]
    pub fn with_features(mut self, settings: &FeatureSettings, has: impl Fn(&TableName) -> bool) -> Self {
        self.tables.retain(|def| {
            def.features.is_empty()
                || match settings.enabled {
                    Enabled::Yes => true,
                    Enabled::No => false,
                    Enabled::Auto => has(&def.table),
                }
        });
        for feature in self.tables.iter_mut().flat_map(|def| &mut def.features) {
            if let Some(LabelDelay::Setting(delay_us)) = &mut feature.label_delay {
                *delay_us = settings.label_delay_us();
            }
        }
        self
    }

    fn from_files(files: &BTreeMap<String, File>, bronze: &[TableName]) -> Result<Self, SqlFileError> {
        let mut references = References::default();
        let mut waiting = Vec::new();
        let mut training = Vec::new();
        let (mut warehouse, mut checks) = (Vec::new(), Vec::new());
        for (path, file) in files {
            let of = |folder: &str| path.strip_prefix(folder).and_then(|name| name.strip_suffix(".sql"));
            let others = [("warehouse/", &mut warehouse), ("checks/", &mut checks)];
            if let Some((name, texts)) = others.into_iter().find_map(|(folder, texts)| Some((of(folder)?, texts))) {
                let (name, file_name, text) = (name.to_owned(), file.shown.clone(), file.text.clone());
                texts.push(SqlText { name, file: file_name, text, built_in: file.built_in });
                continue;
            }
            if let Some(name) = path.strip_prefix("training/").and_then(|name| name.strip_suffix(".sql")) {
                training.push(TrainingDef::parse(name, &file.shown, &file.text)?);
                continue;
            }
            match (
                path.strip_prefix("reference/").and_then(|name| name.strip_suffix(".csv")),
                path.strip_suffix(".sql"),
            ) {
                (Some(list), _) => references.insert_csv(list, &file.shown, &file.text)?,
                (None, Some(stem)) => {
                    let def = parse(&file.shown, &file.text)?;
                    if stem.replace('/', ".") != def.table.to_string() {
                        let problem = format!(
                            "the file defines {}, so it must be called {}/{}.sql",
                            def.table,
                            def.table.layer.as_str(),
                            def.table.name
                        );
                        return Err(SqlFileError::new(&file.shown, 1, problem));
                    }
                    waiting.push((def, file.built_in));
                }
                (None, None) => {
                    let problem = "not a file of this folder: it holds <layer>/<name>.sql, training/<name>.sql, \
                                   warehouse/<table>.sql, checks/<name>.sql and reference/<list>.csv";
                    return Err(SqlFileError::new(&file.shown, 1, problem));
                }
            }
        }
        let tables = in_order(waiting, bronze)?;
        check_quarantines(&tables)?;
        Ok(Self { tables, references: Arc::new(references), training, warehouse, checks })
    }
}

struct File {
    shown: String,
    text: String,
    built_in: bool,
}

/// Tables after their sources; among equals by name, so that the order is always the same.
fn in_order(mut waiting: Vec<(TableDef, bool)>, bronze: &[TableName]) -> Result<Vec<TableDef>, SqlFileError> {
    let mut placed: Vec<TableDef> = Vec::with_capacity(waiting.len());
    loop {
        let known = |source: &TableName| bronze.contains(source) || placed.iter().any(|def| def.table == *source);
        let (ready, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(def, _)| known(&def.source));
        waiting = rest;
        if ready.is_empty() {
            break;
        }
        placed.extend(ready.into_iter().map(|(def, _)| def));
    }
    // The first in the chain is the one to be corrected.
    let is_root = |def: &TableDef| waiting.iter().all(|(other, _)| other.table != def.source);
    let mut unplaced = waiting.iter().filter(|(_, built_in)| !built_in);
    match unplaced.clone().find(|(def, _)| is_root(def)).or_else(|| unplaced.next()) {
        None => Ok(placed),
        Some((def, _)) => {
            let tables = bronze.iter().chain(placed.iter().map(|def| &def.table));
            let tables = tables.map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let problem = format!("{} reads {}, which does not exist; there are: {tables}", def.table, def.source);
            Err(SqlFileError::new(&def.file, def.sql_line, problem))
        }
    }
}

/// A quarantine keeps rows of one source, so each table has its own, and none is a table with a query.
fn check_quarantines(tables: &[TableDef]) -> Result<(), SqlFileError> {
    for (index, def) in tables.iter().enumerate() {
        let Some(quarantine) = &def.quarantine else { continue };
        let others = tables.iter().take(index).filter_map(|other| other.quarantine.as_ref());
        let taken = others.chain(tables.iter().map(|other| &other.table)).any(|other| other == quarantine);
        if taken || quarantine.layer != Layer::Silver {
            let problem =
                format!("{quarantine} cannot be the quarantine of {}: give it a silver name of its own", def.table);
            return Err(SqlFileError::in_header(def, problem));
        }
    }
    Ok(())
}

fn read_folder(folder: &Path) -> Result<BTreeMap<String, File>, SqlFileError> {
    let mut files = BTreeMap::new();
    for group in sorted_entries(folder)? {
        if !group.is_dir() {
            continue;
        }
        for path in sorted_entries(&group)? {
            let shown = path.display().to_string();
            let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            // Editors leave files of their own behind.
            if path.is_dir() || !(name.ends_with(".sql") || name.ends_with(".csv")) {
                continue;
            }
            let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
            files.insert(name, File { shown, text, built_in: false });
        }
    }
    Ok(files)
}

fn sorted_entries(folder: &Path) -> Result<Vec<std::path::PathBuf>, SqlFileError> {
    let entries = std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unreadable(folder, &error))?;
    paths.sort();
    Ok(paths)
}

fn unreadable(path: &Path, error: &std::io::Error) -> SqlFileError {
    let problem = match error.kind() {
        std::io::ErrorKind::NotFound => "no such folder; correct `folder` in [sql]".to_owned(),
        std::io::ErrorKind::NotADirectory => "not a folder; correct `folder` in [sql]".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    SqlFileError::new(&path.display().to_string(), 0, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bronze(name: &str) -> Vec<TableName> {
        vec![TableName::new(Layer::Bronze, name)]
    }

    #[test]
    fn a_folder_that_is_not_there_is_named_without_a_line() {
        let error = Catalog::load(Some(Path::new("nowhere")), &bronze("transactions")).unwrap_err();
        assert_eq!(error.to_string(), "nowhere: no such folder; correct `folder` in [sql]");
    }

    #[test]
    fn every_file_of_the_folder_is_built_in() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
        let found = read_folder(&root).unwrap().into_keys().collect::<Vec<_>>();
        let embedded = EMBEDDED.iter().map(|(path, _)| (*path).to_owned()).collect::<Vec<_>>();
        assert_eq!(found, embedded);
    }

    #[test]
    fn tables_come_after_their_sources() {
        let catalog = Catalog::load(None, &bronze("transactions")).unwrap();
        let names = catalog.tables.iter().map(|def| def.table.to_string()).collect::<Vec<_>>();
        assert_eq!(names.first().unwrap(), "silver.transactions");
        assert_eq!(names.len(), 8);
        assert!(catalog.references.list("high_risk_countries").is_some());
    }

    #[test]
    fn another_source_brings_its_own_tables() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/retail/sql");
        let catalog = Catalog::load(Some(&folder), &bronze("invoice_lines")).unwrap();
        let names = catalog.tables.iter().map(|def| def.table.to_string()).collect::<Vec<_>>();
        assert_eq!(names, ["silver.invoice_lines", "gold.revenue_by_country_day"]);
        let error = Catalog::load(Some(&folder), &bronze("transactions")).unwrap_err();
        assert!(error.problem.contains("bronze.invoice_lines, which does not exist"), "{error}");
    }

    #[test]
    fn a_folder_overrides_by_name_and_misplaced_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("gold")).unwrap();
        let text = include_str!("../../sql/gold/platform_hourly.sql");
        let path = folder.path().join("gold/platform_hourly.sql");
        std::fs::write(&path, text.replace("1 hour", "2 hours")).unwrap();
        let catalog = Catalog::load(Some(folder.path()), &bronze("transactions")).unwrap();
        let def = catalog.get(&TableName::new(Layer::Gold, "platform_hourly")).unwrap();
        assert_eq!(def.window.unwrap().size_us, 7_200_000_000);
        assert_eq!(catalog.tables.len(), 8);
        std::fs::write(folder.path().join("gold/other.sql"), text).unwrap();
        let error = Catalog::load(Some(folder.path()), &bronze("transactions")).unwrap_err();
        assert!(error.problem.contains("gold/platform_hourly.sql"), "{error}");
    }
}
