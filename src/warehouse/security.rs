//! Who reads what: roles, grants, and policies on rows, as the files say. No superuser is needed: what the job's user may
//! not do is told to people.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Transaction;

use crate::refine::SqlFileError;

use super::ddl::{literal, quoted};
use super::error::{WarehouseError, told};
use super::file::{AccessDef, TableFile};

/// Makes roles, grants and policies that are missing, and takes policies away that the files have no more. Nothing is
/// locked where all is there. Returns what an administrator must do.
///
/// # Errors
/// When PostgreSQL refuses a policy, with its file.
pub async fn apply<'a>(
    tx: &Transaction<'_>,
    schema: &str,
    files: impl Iterator<Item = &'a TableFile> + Clone,
) -> Result<Vec<String>, WarehouseError> {
    let failed = |what: &str| WarehouseError::of(format!("to {what}"));
    let wanted: BTreeSet<&str> =
        files.clone().flat_map(|file| &file.access).map(|access| access.role.as_str()).collect();
    let (there, notes) = roles(tx, &wanted).await?;
    for role in &there {
        let sql = "SELECT has_schema_privilege($1::text, $2::text, 'USAGE')";
        let may = tx.query_one(sql, &[role, &schema]).await.map_err(failed("look at grants"))?;
        if !may.get::<_, bool>(0) {
            let sql = format!("GRANT USAGE ON SCHEMA {} TO {}", quoted(schema), quoted(role));
            tx.batch_execute(&sql).await.map_err(failed("grant the schema"))?;
        }
    }
    for file in files {
        one(tx, schema, file, &there).await?;
    }
    Ok(notes)
}

/// The roles that are there, made where this user may make them.
async fn roles(
    tx: &Transaction<'_>,
    wanted: &BTreeSet<&str>,
) -> Result<(BTreeSet<String>, Vec<String>), WarehouseError> {
    let failed = || WarehouseError::of("to look at roles");
    let names: Vec<&str> = wanted.iter().copied().collect();
    let sql = "SELECT rolname::text FROM pg_roles WHERE rolname = ANY($1)";
    let rows = tx.query(sql, &[&names]).await.map_err(failed())?;
    let mut there: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let sql = "SELECT rolsuper OR rolcreaterole, rolname::text FROM pg_roles WHERE rolname = current_user";
    let own = tx.query_one(sql, &[]).await.map_err(failed())?;
    let (may_create, user): (bool, String) = (own.get(0), own.get(1));
    let mut notes = Vec::new();
    for role in wanted.iter().filter(|role| !there.contains(**role)).copied().collect::<Vec<_>>() {
        let create = format!("CREATE ROLE {} NOLOGIN", quoted(role));
        if !may_create {
            notes.push(format!(
                "there is no role {role}, and {user} may not make one: run `{create}` as an administrator; the next run \
                 grants to it"
            ));
            continue;
        }
        // A job of another schema may make it at the same time.
        let sql = format!("DO $do$ BEGIN {create}; EXCEPTION WHEN duplicate_object THEN NULL; END $do$");
        tx.batch_execute(&sql).await.map_err(WarehouseError::of(format!("to make the role {role}")))?;
        there.insert(role.to_owned());
    }
    Ok((there, notes))
}

async fn one(
    tx: &Transaction<'_>,
    schema: &str,
    file: &TableFile,
    roles: &BTreeSet<String>,
) -> Result<(), WarehouseError> {
    let failed = || WarehouseError::of(format!("to look at the policies of {}", file.name));
    let table = quoted(&file.name);
    let sql = "SELECT p.polname::text, coalesce(obj_description(p.oid, 'pg_policy'), '') FROM pg_policy p \
               JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1::text AND c.relname = $2::text";
    let rows = tx.query(sql, &[&schema, &file.name]).await.map_err(failed())?;
    let standing: BTreeMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let names: Vec<&str> = file.access.iter().map(|access| access.role.as_str()).collect();
    let sql = "SELECT r.rolname::text FROM pg_roles r WHERE r.rolname = ANY($2) \
               AND has_table_privilege(r.oid, to_regclass($1::text), 'SELECT')";
    let rows = tx.query(sql, &[&format!("{}.{table}", quoted(schema)), &names]).await.map_err(failed())?;
    let readers: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let sql = "SELECT c.relrowsecurity FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1::text AND c.relname = $2::text";
    let is_on: bool = tx.query_one(sql, &[&schema, &file.name]).await.map_err(failed())?.get(0);
    let mut sql = String::new();
    if !is_on && !file.access.is_empty() {
        sql.push_str(&format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;"));
    }
    for access in file.access.iter().filter(|access| roles.contains(&access.role)) {
        let mark = mark(access);
        if standing.get(&access.role).is_some_and(|standing| *standing == mark) {
            // The policy says which rows; that they may be read at all is a grant, which somebody may have taken away.
            if !readers.contains(&access.role) {
                sql.push_str(&format!("GRANT SELECT ON {table} TO {};", quoted(&access.role)));
            }
            continue;
        }
        let (role, rows) = (quoted(&access.role), access.rows.as_deref().unwrap_or("true"));
        sql.push_str(&format!(
            "DROP POLICY IF EXISTS {role} ON {table};\
             CREATE POLICY {role} ON {table} FOR SELECT TO {role} USING ({rows});\
             COMMENT ON POLICY {role} ON {table} IS {};\
             GRANT SELECT ON {table} TO {role};",
            literal(&mark)
        ));
    }
    // Those that people made carry no mark of ours.
    for (name, _) in standing.iter().filter(|(_, comment)| comment.starts_with(MARK)) {
        if file.access.iter().all(|access| access.role != *name) {
            let role = quoted(name);
            sql.push_str(&format!("DROP POLICY {role} ON {table};REVOKE SELECT ON {table} FROM {role};"));
        }
    }
    if sql.is_empty() {
        return Ok(());
    }
    tx.batch_execute(&sql).await.map_err(|error| {
        let (code, cause) = told(&error);
        // Of the condition in the file, or of what this user may do.
        if code.as_deref().is_some_and(|code| code.starts_with("42") && code != "42501") {
            return SqlFileError::new(&file.file, 1, format!("PostgreSQL refuses `access`: {cause}")).into();
        }
        WarehouseError::Postgres { action: format!("to say who reads {}", file.name), code, cause }
    })
}

const MARK: &str = "Of assay: ";

/// Tells whether a policy is the one of the file.
fn mark(access: &AccessDef) -> String {
    let rows = access.rows.as_deref().unwrap_or("true");
    format!("{MARK}{}", blake3::hash(rows.as_bytes()).to_hex().get(..16).unwrap_or_default())
}
