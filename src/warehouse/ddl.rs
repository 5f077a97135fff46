//! The statements that make tables, and what stands in PostgreSQL.

use std::collections::BTreeMap;
use std::fmt::Write;

use tokio_postgres::GenericClient;

use super::error::WarehouseError;
use super::file::{IndexDef, Merge};
use super::source::{Column, Table};

/// A name in SQL.
#[must_use]
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in SQL.
#[must_use]
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[must_use]
pub fn list<S: AsRef<str>>(names: &[S]) -> String {
    names.iter().map(|name| quoted(name.as_ref())).collect::<Vec<_>>().join(", ")
}

/// Texts are ordered by their bytes, as in the lake: their indexes are built far quicker, and every server gives one order.
fn column(column: &Column) -> String {
    let collation = if column.kind == "text" { " COLLATE \"C\"" } else { "" };
    let null = if column.not_null { " NOT NULL" } else { "" };
    format!("{} {}{collation}{null}", quoted(&column.name), column.kind)
}

impl Table {
    fn name(&self) -> &str {
        &self.file.name
    }

    #[must_use]
    pub fn create(&self) -> String {
        let columns = self.columns.iter().map(column).collect::<Vec<_>>().join(", ");
        format!("CREATE TABLE {} ({columns})", quoted(self.name()))
    }

    #[must_use]
    pub fn primary_key(&self) -> String {
        let (table, key) = (quoted(self.name()), list(&self.file.key));
        format!("ALTER TABLE {table} ADD CONSTRAINT {} PRIMARY KEY ({key})", quoted(&format!("{}_pkey", self.name())))
    }

    #[must_use]
    pub fn drop_primary_key(&self) -> String {
        let key = quoted(&format!("{}_pkey", self.name()));
        format!("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {key}", quoted(self.name()))
    }

    #[must_use]
    pub fn create_indexes(&self) -> Vec<String> {
        let one = |index: &IndexDef| {
            let (name, table) = (quoted(&self.index_name(index)), quoted(self.name()));
            format!("CREATE INDEX IF NOT EXISTS {name} ON {table} USING {} ({})", index.using, list(&index.columns))
        };
        self.file.indexes.iter().map(one).collect()
    }

    #[must_use]
    pub fn drop_indexes(&self) -> Vec<String> {
        let one = |index: &IndexDef| format!("DROP INDEX IF EXISTS {}", quoted(&self.index_name(index)));
        self.file.indexes.iter().map(one).collect()
    }

    /// PostgreSQL cuts names at 63 bytes: what does not fit ends in a hash.
    fn index_name(&self, index: &IndexDef) -> String {
        let method = if index.using == "btree" { "idx" } else { index.using };
        let name = format!("{}_{}_{method}", self.name(), index.columns.join("_"));
        if name.len() <= 63 {
            return name;
        }
        let hash = blake3::hash(name.as_bytes()).to_hex();
        let (start, end) = (name.get(..50).unwrap_or_default(), hash.get(..12).unwrap_or_default());
        format!("{start}_{end}")
    }

    #[must_use]
    pub fn comments(&self) -> String {
        let table = quoted(self.name());
        let mut sql = format!("COMMENT ON TABLE {table} IS {};", literal(&self.file.about));
        for column in &self.columns {
            let _ = write!(sql, "COMMENT ON COLUMN {table}.{} IS {};", quoted(&column.name), literal(&column.about));
        }
        sql
    }

    #[must_use]
    pub fn copy(&self, into: &str, freeze: bool) -> String {
        let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let freeze = if freeze { ", FREEZE" } else { "" };
        format!("COPY {into} ({}) FROM STDIN (FORMAT binary{freeze})", list(&names))
    }

    /// Puts the rows of `from` over those with the same key.
    #[must_use]
    pub fn merge(&self, from: &str) -> String {
        let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let set = self.columns.iter().filter(|column| !self.file.key.contains(&column.name)).map(|column| {
            let name = quoted(&column.name);
            let collation = if column.kind == "text" { " COLLATE \"C\"" } else { "" };
            let (old, new) = (format!("stored.{name}{collation}"), format!("excluded.{name}{collation}"));
            let value = match self.file.column(&column.name).and_then(|def| def.merge) {
                Some(Merge::Least) => format!("least({old}, {new})"),
                Some(Merge::Greatest) => format!("greatest({old}, {new})"),
                Some(Merge::Sum) => format!("coalesce({old} + {new}, {old}, {new})"),
                // Those that the job adds are of the last run too.
                Some(Merge::Last) | None => new,
            };
            format!("{name} = {value}")
        });
        format!(
            "INSERT INTO {} AS stored ({names}) SELECT {names} FROM {from} ON CONFLICT ({}) DO UPDATE SET {}",
            quoted(self.name()),
            list(&self.file.key),
            set.collect::<Vec<_>>().join(", "),
            names = list(&names)
        )
    }
}

/// A column as PostgreSQL has it: its name, its type, whether it is NOT NULL.
pub type StandingColumn = (String, String, bool);

/// A table as PostgreSQL has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    pub columns: Vec<StandingColumn>,
    /// The columns of its primary key, in their order.
    pub key: Vec<String>,
    pub owner: String,
    /// Whether this user may do what its owner may.
    pub is_ours: bool,
    /// `None` for a table; else what stands in its place.
    pub other: Option<&'static str>,
}

/// The tables of a schema, by name.
pub async fn standing(client: &impl GenericClient, schema: &str) -> Result<BTreeMap<String, Standing>, WarehouseError> {
    const SQL: &str = "SELECT c.relname::text, pg_get_userbyid(c.relowner)::text, pg_has_role(c.relowner, 'USAGE'), c.relkind::text, \
            coalesce((SELECT array_agg(a.attname::text ORDER BY k.place) FROM pg_constraint p, \
                unnest(p.conkey) WITH ORDINALITY AS k(number, place), pg_attribute a \
                WHERE p.conrelid = c.oid AND p.contype = 'p' AND a.attrelid = c.oid AND a.attnum = k.number), '{}') \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1::text AND c.relkind IN ('r', 'p', 'v', 'm', 'f')";
    const COLUMNS: &str = "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid \
         WHERE n.nspname = $1::text AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped \
         ORDER BY c.relname, a.attnum";
    let failed = || WarehouseError::of("to look at the tables");
    let mut tables: BTreeMap<String, Standing> = BTreeMap::new();
    for row in client.query(SQL, &[&schema]).await.map_err(failed())? {
        let kind: String = row.get(3);
        let other = match kind.as_str() {
            "v" => Some("a view"),
            "m" => Some("a materialized view"),
            "f" => Some("a foreign table"),
            _ => None,
        };
        let standing = Standing { columns: Vec::new(), key: row.get(4), owner: row.get(1), is_ours: row.get(2), other };
        tables.insert(row.get(0), standing);
    }
    for row in client.query(COLUMNS, &[&schema]).await.map_err(failed())? {
        tables.entry(row.get(0)).or_default().columns.push((row.get(1), row.get(2), row.get(3)));
    }
    Ok(tables)
}

/// What differs between a table and its file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Drift {
    pub lines: Vec<String>,
    /// Columns of the file that the table lacks.
    pub added: Vec<Column>,
    /// Whether there is nothing but new columns that may be NULL.
    pub is_simple: bool,
}

#[must_use]
pub fn drift(table: &Table, standing: &Standing) -> Drift {
    let mut found = Drift { is_simple: true, ..Drift::default() };
    let null = |not_null: bool| if not_null { " NOT NULL" } else { "" };
    for column in &table.columns {
        let said = format!("{} {}{}", column.name, column.kind, null(column.not_null));
        match standing.columns.iter().find(|(name, ..)| *name == column.name) {
            None => {
                found.lines.push(format!("+ {said}: in the file, not in the warehouse"));
                found.is_simple &= !column.not_null;
                found.added.push(column.clone());
            }
            Some((name, kind, not_null)) if *kind != column.kind || *not_null != column.not_null => {
                found.lines.push(format!("~ {said}: {name} {kind}{} in the warehouse", null(*not_null)));
                found.is_simple = false;
            }
            Some(_) => {}
        }
    }
    for (name, kind, not_null) in &standing.columns {
        if table.columns.iter().all(|column| column.name != *name) {
            found.lines.push(format!("- {name} {kind}{}: in the warehouse, not in the file", null(*not_null)));
            found.is_simple = false;
        }
    }
    if table.file.key != standing.key {
        let there = match standing.key.as_slice() {
            [] => "no key".to_owned(),
            key => format!("key ({})", key.join(", ")),
        };
        found.lines.push(format!("~ key ({}): {there} in the warehouse", table.file.key.join(", ")));
        found.is_simple = false;
    }
    found
}

/// Adds columns that may be NULL.
#[must_use]
pub fn add_columns(table: &Table, columns: &[Column]) -> String {
    let add = |new: &Column| format!("ALTER TABLE {} ADD COLUMN {};", quoted(&table.file.name), column(new));
    columns.iter().map(add).collect()
}

#[cfg(test)]
mod tests;
