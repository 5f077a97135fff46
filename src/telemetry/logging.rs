use std::fmt;
use std::io::IsTerminal;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::domain::{Clock, SystemClock};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines: `timestamp`, `level`, `target`, `message`, then the fields of the
    /// surrounding spans and of the event itself, all at the top level.
    Json,
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("`{filter}` is not a log filter: {cause}; write for example `info` or `info,assay::lake=debug`")]
    Filter { filter: String, cause: String },
    #[error("logging is set up already")]
    AlreadySet,
}

/// Sends logs to stderr from now on, of the whole process, records of the `log` crate included.
///
/// `filter` is in the syntax of `RUST_LOG`. Text is coloured on a terminal unless `NO_COLOR` is set.
///
/// # Errors
/// When the filter cannot be read, or logging is set up already.
pub fn init_logging(format: LogFormat, filter: &str) -> Result<(), LoggingError> {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    init_logging_to(format, filter, std::io::stderr, std::io::stderr().is_terminal() && !no_color)
}

/// As [`init_logging`], to a writer of the caller's: one that shares the terminal with a progress display, say.
///
/// # Errors
/// As [`init_logging`].
pub fn init_logging_to<W>(format: LogFormat, filter: &str, writer: W, colors: bool) -> Result<(), LoggingError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    subscriber(format, filter, writer, colors)?.try_init().map_err(|_| LoggingError::AlreadySet)
}

/// What [`init_logging_to`] installs.
///
/// # Errors
/// When the filter cannot be read.
pub fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    writer: W,
    colors: bool,
) -> Result<Box<dyn Subscriber + Send + Sync>, LoggingError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let parsed = parse_filter(filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(writer).with_ansi(colors);
    Ok(match format {
        LogFormat::Text => Box::new(builder.finish()),
        LogFormat::Json => {
            Box::new(builder.with_ansi(false).fmt_fields(JsonFields::new()).event_format(JsonLines).finish())
        }
    })
}

/// # Errors
/// When the filter cannot be read.
pub fn check_filter(filter: &str) -> Result<(), LoggingError> {
    parse_filter(filter).map(drop)
}

fn parse_filter(filter: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::builder()
        .parse(ours_only(filter))
        .map_err(|error| LoggingError::Filter { filter: filter.to_owned(), cause: error.to_string() })
}

/// Gives a level without a target to our own lines. Of libraries it lets warnings through: they tell their inner steps at
/// `info`, hundreds a second. A directive that names a library is left as it is.
fn ours_only(filter: &str) -> String {
    let (mut ours, mut others) = (Vec::new(), Vec::new());
    for directive in filter.split(',') {
        match directive.trim().to_ascii_lowercase().as_str() {
            "" => {}
            level @ ("info" | "debug" | "trace" | "3" | "4" | "5") => {
                // First, so that a directive for `assay` in the same filter counts more.
                ours = vec!["warn".to_owned(), format!("assay={level}")];
            }
            _ => others.push(directive.trim().to_owned()),
        }
    }
    ours.extend(others);
    ours.join(",")
}

/// The library's own JSON nests the fields of spans in a list; here `epoch` is found at the top level of every line.
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = Map::new();
        let now = chrono::DateTime::from_timestamp_micros(SystemClock.now_us()).unwrap_or_default();
        line.insert("timestamp".into(), now.to_rfc3339_opts(chrono::SecondsFormat::Micros, true).into());
        line.insert("level".into(), event.metadata().level().as_str().into());
        line.insert("target".into(), event.metadata().target().into());
        line.insert("message".into(), Value::Null);
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>().map_or("", |formatted| formatted.fields.as_str());
            if let Ok(Value::Object(fields)) = serde_json::from_str(fields) {
                line.extend(fields);
            }
        }
        event.record(&mut FieldsToJson(&mut line));
        writeln!(writer, "{}", Value::Object(line))
    }
}

struct FieldsToJson<'a>(&'a mut Map<String, Value>);

impl FieldsToJson<'_> {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for FieldsToJson<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}
