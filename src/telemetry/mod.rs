//! What operators see: metrics in Prometheus text format, structured logs with the epoch as a field, and traces.
//!
//! There are no globals: a [`Metrics`] is created by the top of the program and passed on by `Arc`.
//!
//! | metric | type | labels | unit | meaning |
//! |---|---|---|---|---|
//! | `assay_messages_total` | counter | `topic` | messages | read from the source |
//! | `assay_message_bytes_total` | counter | `topic` | bytes | of keys and payloads read |
//! | `assay_rows_total` | counter | `table` | rows | added to a table by published epochs |
//! | `assay_rejected_total` | counter | `stage`, `reason` | messages | that became dead letters |
//! | `assay_quarantined_total` | counter | `expectation` | rows | that broke it and went to quarantine; a row that breaks two counts under both |
//! | `assay_warned_total` | counter | `expectation` | rows | that broke it and went on |
//! | `assay_duplicates_total` | counter | | rows | left out because their key was known |
//! | `assay_late_rows_total` | counter | | rows | with an event time behind the watermark |
//! | `assay_restated_rows_total` | counter | `table` | rows | of closed windows written anew |
//! | `assay_epoch` | gauge | | number | the latest published epoch |
//! | `assay_epoch_seconds` | histogram | `stage` | seconds | that a stage of an epoch took |
//! | `assay_commit_seconds` | histogram | `table` | seconds | that a commit to a table took |
//! | `assay_commit_failures_total` | counter | `table` | commits | that failed, retried or not |
//! | `assay_consumer_lag` | gauge | `topic`, `partition` | messages | still to be read |
//! | `assay_watermark_lag_seconds` | gauge | | seconds | now minus the watermark; NaN before the first valid row |
//! | `assay_freshness_seconds` | histogram | | seconds | from an event's time of production to its committed gold |
//! | `assay_queue_depth` | gauge | `queue` | items | waiting in a bounded queue |
//! | `assay_queue_capacity` | gauge | `queue` | items | that a bounded queue can hold |
//! | `assay_cache_bytes` | gauge | `cache` | bytes | of what a stage remembers of the past, estimated |
//! | `assay_window_panes_reloaded` | gauge | | panes | of closed windows read from silver again for late rows, since the start |
//! | `assay_resident_memory_bytes` | gauge | | bytes | of physical memory in use; only where the system tells it |
//! | `assay_build_info` | gauge | `version` | | always 1 |
//! | `assay_source_connected` | gauge | | 0 or 1 | whether the source answers |
//! | `assay_requests_total` | counter | `route`, `status` | requests | to score, answered |
//! | `assay_request_seconds` | histogram | `route` | seconds | from a request to score to its answer |
//! | `assay_predictions_total` | counter | `version`, `decision` | transactions | scored by request; the version is that of the model, `pinned` where a request named it, or `rules` |
//! | `assay_predictions_refused_total` | counter | `reason` | transactions | of requests that do not fit the contract or break an expectation |
//! | `assay_predictions_degraded_total` | counter | | transactions | scored by the rules alone, because the model or features were missing |
//! | `assay_stream_scored_total` | counter | `decided_by` | transactions | of the stream, scored as they came, by `model` or by `rules` alone |
//! | `assay_stream_score_seconds` | histogram | | seconds | from the production of the oldest event of a micro-batch to its score, handed to the topic of predictions |
//! | `assay_role_predictions_total` | counter | `role`, `decision` | transactions | scored as champion, challenger, pinned or shadow |
//! | `assay_role_failures_total` | counter | `role` | transactions | that the version of a role could say nothing of: of a challenger, the champion answered; of champion and pinned, the rules |
//! | `assay_role_ask_seconds` | histogram | `role` | seconds | that asking the version took, of transactions that came together |
//! | `assay_role_probability` | histogram | `role` | | probabilities that the version gave |
//! | `assay_role_version_info` | gauge | `role`, `model`, `version` | | always 1: which version has a role |
//! | `assay_challenger_share` | gauge | | 0 to 1 | of users, whom a challenger answers now; 0 when it was taken out |
//! | `assay_challenger_returns_total` | counter | `cause` | challengers | taken out for errors or latency |
//! | `assay_model_registry_failures_total` | counter | | looks | at the registry of models that failed; what was loaded went on answering |
//! | `assay_shadow_shed_total` | counter | | transactions | that the challenger was not asked about in the shadow, because too many waited |
//! | `assay_receipts_total` | counter | `outcome` | transactions | receipts of decisions: `kept` in gold.predictions, `shed` because too many waited, `lost` because the process ended before the lake took them |
//! | `assay_features_epoch` | gauge | | number | the epoch of the lake that requests are scored with |
//! | `assay_online_ask_seconds` | histogram | `outcome` | seconds | that Redis took to tell what it knows of transactions that came together: `answered`, `empty` (it holds nothing of the lake), `failed`, `late` |
//! | `assay_online_fed_epoch` | gauge | | number | the epoch of the lake up to which this process has fed Redis |
//! | `assay_online_states_written_total` | counter | | states | of entities, written to Redis |
//! | `assay_online_states_removed_total` | counter | | states | removed from Redis because nothing of them mattered any more |
//! | `assay_sql_connections` | gauge | `protocol` | connections | of clients that ask in SQL, by `postgres` or `flight` |
//! | `assay_sql_statements_total` | counter | `outcome`, `protocol` | queries | of these clients: ok, error, cancelled (timeouts too), abandoned |
//! | `assay_sql_errors_total` | counter | `protocol`, `sqlstate` | errors | told to these clients |
//! | `assay_sql_rows_total` | counter | `protocol` | rows | sent to these clients |
//! | `assay_sql_seconds` | histogram | `outcome`, `protocol` | seconds | from a query of such a client to its last row |
//! | `assay_console_questions_total` | counter | `view`, `outcome` | questions | of the console: ok, busy (no turn), timeout, memory, sql (the question is wrong), or the code of another refusal |
//! | `assay_console_seconds` | histogram | `view` | seconds | from a question of the console to its answer, with waiting for a turn |
//! | `assay_trace_spans_total` | counter | `outcome` | spans | of traces: `sent`, `shed` because too many waited, `lost` because the receiver took none |

mod logging;
mod memory;
mod metrics;
mod online;
mod roles;
#[cfg(test)]
mod tests;
pub mod traces;

pub use logging::{LogFormat, LoggingError, check_filter, init_logging, init_logging_to, subscriber};
pub use memory::resident_memory_bytes;
pub use metrics::{Metrics, MetricsError};
pub use online::OnlineMetrics;
pub use roles::RoleMetrics;
