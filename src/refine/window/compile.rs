//! From a SQL file to a [`WindowTable`]: DataFusion plans, we take the plan apart.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::memory::{MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider};
use datafusion::catalog::{CatalogProvider, CatalogProviderList, MemTable, SchemaProvider};
use datafusion::common::{Column, DFSchema};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::create_physical_expr;
use datafusion::prelude::SessionContext;
use futures::FutureExt;

use super::aggregates::Aggregates;
use super::error::WindowError;
use super::plan::{GroupColumn, Projection, WindowTable};
use super::refuse::{Refuse, is_volatile};
use crate::domain::schema::{WINDOW_END, WINDOW_START, timestamp};
use crate::refine::TableDef;

impl WindowTable {
    /// Compiles the SQL of `def` over a source of `source_schema`, with the functions of `ctx`.
    ///
    /// # Errors
    /// [`WindowError::Invalid`] when DataFusion cannot plan the SQL, [`WindowError::Refused`] when it can, but the table
    /// cannot be kept incrementally: the message has the file, the line where it is known, and what to write instead.
    pub fn compile(def: &TableDef, source_schema: &SchemaRef, ctx: &SessionContext) -> Result<Self, WindowError> {
        let refuse = Refuse::new(def);
        let (Some(window), Some(event_time)) = (def.window, def.event_time.clone()) else {
            return Err(refuse.header("it needs `window` and `event_time` in its header"));
        };
        if window.slide_us <= 0 || window.size_us < window.slide_us || window.size_us % window.slide_us != 0 {
            return Err(refuse.header("the slide of its window must be positive and divide the size"));
        }
        match source_schema.field_with_name(&event_time) {
            Ok(field) if *field.data_type() == timestamp() => {}
            _ => {
                return Err(refuse.header(&format!(
                    "`event_time` must be a column of {} of type {}",
                    def.source,
                    timestamp()
                )));
            }
        }
        let state = state_with_source(def, source_schema, ctx).map_err(|error| refuse.invalid(&error))?;
        let plan = plan(&state, &def.sql).map_err(|error| refuse.invalid(&error))?;
        let compiler = Compiler { refuse, state: &state, source_schema };
        compiler.table(def, &plan, event_time)
    }
}

/// The given session with nothing in its catalog but the source, widened by the virtual columns.
fn state_with_source(
    def: &TableDef,
    source: &SchemaRef,
    ctx: &SessionContext,
) -> Result<SessionState, DataFusionError> {
    let mut fields = source.fields().iter().cloned().collect::<Vec<_>>();
    fields.extend([WINDOW_START, WINDOW_END].map(|name| Arc::new(Field::new(name, timestamp(), false))));
    let table = MemTable::try_new(Arc::new(Schema::new(fields)), vec![vec![]])?;

    let schema = MemorySchemaProvider::new();
    schema.register_table(def.source.name.clone(), Arc::new(table))?;
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema(def.source.layer.as_str(), Arc::new(schema))?;
    let catalogs = MemoryCatalogProviderList::new();
    let mut state = ctx.state();
    catalogs.register_catalog(state.config_options().catalog.default_catalog.clone(), Arc::new(catalog));
    state.config_mut().options_mut().sql_parser.collect_spans = true;
    Ok(SessionStateBuilder::new_from_existing(state).with_catalog_list(Arc::new(catalogs)).build())
}

/// Resolved and with all casts in place, but not optimized: the optimizer would split aggregates.
fn plan(state: &SessionState, sql: &str) -> Result<LogicalPlan, DataFusionError> {
    // The catalog is in memory, so planning never waits.
    let plan = state.create_logical_plan(sql).now_or_never();
    let plan = plan.unwrap_or_else(|| Err(DataFusionError::Internal("planning has waited for a catalog".into())))?;
    state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})
}

pub(super) struct Compiler<'a> {
    pub refuse: Refuse<'a>,
    pub state: &'a SessionState,
    source_schema: &'a SchemaRef,
}

/// Rows below the aggregate: each column of a plan node as an expression over the source, and the WHERE clauses so far.
pub(super) struct Rows {
    columns: Vec<Expr>,
    predicate: Option<Expr>,
}

impl Compiler<'_> {
    fn table(self, def: &TableDef, plan: &LogicalPlan, event_time: String) -> Result<WindowTable, WindowError> {
        let (projections, aggregate) = self.above(plan)?;
        let rows = self.below(&aggregate.input)?;
        let mut group_columns = Vec::new();
        let mut keys = Vec::new();
        for expr in &aggregate.group_expr {
            if matches!(expr, Expr::GroupingSet(_)) {
                let instead = "write one table for each grouping";
                return Err(self.refuse.because(
                    &["rollup", "cube", "grouping sets"],
                    "GROUPING SETS, ROLLUP or CUBE",
                    instead,
                ));
            }
            let expr = rows.over_source(expr, &aggregate.input);
            match window_column(&expr) {
                Some(WINDOW_START) => group_columns.push(GroupColumn::WindowStart),
                Some(_) => group_columns.push(GroupColumn::WindowEnd),
                None => {
                    let expr = self.row_expression(expr)?;
                    let kind = self.kind(&expr)?;
                    if super::intern::Interner::new(&super::evaluate::plain(&kind)).is_none() {
                        let construct = format!("GROUP BY a value of type {kind}");
                        return Err(self.refuse.because(
                            &["group by"],
                            &construct,
                            "cast it to a string, an integer or a decimal",
                        ));
                    }
                    group_columns.push(GroupColumn::Key(keys.len()));
                    keys.push(expr);
                }
            }
        }
        if !group_columns.iter().any(|column| !matches!(column, GroupColumn::Key(_))) {
            let instead = "add window_start, window_end to SELECT and GROUP BY";
            return Err(self.refuse.because(
                &["group by", "select"],
                "an aggregate over all windows together",
                instead,
            ));
        }
        let mut aggregates = Aggregates::default();
        for expr in &aggregate.aggr_expr {
            self.aggregate(expr, &aggregate.input, &rows, &mut aggregates)?;
        }
        let output = Arc::new(Schema::new(
            plan.schema()
                .fields()
                .iter()
                .map(|field| Field::new(field.name(), output_type(field.data_type()), field.is_nullable()))
                .collect::<Vec<_>>(),
        ));
        if let Some(column) = def.key.iter().find(|column| output.field_with_name(column).is_err()) {
            return Err(self.refuse.header(&format!("`key` names `{column}`, which the SQL does not select")));
        }
        Ok(WindowTable {
            table: def.table.clone(),
            source: def.source.clone(),
            event_time,
            window: def.window.unwrap_or(crate::refine::WindowSpec { size_us: 1, slide_us: 1 }),
            source_schema: Arc::clone(self.source_schema),
            props: self.state.execution_props().clone(),
            predicate: rows.predicate.map(|predicate| self.row_expression(predicate)).transpose()?,
            group_columns,
            keys,
            slots: aggregates.slots,
            distincts: aggregates.distincts,
            results: aggregates.results,
            aggregate_schema: Arc::clone(aggregate.schema.inner()),
            projections,
            output,
        })
    }

    /// Goes down to the one aggregate and compiles the SELECT lists above it.
    fn above<'p>(
        &self,
        plan: &'p LogicalPlan,
    ) -> Result<(Vec<Projection>, &'p datafusion::logical_expr::Aggregate), WindowError> {
        let mut projections = Vec::new();
        let mut node = plan;
        let aggregate = loop {
            match node {
                LogicalPlan::Projection(projection) => {
                    let mut columns = Vec::new();
                    for expr in &projection.expr {
                        self.refuse_volatile(expr)?;
                        columns.push(self.physical(expr, projection.input.schema())?);
                    }
                    projections.push(Projection { schema: Arc::clone(projection.schema.inner()), columns });
                    node = &projection.input;
                }
                LogicalPlan::SubqueryAlias(alias) => node = &alias.input,
                LogicalPlan::Aggregate(aggregate) => break aggregate,
                LogicalPlan::Filter(_) if has_aggregate(node) => {
                    let instead = "select the rows where the table is read";
                    return Err(self.refuse.because(&["having", "where"], "HAVING", instead));
                }
                other => return Err(self.refuse.node(other)),
            }
        };
        projections.reverse();
        Ok((projections, aggregate))
    }

    /// Goes down from the aggregate to the source.
    fn below(&self, node: &LogicalPlan) -> Result<Rows, WindowError> {
        match node {
            LogicalPlan::TableScan(scan) if scan.filters.is_empty() && scan.fetch.is_none() => {
                let columns =
                    scan.projected_schema.fields().iter().map(|field| Expr::Column(Column::from_name(field.name())));
                Ok(Rows { columns: columns.collect(), predicate: None })
            }
            LogicalPlan::SubqueryAlias(alias) => self.below(&alias.input),
            LogicalPlan::Projection(projection) => {
                let rows = self.below(&projection.input)?;
                let columns = projection.expr.iter().map(|expr| rows.over_source(expr, &projection.input)).collect();
                Ok(Rows { columns, predicate: rows.predicate })
            }
            LogicalPlan::Filter(filter) => {
                let mut rows = self.below(&filter.input)?;
                let predicate = rows.over_source(&filter.predicate, &filter.input);
                rows.predicate = Some(match rows.predicate.take() {
                    Some(first) => first.and(predicate),
                    None => predicate,
                });
                Ok(rows)
            }
            LogicalPlan::Aggregate(_) => {
                let instead = "keep the inner aggregate as a table of its own, or write it as one aggregate";
                Err(self.refuse.because(&["(select", "( select", "from"], "an aggregate over an aggregate", instead))
            }
            other => Err(self.refuse.node(other)),
        }
    }

    /// Checks and simplifies an expression over rows of the source.
    pub fn row_expression(&self, expr: Expr) -> Result<Expr, WindowError> {
        self.refuse_volatile(&expr)?;
        if expr.column_refs().iter().any(|column| column.name == WINDOW_START || column.name == WINDOW_END) {
            let instead = "name it alone in GROUP BY, and calculate with it in SELECT only";
            return Err(self.refuse.because(
                &["where", "filter", WINDOW_START, WINDOW_END],
                "window_start or window_end within an expression over rows",
                instead,
            ));
        }
        let schema = self.row_schema()?;
        let context = datafusion::logical_expr::simplify::SimplifyContext::builder()
            .with_schema(schema)
            .with_config_options(Arc::clone(self.state.config_options()))
            .build();
        ExprSimplifier::new(context).simplify(expr).map_err(|error| self.refuse.invalid(&error))
    }

    pub fn kind(&self, expr: &Expr) -> Result<DataType, WindowError> {
        let schema = self.row_schema()?;
        datafusion::logical_expr::ExprSchemable::get_type(expr, schema.as_ref())
            .map_err(|error| self.refuse.invalid(&error))
    }

    pub fn may_be_null(&self, expr: &Expr) -> bool {
        let nullable = |schema| datafusion::logical_expr::ExprSchemable::nullable(expr, &schema).unwrap_or(true);
        self.row_schema().map_or(true, |schema| nullable(schema.as_ref().clone()))
    }

    fn row_schema(&self) -> Result<Arc<DFSchema>, WindowError> {
        let schema = DFSchema::try_from(self.source_schema.as_ref().clone());
        schema.map(Arc::new).map_err(|error| self.refuse.invalid(&error))
    }

    fn refuse_volatile(&self, expr: &Expr) -> Result<(), WindowError> {
        match is_volatile(expr) {
            Some(name) => {
                let instead = "use columns of the source instead, so that the same rows give the same result";
                Err(self.refuse.because(&[name.as_str()], &format!("{name}, which changes from run to run,"), instead))
            }
            None => Ok(()),
        }
    }

    fn physical(
        &self,
        expr: &Expr,
        schema: &DFSchema,
    ) -> Result<Arc<dyn datafusion::physical_expr::PhysicalExpr>, WindowError> {
        let context = PhysicalPlanningContext::default();
        create_physical_expr(expr, schema, self.state.execution_props(), &context)
            .map_err(|error| self.refuse.invalid(&error))
    }
}

impl Rows {
    /// Rewrites an expression over the columns of `input`, which these rows are, to one over the source.
    pub fn over_source(&self, expr: &Expr, input: &LogicalPlan) -> Expr {
        use datafusion::common::tree_node::{Transformed, TreeNode};
        let schema = input.schema();
        let rewritten = expr.clone().transform_up(|expr| {
            let column = match &expr {
                Expr::Column(column) => schema.index_of_column(column).ok().and_then(|at| self.columns.get(at)),
                Expr::Alias(alias) => Some(alias.expr.as_ref()),
                _ => None,
            };
            Ok(match column {
                Some(column) => Transformed::yes(column.clone()),
                None => Transformed::no(expr),
            })
        });
        rewritten.map_or_else(|_| expr.clone(), |rewritten| rewritten.data)
    }
}

fn window_column(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(column) if column.name == WINDOW_START || column.name == WINDOW_END => Some(&column.name),
        _ => None,
    }
}

fn has_aggregate(node: &LogicalPlan) -> bool {
    matches!(node, LogicalPlan::Aggregate(_)) || node.inputs().into_iter().any(has_aggregate)
}

fn output_type(kind: &DataType) -> DataType {
    match kind {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::Timestamp(..) => timestamp(),
        other => other.clone(),
    }
}
