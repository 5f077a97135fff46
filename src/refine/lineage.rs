//! Where columns come from: which column of which table one is, and from which columns of its source it is made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::{Column, DFSchema, JoinType, TableReference};
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::{References, SqlFileError, TableDef, planning};
use crate::domain::TableName;

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    pub table: TableName,
    pub column: String,
}

/// The column of a table that a column of a plan is, unchanged; `None` when it is computed.
#[must_use]
pub fn origin(plan: &LogicalPlan, index: usize) -> Option<Origin> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let column = scan.projected_schema.fields().get(index)?.name().clone();
            Some(Origin { table: named(&scan.table_name)?, column })
        }
        LogicalPlan::SubqueryAlias(alias) => match named(&alias.alias) {
            // A view stands in the place of the table whose name it has.
            Some(table) => Some(Origin { table, column: plan.schema().fields().get(index)?.name().clone() }),
            None => origin(&alias.input, index),
        },
        LogicalPlan::Projection(projection) => {
            let column = plain(projection.expr.get(index)?)?;
            let index = projection.input.schema().maybe_index_of_column(column)?;
            origin(&projection.input, index)
        }
        LogicalPlan::Join(join) => {
            let left = join.left.schema().fields().len();
            match join.join_type {
                JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {
                    if index < left {
                        origin(&join.left, index)
                    } else {
                        origin(&join.right, index - left)
                    }
                }
                JoinType::LeftSemi | JoinType::LeftAnti => origin(&join.left, index),
                JoinType::RightSemi | JoinType::RightAnti => origin(&join.right, index),
                _ => None,
            }
        }
        LogicalPlan::Filter(filter) => origin(&filter.input, index),
        LogicalPlan::Sort(sort) => origin(&sort.input, index),
        LogicalPlan::Limit(limit) => origin(&limit.input, index),
        _ => None,
    }
}

/// From which columns of the first tables each column of a chain of `rows` tables is made.
#[derive(Debug, Clone, Default)]
pub struct Lineage {
    columns: BTreeMap<TableName, BTreeMap<String, BTreeSet<Origin>>>,
}

impl Lineage {
    /// Adds a table; those that it follows from come before it. Columns that are not of its SQL (trailing counts) are
    /// made from themselves.
    ///
    /// # Errors
    /// When the SQL does not fit the source.
    pub fn add(
        &mut self,
        def: &TableDef,
        source: &SchemaRef,
        references: &Arc<References>,
    ) -> Result<(), SqlFileError> {
        let session = planning::session(references);
        let plan = planning::plan(&session, def, source)?;
        let mut made = BTreeMap::new();
        for (index, field) in plan.schema().fields().iter().enumerate() {
            let mut from = BTreeSet::new();
            walk(&plan, index, &mut |column| from.extend(self.of(&def.source, column)));
            made.insert(field.name().clone(), from);
        }
        self.columns.insert(def.table.clone(), made);
        Ok(())
    }

    /// The columns of the first tables that a column is made from; itself when the table was not added.
    #[must_use]
    pub fn of(&self, table: &TableName, column: &str) -> BTreeSet<Origin> {
        let known = self.columns.get(table).and_then(|columns| columns.get(column));
        known.cloned().unwrap_or_else(|| BTreeSet::from([Origin { table: table.clone(), column: column.to_owned() }]))
    }

    /// The columns of the first tables that an expression over a table and its source reads.
    #[must_use]
    pub fn of_names<'a>(&self, tables: &[TableName], names: impl IntoIterator<Item = &'a str>) -> BTreeSet<Origin> {
        let mut from = BTreeSet::new();
        for name in names {
            let table = tables.iter().find(|table| self.columns.get(*table).is_some_and(|of| of.contains_key(name)));
            if let Some(table) = table.or_else(|| tables.last()) {
                from.extend(self.of(table, name));
            }
        }
        from
    }
}

/// Calls `each` with the columns of the scan that a column of a chain of projections is made from.
fn walk(plan: &LogicalPlan, index: usize, each: &mut dyn FnMut(&str)) {
    match plan {
        LogicalPlan::TableScan(scan) => {
            if let Some(field) = scan.projected_schema.fields().get(index) {
                each(field.name());
            }
        }
        LogicalPlan::SubqueryAlias(alias) => walk(&alias.input, index, each),
        LogicalPlan::Projection(projection) => {
            let Some(expression) = projection.expr.get(index) else { return };
            for below in indices(expression, projection.input.schema()) {
                walk(&projection.input, below, each);
            }
        }
        _ => {}
    }
}

fn indices(expression: &Expr, schema: &DFSchema) -> Vec<usize> {
    expression.column_refs().into_iter().filter_map(|column| schema.maybe_index_of_column(column)).collect()
}

fn plain(expression: &Expr) -> Option<&Column> {
    match expression {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => plain(&alias.expr),
        _ => None,
    }
}

fn named(reference: &TableReference) -> Option<TableName> {
    format!("{}.{}", reference.schema()?, reference.table()).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bronze_schema, catalog};
    use super::super::{RowsTable, TableDef};
    use super::*;
    use crate::domain::Layer;

    fn lineage() -> (Lineage, Vec<TableDef>) {
        let catalog = catalog();
        let mut lineage = Lineage::default();
        let silver = &catalog.tables[0];
        lineage.add(silver, &bronze_schema(), &catalog.references).unwrap();
        let rows = RowsTable::compile(silver, &bronze_schema(), &catalog.references).unwrap();
        let scores = catalog.get(&TableName::new(Layer::Gold, "fraud_scores")).unwrap();
        let mut fields = rows.schema().fields().to_vec();
        fields.push(Arc::new(arrow::datatypes::Field::new(
            "user_transactions_30m",
            arrow::datatypes::DataType::Int64,
            true,
        )));
        let counted = Arc::new(arrow::datatypes::Schema::new(fields));
        lineage.add(scores, &counted, &catalog.references).unwrap();
        (lineage, vec![silver.clone(), scores.clone()])
    }

    fn names(found: BTreeSet<Origin>) -> Vec<String> {
        found.into_iter().map(|origin| format!("{}.{}", origin.table, origin.column)).collect()
    }

    #[test]
    fn a_column_is_traced_through_silver_to_what_was_sent() {
        let (lineage, defs) = lineage();
        let of = |table: usize, column: &str| names(lineage.of(&defs[table].table, column));
        assert_eq!(of(0, "country"), ["bronze.transactions.location"]);
        assert_eq!(of(0, "amount_category"), ["bronze.transactions.amount"]);
        assert_eq!(of(0, "day_of_week"), ["bronze.transactions.timestamp"]);
        assert_eq!(of(1, "high_risk_country_points"), ["bronze.transactions.location"]);
        assert_eq!(of(1, "user_transactions_30m"), ["silver.transactions.user_transactions_30m"]);
    }

    #[test]
    fn what_holds_the_senders_flag_is_known() {
        let (lineage, defs) = lineage();
        let label = lineage.of(&defs[0].table, "is_fraud");
        let holds = |column: &str| !lineage.of(&defs[1].table, column).is_disjoint(&label);
        for column in ["known_fraud_points", "score", "class", "reasons"] {
            assert!(holds(column), "{column}");
        }
        for column in ["high_amount_points", "velocity_points", "user_transactions_30m", "amount"] {
            assert!(!holds(column), "{column}");
        }
    }
}
