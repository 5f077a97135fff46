//! The SQL prompt.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::body::{self, BodyKind};
use super::super::{Problem, ServeState};
use super::asking::Question;
use super::{Console, access};
use crate::query::{Names, split_epoch, statements};

const SQL_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    sql: String,
}

/// The tables and their columns, for those who write SQL.
pub(super) async fn names(State(state): State<Arc<ServeState>>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    let console = Console::reading(&state, &headers)?;
    let session = console.0.asking.session(None).await?;
    let names = Names::load(&session.context).await;
    let tables = names.tables.iter().map(|(table, columns)| {
        let columns: Vec<Value> = columns
            .iter()
            .map(|column| json!({"name": column.name, "type": column.kind.to_string(), "kind": super::cells::kind(&column.kind)}))
            .collect();
        json!({"table": table, "columns": columns})
    });
    Ok(Json(json!({"tables": tables.collect::<Vec<_>>()})))
}

/// One question, answered as of the newest complete epoch, or the one that it names.
pub(super) async fn ask(State(state): State<Arc<ServeState>>, request: Request) -> Result<Json<Value>, Problem> {
    let began = Instant::now();
    let console = Console::reading(&state, request.headers())?;
    access::own(request.headers())?;
    BodyKind::of(request.headers(), &[BodyKind::Json])?;
    let text = body::read(request.into_body(), state.settings.body_bytes_max).await?;
    let wrong = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail).with("code", "sql");
    let Asked { sql } =
        serde_json::from_slice(&text).map_err(|error| wrong(format!("the body is {{\"sql\": TEXT}}: {error}")))?;
    if sql.len() > SQL_BYTES_MAX {
        return Err(wrong(format!("a question may have {SQL_BYTES_MAX} bytes, and this has {}", sql.len())));
    }
    let parts = statements(&sql).map_err(|error| wrong(error.render(&sql)))?;
    let [statement] = parts.as_slice() else {
        return Err(wrong(match parts.len() {
            0 => "there is no question".to_owned(),
            count => format!("{count} statements; ask one at a time"),
        }));
    };
    let (sql, epoch) = split_epoch(statement).map_err(|error| wrong(error.render(statement)))?;
    let answer = console.0.asking.ask(Question { epoch, ..Question::new("prompt", sql) }).await?;
    let mut told = answer.into_value();
    told["seconds"] = Duration::as_secs_f64(&began.elapsed()).into();
    Ok(Json(told))
}
