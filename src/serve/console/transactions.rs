//! The newest rows that somebody should look at, and all that is known of one.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use datafusion::common::ScalarValue;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::{Problem, ServeState};
use super::asking::{Asking, Question};
use super::lineup::{Derived, Lineup, identifier, quoted};
use super::{Console, query_of};
use crate::domain::{TableName, schema};
use crate::lake::predictions_table;

/// Rows of a list.
const NEWEST: usize = 100;
/// Where the newest rows are looked for: so many epochs back, then further.
const LOOK_BACK: [i64; 3] = [64, 4_096, i64::MAX];
/// Rows of one table in a story.
const STORY_ROWS: usize = 50;

const REQUESTS: &str = "SELECT prediction_id, transaction_id, predicted_at, decided_by, is_fraud, fraud_probability, \
     threshold, rule_score, rule_class, rule_reasons, degraded_reason, model_version FROM gold.predictions \
     WHERE is_fraud AND prediction_date >= (SELECT max(prediction_date) - INTERVAL '7 days' FROM gold.predictions)";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// `high` or `all`.
    #[serde(default)]
    risk: Option<String>,
}

/// The newest scored rows, or the newest rows of silver where nothing is scored.
pub(super) async fn newest(
    State(state): State<Arc<ServeState>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let console = Console::reading(&state, &headers)?;
    let Wanted { risk } = query_of(&uri, "risk=high or risk=all")?;
    let (asking, lineup) = (&console.0.asking, &console.0.lineup);
    let scores = scores_table(asking, lineup).await?;
    let mut told = json!({"epoch": 0, "table": null, "rows": null, "context": {}, "requests": null});
    let (table, order, conditions) = match &scores {
        Some((scores, columns)) => {
            let is_high = risk.as_deref() != Some("all");
            (scores.table.clone(), order_of(columns, &lineup.event_time), is_high.then(|| high(columns)).flatten())
        }
        None => (lineup.silver.clone(), format!("epoch DESC, {} DESC", identifier(&lineup.event_time)), None),
    };
    if asking.has(&table).await? {
        let condition = conditions.map(|condition| format!(" AND ({condition})")).unwrap_or_default();
        let sql =
            format!("SELECT * FROM {} WHERE epoch > $1{condition} ORDER BY {order} LIMIT {NEWEST}", quoted(&table));
        let last = asking.session(None).await?.record.as_ref().map_or(0, |record| record.epoch);
        let mut found = None;
        for back in LOOK_BACK {
            let answer = asking.ask(Question::new("transactions", &sql).with(last.saturating_sub(back))).await?;
            let is_enough = answer.rows.len() >= NEWEST || back >= last;
            found = Some(answer);
            if is_enough {
                break;
            }
        }
        if let Some(answer) = found {
            told["epoch"] = answer.epoch.into();
            told["table"] = table.to_string().into();
            told["is_scored"] = scores.is_some().into();
            let rows = answer.objects();
            if let Some((scores, _)) = &scores {
                told["context"] = context(asking, lineup, scores, &rows).await?;
            }
            told["rows"] = rows.into();
        }
    }
    let predictions = predictions_table();
    let columns = asking.columns(&predictions).await?;
    if !columns.is_empty() {
        // What was said in the shadow was said to nobody.
        let shadow = columns.iter().any(|column| column == "role");
        let shadow = if shadow { " AND (role IS NULL OR role <> 'shadow')" } else { "" };
        let sql = format!("{REQUESTS}{shadow} ORDER BY predicted_at DESC LIMIT {NEWEST}");
        told["requests"] = asking.ask(Question::new("transactions", sql)).await?.objects().into();
    }
    Ok(Json(told))
}

/// The table of the pipeline that says how risky a row is, with its columns.
async fn scores_table<'a>(
    asking: &Arc<Asking>,
    lineup: &'a Lineup,
) -> Result<Option<(&'a Derived, Vec<String>)>, Problem> {
    for derived in &lineup.rows {
        let columns = asking.columns(&derived.table).await?;
        if high(&columns).is_some() && columns.iter().any(|column| column == schema::EPOCH) {
            return Ok(Some((derived, columns)));
        }
    }
    Ok(None)
}

/// What makes a row one to look at; `None` where the table does not say.
fn high(columns: &[String]) -> Option<String> {
    let has = |name: &str| columns.iter().any(|column| column == name);
    let mut conditions = Vec::new();
    if has(schema::MODEL_DECISION) {
        conditions.push(schema::MODEL_DECISION.to_owned());
    }
    if has("class") && has("score") {
        conditions.push("class IN ('HIGH', 'CRITICAL')".to_owned());
    } else if has("score") {
        conditions.push("score >= 50".to_owned());
    }
    (!conditions.is_empty()).then(|| conditions.join(" OR "))
}

fn order_of(columns: &[String], event_time: &str) -> String {
    let at = columns.iter().find(|column| *column == event_time);
    at.map_or_else(|| "epoch DESC".to_owned(), |at| format!("epoch DESC, {} DESC", identifier(at)))
}

/// What silver says of rows that are listed, by their key.
async fn context(asking: &Arc<Asking>, lineup: &Lineup, scores: &Derived, rows: &[Value]) -> Result<Value, Problem> {
    let [key] = lineup.silver_key.as_slice() else { return Ok(json!({})) };
    if scores.key != lineup.silver_key || rows.is_empty() {
        return Ok(json!({}));
    }
    let texts =
        |column: &str| rows.iter().filter_map(|row| row[column].as_str().map(str::to_owned)).collect::<BTreeSet<_>>();
    let (keys, times) = (texts(key), texts(&lineup.event_time));
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return Ok(json!({})) };
    let listed: Vec<String> = (0..keys.len()).map(|number| format!("${}", number + 3)).collect();
    // Files are left out by their times; texts have no bounds.
    let sql = format!(
        "SELECT * FROM {} WHERE {at} >= $1 AND {at} <= $2 AND {} IN ({})",
        quoted(&lineup.silver),
        identifier(key),
        listed.join(", "),
        at = identifier(&lineup.event_time),
    );
    let mut question = Question::new("transactions", sql).with(instant(first)?).with(instant(last)?);
    question.values.extend(keys.into_iter().map(ScalarValue::from));
    let hidden: BTreeSet<String> = schema::provenance().iter().map(|field| field.name().clone()).collect();
    let mut by_key = Map::new();
    for mut row in asking.ask(question).await?.objects() {
        let Some(id) = row[key].as_str().map(str::to_owned) else { continue };
        if let Value::Object(columns) = &mut row {
            columns.retain(|name, _| !hidden.contains(name));
        }
        by_key.insert(id, row);
    }
    Ok(Value::Object(by_key))
}

fn instant(text: &str) -> Result<ScalarValue, Problem> {
    let at = chrono::DateTime::parse_from_rfc3339(text);
    let at = at.map_err(|error| super::asking::internal(&format!("{text} is no instant: {error}")))?;
    Ok(ScalarValue::TimestampMicrosecond(Some(at.timestamp_micros()), Some("UTC".into())))
}

/// A row, by its id or by where its message stood.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Sought {
    id: Option<String>,
    topic: Option<String>,
    partition: Option<i32>,
    offset: Option<i64>,
}

/// What to look for in a table.
struct Search {
    condition: String,
    values: Vec<ScalarValue>,
}

impl Sought {
    /// For a table with these columns; `None` where it cannot be found there.
    fn within(&self, columns: &[String], key: &[String]) -> Option<Search> {
        let has = |name: &str| columns.iter().any(|column| column == name);
        if let (Some(id), [key]) = (&self.id, key) {
            let column = if has(key) { identifier(key) } else { return None };
            return Some(Search {
                condition: format!("CAST({column} AS VARCHAR) = $1"),
                values: vec![id.as_str().into()],
            });
        }
        let (Some(topic), Some(partition), Some(offset)) = (&self.topic, self.partition, self.offset) else {
            return None;
        };
        has(schema::SOURCE_OFFSET).then(|| Search {
            condition: "source_offset = $1 AND source_partition = $2 AND source_topic = $3".to_owned(),
            values: vec![offset.into(), partition.into(), topic.as_str().into()],
        })
    }
}

/// All that the lake knows of a row: where it came from, what became of it, and where it counts.
pub(super) async fn story(
    State(state): State<Arc<ServeState>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let console = Console::reading(&state, &headers)?;
    let sought: Sought = query_of(&uri, "id=ID, or topic, partition and offset")?;
    let (asking, lineup) = (&console.0.asking, &console.0.lineup);
    let key = &lineup.silver_key;
    if sought.id.is_some() == sought.offset.is_some() || (sought.id.is_some() && key.len() != 1) {
        let detail = match key.len() {
            1 => "give id=ID, or topic, partition and offset".to_owned(),
            _ => format!("rows of {} have no single id: give topic, partition and offset", lineup.silver),
        };
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let mut book = Book { asking, sought: &sought, key, told: Vec::new(), epoch: 0 };
    let silver = book.chapter("silver", &lineup.silver, &[]).await?;
    let silver = silver.into_iter().next();
    book.chapter("bronze", &lineup.bronze, &[]).await?;
    if let Some(quarantine) = &lineup.quarantine {
        book.chapter("quarantine", quarantine, &[]).await?;
    }
    book.chapter("dead_letter", &lineup.dead_letters, &[]).await?;
    if let Some(silver) = &silver {
        // Found by its place, its id leads on.
        let own =
            key.iter().filter_map(|column| Some((column.as_str(), text_of(&silver[column])?))).collect::<Vec<_>>();
        for derived in lineup.rows.iter().filter(|derived| own.len() == key.len() && derived.key == *key) {
            book.chapter("rows", &derived.table, &own).await?;
        }
        for derived in &lineup.windows {
            book.windows(derived, silver, &lineup.event_time).await?;
        }
        if let Some(epoch) = silver[schema::EPOCH].as_i64() {
            book.chapter("epoch", &crate::lake::EpochLedger::table_name(), &[("epoch", epoch.to_string())]).await?;
        }
    }
    let id = sought.id.clone().or_else(|| text_of(&silver.as_ref()?[key.first()?]));
    if let Some(id) = &id {
        book.chapter("predictions", &predictions_table(), &[("transaction_id", id.clone())]).await?;
    }
    let Book { told, epoch, .. } = book;
    if told.iter().all(|chapter| chapter["kind"] == "epoch" || chapter["rows"].as_array().is_none_or(Vec::is_empty)) {
        let what = id.unwrap_or_else(|| "this place".to_owned());
        let detail = format!("no table of the lake knows {what}, as of epoch {epoch}");
        return Err(Problem::new(StatusCode::NOT_FOUND, detail).with("code", "unknown_row"));
    }
    Ok(Json(json!({"epoch": epoch, "id": id, "chapters": told})))
}

/// What was found, table by table.
struct Book<'a> {
    asking: &'a Arc<Asking>,
    sought: &'a Sought,
    key: &'a [String],
    told: Vec<Value>,
    epoch: i64,
}

impl Book<'_> {
    /// Rows of a table: those that are sought, or those where columns have these values.
    async fn chapter(&mut self, kind: &str, table: &TableName, own: &[(&str, String)]) -> Result<Vec<Value>, Problem> {
        let columns = self.asking.columns(table).await?;
        let search = match own {
            [] => self.sought.within(&columns, self.key),
            own if own.iter().all(|(name, _)| columns.iter().any(|column| column == name)) => {
                let equal = own.iter().enumerate();
                let equal =
                    equal.map(|(number, (name, _))| format!("CAST({} AS VARCHAR) = ${}", identifier(name), number + 1));
                let condition = equal.collect::<Vec<_>>().join(" AND ");
                Some(Search { condition, values: own.iter().map(|(_, value)| value.as_str().into()).collect() })
            }
            _ => None,
        };
        let Some(search) = search else { return Ok(Vec::new()) };
        self.put(kind, table, search).await
    }

    /// The windows of a table that count the row.
    async fn windows(&mut self, derived: &Derived, silver: &Value, event_time: &str) -> Result<(), Problem> {
        let (Some((size_us, _)), Some(at)) = (derived.window, silver[event_time].as_str()) else { return Ok(()) };
        let columns = self.asking.columns(&derived.table).await?;
        let keys: Vec<&String> = derived.key.iter().filter(|name| *name != schema::WINDOW_START).collect();
        let values: Option<Vec<String>> = keys.iter().map(|name| text_of(&silver[name.as_str()])).collect();
        let Some(values) = values.filter(|_| columns.iter().any(|column| column == schema::WINDOW_START)) else {
            return Ok(());
        };
        let ScalarValue::TimestampMicrosecond(Some(at_us), zone) = instant(at)? else { return Ok(()) };
        let time = |us: i64| ScalarValue::TimestampMicrosecond(Some(us), zone.clone());
        let equal = keys.iter().enumerate();
        let equal = equal.map(|(number, name)| format!(" AND CAST({} AS VARCHAR) = ${}", identifier(name), number + 3));
        let condition = format!("window_start > $1 AND window_start <= $2{}", equal.collect::<String>());
        let mut search = Search { condition, values: vec![time(at_us - size_us), time(at_us)] };
        search.values.extend(values.into_iter().map(ScalarValue::from));
        self.put("window", &derived.table, search).await?;
        Ok(())
    }

    async fn put(&mut self, kind: &str, table: &TableName, search: Search) -> Result<Vec<Value>, Problem> {
        let sql = format!("SELECT * FROM {} WHERE {} LIMIT {STORY_ROWS}", quoted(table), search.condition);
        let answer = self.asking.ask(Question { values: search.values, ..Question::new("story", sql) }).await?;
        self.epoch = self.epoch.max(answer.epoch);
        let columns = super::cells::columns(&answer.schema);
        let rows = answer.objects();
        if !rows.is_empty() {
            self.told.push(json!({"kind": kind, "table": table.to_string(), "columns": columns, "rows": rows}));
        }
        Ok(rows)
    }
}

/// A cell as SQL casts it to text.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
