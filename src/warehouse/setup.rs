//! Makes of PostgreSQL what the files say, before any row is written.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Client, Transaction};

use super::ddl::{self, Drift, Standing, quoted};
use super::error::WarehouseError;
use super::source::Table;
use super::{Options, security, state};

/// What was found.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Tables that differ from their files, and are dropped by the complete refresh that was asked for.
    pub recreate: BTreeSet<String>,
    /// For people.
    pub notes: Vec<String>,
}

/// Finds the schema, or makes it; from here on names without a schema are of it.
///
/// # Errors
/// When this user may not make it.
pub async fn enter(client: &Client, schema: &str) -> Result<(), WarehouseError> {
    let sql = "SELECT 1 FROM pg_namespace WHERE nspname = $1::text";
    let found = client.query_opt(sql, &[&schema]).await.map_err(WarehouseError::of("to look for the schema"))?;
    let schema_name = quoted(schema);
    if found.is_none() {
        let sql = format!("CREATE SCHEMA IF NOT EXISTS {schema_name}");
        client.batch_execute(&sql).await.map_err(WarehouseError::of(format!("to make the schema {schema}")))?;
    }
    let sql = format!("SET search_path = {schema_name}, pg_temp; SET timezone = 'UTC'; SET lock_timeout = '60s'");
    client.batch_execute(&sql).await.map_err(WarehouseError::of("to enter the schema"))
}

/// Refuses tables that this user may not change, before anything is written.
///
/// # Errors
/// [`WarehouseError::NotOurs`], with the table and its owner.
pub async fn owned(
    client: &Client,
    schema: &str,
    standing: &BTreeMap<String, Standing>,
    loaded: &[Table],
) -> Result<(), WarehouseError> {
    let names = loaded.iter().map(|table| table.file.name.as_str()).chain([state::STATE, state::RUNS]);
    let there = names.filter_map(|name| Some((name, standing.get(name)?)));
    let told = there.filter_map(|(name, there)| match there.other {
        Some(other) => Some(format!("  {name} is {other}, and no table")),
        None if !there.is_ours => Some(format!("  {name} belongs to {}", there.owner)),
        None => None,
    });
    let told = told.collect::<Vec<_>>().join("\n");
    if told.is_empty() {
        return Ok(());
    }
    let user = client.query_one("SELECT current_user::text", &[]).await;
    let user = user.map_err(WarehouseError::of("to ask who this is"))?.get(0);
    Err(WarehouseError::NotOurs { schema: schema.to_owned(), user, told })
}

/// Makes tables that are missing, and refuses those that are others than the files say.
///
/// # Errors
/// [`WarehouseError::Drift`], or when PostgreSQL refuses a statement.
pub async fn prepare(
    client: &mut Client,
    schema: &str,
    standing: &BTreeMap<String, Standing>,
    kept: &[Table],
    loaded: &[Table],
    options: &Options,
) -> Result<Prepared, WarehouseError> {
    let tx = client.transaction().await.map_err(WarehouseError::of("to begin"))?;
    state::is_held(&tx, schema).await?;
    if !standing.contains_key(state::STATE) || !standing.contains_key(state::RUNS) {
        tx.batch_execute(state::CREATE).await.map_err(WarehouseError::of("to make assay_state and assay_runs"))?;
    }
    let mut prepared = Prepared::default();
    let mut drifted = String::new();
    for table in kept.iter().chain(loaded) {
        let name = &table.file.name;
        let Some(there) = standing.get(name) else {
            create(&tx, table).await?;
            // It may have been there: it holds no epoch any more, and is filled anew.
            let forget = "DELETE FROM assay_state WHERE table_name = $1";
            tx.execute(forget, &[name]).await.map_err(WarehouseError::of("to write assay_state"))?;
            continue;
        };
        let found = ddl::drift(table, there);
        match outcome(&found, options, table.file.is_loaded()) {
            Answer::Same => {}
            Answer::Migrate => {
                let sql = ddl::add_columns(table, &found.added);
                tx.batch_execute(&sql).await.map_err(WarehouseError::of(format!("to add columns to {name}")))?;
                let names = found.added.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
                prepared
                    .notes
                    .push(format!("{name}: added {names}, NULL in the rows that are there; --full fills them"));
            }
            Answer::Recreate => {
                prepared.recreate.insert(name.clone());
            }
            Answer::Refuse => {
                let whose = if table.file.is_loaded() { "" } else { " (people fill it: alter it by hand)" };
                drifted.push_str(&format!("  {name}{whose}\n"));
                found.lines.iter().for_each(|line| drifted.push_str(&format!("    {line}\n")));
            }
        }
    }
    if !drifted.is_empty() {
        return Err(WarehouseError::Drift { schema: schema.to_owned(), diff: drifted.trim_end().to_owned() });
    }
    refine(&tx, kept.iter().chain(loaded).filter(|table| !prepared.recreate.contains(&table.file.name))).await?;
    // A policy may speak of a column that a table gets when it is made anew: those of loaded tables wait for it.
    let waiting = !prepared.recreate.is_empty();
    let files = kept.iter().chain(loaded.iter().filter(|_| !waiting)).map(|table| &table.file);
    prepared.notes.extend(security::apply(&tx, schema, files).await?);
    tx.commit().await.map_err(WarehouseError::of("to make the tables"))?;
    Ok(prepared)
}

enum Answer {
    Same,
    Migrate,
    Recreate,
    Refuse,
}

fn outcome(drift: &Drift, options: &Options, is_loaded: bool) -> Answer {
    match () {
        () if drift.lines.is_empty() => Answer::Same,
        () if options.migrate && drift.is_simple => Answer::Migrate,
        // What people filled is never dropped.
        () if options.full && is_loaded => Answer::Recreate,
        () => Answer::Refuse,
    }
}

/// A table with all that belongs to it but who may read it.
///
/// # Errors
/// When PostgreSQL refuses a statement.
pub async fn create(tx: &Transaction<'_>, table: &Table) -> Result<(), WarehouseError> {
    let sql = format!("{};{};{}", table.create(), table.primary_key(), table.comments());
    tx.batch_execute(&sql).await.map_err(WarehouseError::of(format!("to make {}", table.file.name)))?;
    indexes(tx, table).await
}

/// # Errors
/// When PostgreSQL refuses one.
pub async fn indexes(tx: &Transaction<'_>, table: &Table) -> Result<(), WarehouseError> {
    for sql in table.create_indexes() {
        tx.batch_execute(&sql).await.map_err(WarehouseError::of(format!("to index {}", table.file.name)))?;
    }
    Ok(())
}

/// Indexes and comments of tables whose files changed. Nothing is locked where none did.
async fn refine(tx: &Transaction<'_>, tables: impl Iterator<Item = &Table>) -> Result<(), WarehouseError> {
    let sql = "SELECT c.relname::text, coalesce(obj_description(c.oid, 'pg_class'), '') FROM pg_class c \
               WHERE c.relnamespace = current_schema()::regnamespace";
    let rows = tx.query(sql, &[]).await.map_err(WarehouseError::of("to look at comments"))?;
    let known: BTreeMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let sql = "SELECT table_name, definition FROM assay_state";
    let rows = tx.query(sql, &[]).await.map_err(WarehouseError::of("to read assay_state"))?;
    let loaded: BTreeMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    for table in tables {
        let name = &table.file.name;
        let is_same = match loaded.get(name) {
            Some(definition) => *definition == table.file.blake3,
            None => known.get(name).is_some_and(|about| *about == table.file.about),
        };
        if !is_same {
            let sql = table.comments();
            tx.batch_execute(&sql).await.map_err(WarehouseError::of(format!("to comment on {name}")))?;
            indexes(tx, table).await?;
        }
    }
    Ok(())
}
