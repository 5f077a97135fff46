//! The tables of the pipeline by what they are for, and the questions of the page with their names in place.

use std::collections::BTreeSet;

use crate::domain::{Layer, TableName, schema};
use crate::pipeline::Plan;
use crate::scoring::streamed_model;

/// A table that follows from silver.
#[derive(Debug, Clone)]
pub(super) struct Derived {
    pub table: TableName,
    pub key: Vec<String>,
    /// Of a table of windows: how long they are, and how far apart they begin.
    pub window: Option<(i64, i64)>,
}

/// Which table is what.
#[derive(Debug, Clone)]
pub(super) struct Lineup {
    pub bronze: TableName,
    pub dead_letters: TableName,
    pub silver: TableName,
    pub silver_key: Vec<String>,
    pub event_time: String,
    pub quarantine: Option<TableName>,
    pub rows: Vec<Derived>,
    pub windows: Vec<Derived>,
    /// The columns of the contract: what a message brings.
    pub contract: Vec<String>,
    /// The model that is asked about rows as they come.
    pub model: Option<String>,
}

impl Lineup {
    pub fn of(plan: &Plan) -> Self {
        let derived = |def: &crate::refine::TableDef| Derived {
            table: def.table.clone(),
            key: def.key.clone(),
            window: def.window.map(|window| (window.size_us, window.slide_us)),
        };
        let provenance: BTreeSet<String> = schema::provenance().iter().map(|field| field.name().clone()).collect();
        let contract = plan.bronze_schema.fields().iter().map(|field| field.name().clone());
        Self {
            bronze: plan.bronze.clone(),
            dead_letters: TableName::new(Layer::Bronze, "dead_letters"),
            silver: plan.silver.table.clone(),
            silver_key: plan.silver.key.clone(),
            event_time: plan.event_time().to_owned(),
            quarantine: plan.silver.quarantine.clone(),
            rows: plan.rows.iter().map(derived).collect(),
            windows: plan.windows.iter().map(derived).collect(),
            contract: contract.filter(|name| !provenance.contains(name)).collect(),
            model: streamed_model(plan).map(|(_, model)| model.to_owned()),
        }
    }

    /// A question with the names of this pipeline.
    pub fn fill(&self, sql: &str) -> String {
        let quarantine = self.quarantine.as_ref().map(quoted).unwrap_or_default();
        sql.replace("{silver}", &quoted(&self.silver))
            .replace("{quarantine}", &quarantine)
            .replace("{event_time}", &identifier(&self.event_time))
    }
}

/// `"layer"."name"`.
pub(super) fn quoted(table: &TableName) -> String {
    format!("{}.{}", table.layer.as_str(), identifier(&table.name))
}

pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
