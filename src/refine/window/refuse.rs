//! Words for SQL that cannot be kept incrementally.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};

use super::error::{Place, WindowError};
use crate::refine::{TableDef, Told};

/// Makes errors that name the place in a table's SQL file.
pub(super) struct Refuse<'a> {
    def: &'a TableDef,
}

impl<'a> Refuse<'a> {
    pub fn new(def: &'a TableDef) -> Self {
        Self { def }
    }

    /// The construct is refused; the line is that of the first of `needles` that is in the SQL.
    pub fn because(&self, needles: &[&str], construct: &str, instead: &str) -> WindowError {
        let sql = blank_comments(&self.def.sql);
        let words = sql.to_ascii_lowercase().replace(['\n', '\r', '\t'], " ");
        let found = needles.iter().find_map(|needle| words.find(&needle.to_ascii_lowercase()));
        let line = found.map(|at| self.def.sql_line + sql[..at].matches('\n').count());
        WindowError::Refused { place: self.place(line), construct: construct.to_owned(), instead: instead.to_owned() }
    }

    pub fn header(&self, cause: &str) -> WindowError {
        WindowError::Invalid { place: self.place(None), cause: format!("{}: {cause}", self.def.table) }
    }

    /// DataFusion's own words, at the line that they speak of.
    pub fn invalid(&self, error: &DataFusionError) -> WindowError {
        let Told { problem, line, column } = Told::new(error);
        let line = line.map(|line| self.def.sql_line + line - 1);
        WindowError::Invalid { place: Place { column, ..self.place(line) }, cause: problem }
    }

    /// A node of the plan that has no place in a window table.
    pub fn node(&self, node: &LogicalPlan) -> WindowError {
        let (needles, construct, instead): (&[&str], _, _) = match node {
            LogicalPlan::Join(_) => {
                (&["join", "from"], "a join", "join in the SQL of the source, or where the table is read")
            }
            LogicalPlan::Sort(_) => (&["order by"], "ORDER BY", "sort where the table is read"),
            LogicalPlan::Limit(_) => {
                (&["limit", "offset", "fetch"], "LIMIT or OFFSET", "limit where the table is read")
            }
            LogicalPlan::Distinct(_) => (&["distinct"], "SELECT DISTINCT", "name the columns in GROUP BY"),
            LogicalPlan::Window(_) => (&["over"], "a window function (OVER)", "calculate it where the table is read"),
            LogicalPlan::Union(_) => (&["union"], "UNION", "write one table for each part"),
            LogicalPlan::Unnest(_) => (&["unnest"], "unnest", "unnest in the SQL of the source"),
            LogicalPlan::Filter(_) | LogicalPlan::TableScan(_) => (
                &["select"],
                "a query without aggregate",
                "use mode = \"rows\", or aggregate with GROUP BY window_start, window_end",
            ),
            LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => (
                &["from", "values", "select"],
                "a query without its source",
                "select from the table named in the header",
            ),
            LogicalPlan::Subquery(_) => {
                (&["(select"], "a subquery", "join in the SQL of the source, or where the table is read")
            }
            _ => (&[], "this statement", "write one SELECT with one aggregate over the source"),
        };
        self.because(needles, construct, instead)
    }

    fn place(&self, line: Option<usize>) -> Place {
        Place { file: self.def.file.clone(), line, column: None }
    }
}

/// The first function within `expr` that may give another result for the same row, or a subquery.
pub(super) fn is_volatile(expr: &Expr) -> Option<String> {
    let mut found = None;
    let visited = expr.apply(|expr| {
        found = match expr {
            Expr::ScalarFunction(function) if function.func.signature().volatility != Volatility::Immutable => {
                Some(format!("{}()", function.func.name()))
            }
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => {
                Some("a subquery".to_owned())
            }
            Expr::ScalarVariable(..) | Expr::Placeholder(_) => Some("a variable".to_owned()),
            _ => None,
        };
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    debug_assert!(visited.is_ok(), "the visitor never fails");
    found
}

/// The text with its comments blanked, so that a line is never found in one.
fn blank_comments(sql: &str) -> String {
    let lines = sql.lines().map(|line| line.find("--").map_or(line, |at| &line[..at]));
    lines.collect::<Vec<_>>().join("\n")
}
