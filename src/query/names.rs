//! The names of a lake: for completion, `.tables` and suggestions.

use std::collections::BTreeMap;

pub use crate::domain::closest;
use datafusion::arrow::datatypes::DataType;
use datafusion::prelude::SessionContext;

/// Tables as `layer.name` with their columns, in order of their names.
#[derive(Debug, Clone, Default)]
pub struct Names {
    pub tables: BTreeMap<String, Vec<Column>>,
    pub functions: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: DataType,
    pub nullable: bool,
}

impl Names {
    /// All tables of a session's default catalog. A table that cannot be opened is there without columns.
    pub async fn load(session: &SessionContext) -> Self {
        let catalog = session.copied_config().options().catalog.default_catalog.clone();
        let mut tables = BTreeMap::new();
        for (schema, provider) in session.catalog(&catalog).into_iter().flat_map(|catalog| {
            let schemas = catalog.schema_names().into_iter();
            schemas.filter_map(move |name| catalog.schema(&name).map(|schema| (name, schema))).collect::<Vec<_>>()
        }) {
            if schema == "information_schema" {
                continue;
            }
            for name in provider.table_names() {
                let table = provider.table(&name).await.ok().flatten();
                let fields = table.map(|table| table.schema().fields().clone()).unwrap_or_default();
                let column = |field: &datafusion::arrow::datatypes::FieldRef| Column {
                    name: field.name().clone(),
                    kind: field.data_type().clone(),
                    nullable: field.is_nullable(),
                };
                tables.insert(format!("{schema}.{name}"), fields.iter().map(column).collect());
            }
        }
        let state = session.state();
        let mut functions: Vec<String> = state.scalar_functions().keys().cloned().collect();
        functions.extend(state.aggregate_functions().keys().cloned());
        functions.extend(state.window_functions().keys().cloned());
        functions.sort_unstable();
        functions.dedup();
        Self { tables, functions }
    }

    /// Tables like the one that was not found, the likeliest first.
    #[must_use]
    pub fn like_table(&self, wanted: &str) -> Vec<String> {
        let bare = wanted.rsplit('.').next().unwrap_or(wanted);
        let all = self.tables.keys().map(String::as_str);
        let (same, other): (Vec<&str>, Vec<&str>) = all.partition(|name| name.rsplit('.').next() == Some(bare));
        if same.is_empty() {
            // The layer may be wrong too, so the bare name counts by itself.
            let bares = other.iter().map(|name| name.rsplit('.').next().unwrap_or(name));
            let near = closest(bare, bares);
            return other
                .into_iter()
                .filter(|name| near.iter().any(|near| name.rsplit('.').next() == Some(near)))
                .map(str::to_owned)
                .take(SUGGESTIONS)
                .collect();
        }
        same.into_iter().map(str::to_owned).take(SUGGESTIONS).collect()
    }
}

const SUGGESTIONS: usize = 3;
