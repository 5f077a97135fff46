//! Which files of `sql/warehouse/` and `sql/checks/` are of this lake, in the order in which they are loaded.

use crate::domain::{TableName, did_you_mean};
use crate::refine::{Catalog, Mode as LakeMode, SqlFileError};

use super::checks::CheckFile;
use super::file::{Mode, SCHEMA, TableFile};

/// The files of one warehouse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definitions {
    /// Each after those that it reads.
    pub views: Vec<TableFile>,
    /// What is loaded: dimensions, then facts, by name.
    pub tables: Vec<TableFile>,
    pub kept: Vec<TableFile>,
    pub checks: Vec<CheckFile>,
    /// The tables of the lake whose rows have an epoch: what may be read.
    pub sources: Vec<TableName>,
}

impl Definitions {
    /// Built-in files that read tables which the lake's SQL does not have are left out, so that another source brings its own.
    ///
    /// # Errors
    /// When a file is not what it must be, or one of the user's reads what is not there.
    pub fn of(catalog: &Catalog) -> Result<Self, SqlFileError> {
        let is_source = |def: &&crate::refine::TableDef| def.mode == LakeMode::Rows;
        let sources: Vec<TableName> = catalog.tables.iter().filter(is_source).map(|def| def.table.clone()).collect();
        let files = catalog.warehouse.iter().map(TableFile::parse).collect::<Result<Vec<_>, _>>()?;
        let (mut waiting, loaded): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.mode == Mode::View);
        let mut views: Vec<TableFile> = Vec::new();
        loop {
            let (ready, rest): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|file| missing(file, &sources, &views).is_none());
            waiting = rest;
            if ready.is_empty() {
                break;
            }
            views.extend(ready);
        }
        let (mut tables, mut kept) = (Vec::new(), Vec::new());
        for file in waiting.into_iter().chain(loaded) {
            match missing(&file, &sources, &views) {
                Some(_) if file.built_in => {}
                Some(table) => return Err(unknown(&file, &table, &sources, &views)),
                None if file.mode == Mode::Kept => kept.push(file),
                None => tables.push(file),
            }
        }
        // What people fill belongs to the tables that it is for.
        let is_ours = tables.iter().any(|table| table.built_in);
        kept.retain(|file| is_ours || !file.built_in);
        tables.sort_by(|a, b| (a.mode == Mode::Rows, &a.name).cmp(&(b.mode == Mode::Rows, &b.name)));
        let mut checks = Vec::new();
        for text in &catalog.checks {
            let check = CheckFile::parse(text)?;
            match tables.iter().find(|table| table.name == check.table) {
                Some(table) => {
                    check.fits(table, &tables)?;
                    checks.push(check);
                }
                None if text.built_in => {}
                None => {
                    let hint = did_you_mean(&check.table, tables.iter().map(|table| table.name.as_str()));
                    let problem = format!("no file of warehouse/ loads the table `{}`{hint}", check.table);
                    return Err(SqlFileError::new(&check.file, 1, problem));
                }
            }
        }
        Ok(Self { views, tables, kept, checks, sources })
    }

    /// All tables of PostgreSQL.
    pub fn stored(&self) -> impl Iterator<Item = &TableFile> {
        self.kept.iter().chain(&self.tables)
    }
}

/// The first table that a file reads and that is not there.
fn missing(file: &TableFile, sources: &[TableName], views: &[TableFile]) -> Option<String> {
    let is_known = |table: &&String| match table.split_once('.') {
        Some((SCHEMA, name)) => views.iter().any(|view| view.name == name),
        _ => sources.iter().any(|source| source.to_string() == **table),
    };
    file.reads.iter().find(|table| !is_known(table)).cloned()
}

fn unknown(file: &TableFile, table: &str, sources: &[TableName], views: &[TableFile]) -> SqlFileError {
    let known =
        sources.iter().map(ToString::to_string).chain(views.iter().map(|view| format!("{SCHEMA}.{}", view.name)));
    let problem = format!(
        "{} reads {table}, which has no rows by epoch; there are: {}",
        file.name,
        known.collect::<Vec<_>>().join(", ")
    );
    SqlFileError::new(&file.file, file.sql_line, problem)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::domain::Layer;

    fn of(folder: Option<&Path>, bronze: &str) -> Result<Definitions, SqlFileError> {
        Definitions::of(&Catalog::load(folder, &[TableName::new(Layer::Bronze, bronze)]).unwrap())
    }

    #[test]
    fn facts_come_after_dimensions_and_every_check_is_of_a_table() {
        let found = of(None, "transactions").unwrap();
        let names: Vec<&str> = found.tables.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["dim_countries", "dim_merchants", "dim_users", "fct_transactions"]);
        assert_eq!(found.views.len() + found.kept.len(), 2);
        assert_eq!(found.checks.len(), 6);
    }

    #[test]
    fn another_source_brings_its_own_tables() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/retail/sql");
        let found = of(Some(&folder), "invoice_lines").unwrap();
        assert!(found.tables.is_empty() && found.kept.is_empty() && found.checks.is_empty());
    }

    #[test]
    fn a_file_of_the_user_must_read_what_has_epochs_and_fit_its_checks() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("warehouse")).unwrap();
        std::fs::create_dir(folder.path().join("checks")).unwrap();
        let path = folder.path().join("warehouse/dim_users.sql");
        let text = include_str!("../../sql/warehouse/dim_users.sql");
        std::fs::write(&path, text.replace("warehouse.stg_transactions", "gold.user_activity")).unwrap();
        let error = of(Some(folder.path()), "transactions").unwrap_err();
        assert!(error.problem.contains("gold.user_activity, which has no rows by epoch"), "{error}");
        std::fs::write(&path, text.replace("merge = \"sum\", about = \"What", "about = \"What")).unwrap();
        let error = of(Some(folder.path()), "transactions").unwrap_err();
        assert!(error.line == 10 && error.problem.contains("`amount`: `merge`"), "{error}");
        std::fs::remove_file(&path).unwrap();
        let check = "-- table = \"fct_transactions\"\n-- about = \"x\"\n-- checks = [{ check = \"not_null\", columns = [\"amuont\"] }]\n";
        std::fs::write(folder.path().join("checks/mine.sql"), check).unwrap();
        let error = of(Some(folder.path()), "transactions").unwrap_err();
        assert!(error.line == 3 && error.problem.contains("amount"), "{error}");
    }
}
