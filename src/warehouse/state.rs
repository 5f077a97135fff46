//! What the warehouse knows of itself: which epoch of which lake each table holds, which runs there were, and whose turn
//! it is.

use std::collections::BTreeMap;

use tokio_postgres::{Client, GenericClient, Transaction};

use super::error::WarehouseError;
use super::file::TableFile;
use super::source::{Epoch, Span};

/// Where a table is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub pipeline: String,
    pub epoch: i64,
    /// Of that epoch: tells it from one of the same number in another lake.
    pub published_at_us: i64,
    /// Hash of the file by which it was loaded last.
    pub definition: String,
}

/// A run, in the words of its rows.
#[derive(Debug, Clone)]
pub struct Run {
    pub id: uuid::Uuid,
    pub pipeline: String,
    pub lake: String,
}

pub const STATE: &str = "assay_state";
pub const RUNS: &str = "assay_runs";

/// Both tables, if they are not there.
pub const CREATE: &str = "\
    CREATE TABLE IF NOT EXISTS assay_state (\
        table_name text COLLATE \"C\" PRIMARY KEY, pipeline text NOT NULL, lake text NOT NULL, epoch bigint NOT NULL, \
        epoch_published_at_us bigint NOT NULL, definition text NOT NULL, run_id uuid NOT NULL, \
        loaded_at timestamptz NOT NULL DEFAULT now());\
    CREATE TABLE IF NOT EXISTS assay_runs (\
        run_id uuid NOT NULL, to_epoch bigint NOT NULL, after_epoch bigint NOT NULL, processing_type text NOT NULL, \
        pipeline text NOT NULL, lake text NOT NULL, tables jsonb NOT NULL, began_at timestamptz NOT NULL DEFAULT now(), \
        ended_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (run_id, to_epoch, processing_type));\
    COMMENT ON TABLE assay_state IS 'The epoch of the lake that each table holds: changed in the transaction that changes its rows.';\
    COMMENT ON TABLE assay_runs IS 'One row for each transaction of assay warehouse: run_id of the rows that it wrote, epochs, rows by table.';";

/// Takes the warehouse for this connection, until it ends.
///
/// # Errors
/// [`WarehouseError::Busy`] while another has it.
pub async fn lock(client: &Client, schema: &str, place: &str) -> Result<(), WarehouseError> {
    let key = key(schema);
    let failed = || WarehouseError::of("to lock it");
    let row = client.query_one("SELECT pg_try_advisory_lock($1)", &[&key]).await.map_err(failed())?;
    if row.get(0) {
        return Ok(());
    }
    const HOLDER: &str = "SELECT format('%s (process %s of the server, user %s, from %s, since %s)', \
            coalesce(nullif(a.application_name, ''), 'somebody'), a.pid, a.usename, \
            coalesce(a.client_addr::text, 'this machine'), to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ')) \
         FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
         WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
            AND (l.classid::bigint << 32) | l.objid::bigint = $1";
    let holder = client.query_opt(HOLDER, &[&key]).await.map_err(failed())?;
    let holder = holder.map_or_else(|| "somebody who has just ended".to_owned(), |row| row.get(0));
    Err(WarehouseError::Busy { place: place.to_owned(), holder })
}

fn key(schema: &str) -> i64 {
    let key = blake3::hash(format!("assay warehouse {schema}").as_bytes());
    i64::from_be_bytes(key.as_bytes().first_chunk().copied().unwrap_or_default())
}

/// Whether the session of the server that answers is the one that took the warehouse and entered the schema.
///
/// # Errors
/// [`WarehouseError::Pooled`] when it is another one.
pub async fn is_held(client: &impl GenericClient, schema: &str) -> Result<(), WarehouseError> {
    const SQL: &str = "SELECT coalesce(current_schema() = $2::text, false) AND EXISTS (SELECT 1 FROM pg_locks \
         WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND pid = pg_backend_pid() \
            AND (classid::bigint << 32) | objid::bigint = $1)";
    let row =
        client.query_one(SQL, &[&key(schema), &schema]).await.map_err(WarehouseError::of("to look at its lock"))?;
    if row.get(0) { Ok(()) } else { Err(WarehouseError::Pooled) }
}

/// Gives the warehouse back: a pooler may keep the session for somebody else.
pub async fn unlock(client: &Client, schema: &str) {
    let _ = client.execute("SELECT pg_advisory_unlock($1)", &[&key(schema)]).await;
}

/// Where each table is.
///
/// # Errors
/// When it cannot be read.
pub async fn read(client: &Client) -> Result<BTreeMap<String, State>, WarehouseError> {
    const SQL: &str = "SELECT table_name, pipeline, epoch, epoch_published_at_us, definition FROM assay_state";
    let rows = client.query(SQL, &[]).await.map_err(WarehouseError::of("to read assay_state"))?;
    let of = |row: tokio_postgres::Row| {
        let state =
            State { pipeline: row.get(1), epoch: row.get(2), published_at_us: row.get(3), definition: row.get(4) };
        (row.get(0), state)
    };
    Ok(rows.into_iter().map(of).collect())
}

/// Moves a table to an epoch, in the transaction that brings its rows.
///
/// `from` is where it must stand; `None` for a table that is filled anew, wherever it stood.
///
/// # Errors
/// [`WarehouseError::Moved`] when it stands elsewhere.
pub async fn advance(
    tx: &Transaction<'_>,
    file: &TableFile,
    from: Option<i64>,
    to: &Epoch,
    run: &Run,
    schema: &str,
) -> Result<(), WarehouseError> {
    const SQL: &str = "INSERT INTO assay_state AS stored \
            (table_name, pipeline, lake, epoch, epoch_published_at_us, definition, run_id) \
         VALUES ($1, $2, $3, $4, $5, $6, $7::text::uuid) \
         ON CONFLICT (table_name) DO UPDATE SET pipeline = excluded.pipeline, lake = excluded.lake, epoch = excluded.epoch, \
            epoch_published_at_us = excluded.epoch_published_at_us, definition = excluded.definition, \
            run_id = excluded.run_id, loaded_at = now() \
         WHERE $8::bigint IS NULL OR stored.epoch = $8";
    let id = run.id.to_string();
    let moved = tx
        .execute(SQL, &[&file.name, &run.pipeline, &run.lake, &to.epoch, &to.published_at_us, &file.blake3, &id, &from])
        .await
        .map_err(WarehouseError::of("to write assay_state"))?;
    if moved == 1 { Ok(()) } else { Err(WarehouseError::Moved { schema: schema.to_owned() }) }
}

/// Notes what a transaction brought.
///
/// # Errors
/// When it cannot be written.
pub async fn note(
    tx: &Transaction<'_>,
    run: &Run,
    span: Span,
    processing_type: &str,
    tables: &BTreeMap<String, u64>,
) -> Result<(), WarehouseError> {
    const SQL: &str = "INSERT INTO assay_runs (run_id, to_epoch, after_epoch, processing_type, pipeline, lake, tables) \
         VALUES ($1::text::uuid, $2, $3, $4, $5, $6, $7::text::jsonb)";
    let tables = serde_json::to_string(tables).unwrap_or_else(|_| "{}".to_owned());
    let id = run.id.to_string();
    tx.execute(SQL, &[&id, &span.to, &span.after, &processing_type, &run.pipeline, &run.lake, &tables])
        .await
        .map(drop)
        .map_err(WarehouseError::of("to write assay_runs"))
}
