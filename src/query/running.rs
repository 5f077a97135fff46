//! Plans that can be taken off their threads, and tasks that end with who waits for them.

use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream, execute_stream};
use datafusion::prelude::DataFrame;
use tokio::task::JoinHandle;

/// A task that ends with the one who waits for it.
pub struct Task<T>(pub JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Begins a query whose task can be aborted between any two batches.
///
/// # Errors
/// When it cannot be planned.
pub async fn begin(frame: DataFrame) -> Result<SendableRecordBatchStream, DataFusionError> {
    let task = Arc::new(frame.task_ctx());
    execute_stream(interruptible(frame.create_physical_plan().await?)?, task)
}

/// Joins make many rows of few, and what consumes them goes on as long as there are some: without a pause between two
/// batches, a thread could not be taken away from a query that was cancelled.
fn interruptible(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let pausing = plan.transform_up(|node| {
        if node.name().ends_with("JoinExec") || node.name() == "UnnestExec" {
            return Ok(Transformed::yes(Arc::new(CooperativeExec::new(node)) as _));
        }
        Ok(Transformed::no(node))
    });
    Ok(pausing?.data)
}
