//! Settings: `assay.toml`, then `ASSAY_*` variables, then flags. The defaults stand in `default.toml`, each with a comment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::contract::{Format, RegistryError, RegistrySettings, Secret};
use crate::domain::did_you_mean;
use crate::features::FeatureSettings;
use crate::lake::{CompactionSettings, LakeSettings};
use crate::model::drift::DriftSettings;
use crate::model::{ModelSettings, TrainJobSettings};
use crate::online::OnlineSettings;
use crate::pipeline::EpochSettings;
use crate::refine::RefineSettings;
use crate::refine::window::WindowSettings;
use crate::scoring::ScoringSettings;
use crate::serve::flight::FlightSettings;
use crate::serve::sql::{Passwords, PostgresSettings};
use crate::serve::{ApiKeys, ConsoleSettings, ServeSettings};
use crate::source::{KafkaSettings, SourceError};
use crate::store;
use crate::telemetry::traces::{StandardVariables, TraceSettings};
use crate::telemetry::{LogFormat, check_filter};
use crate::tracking::TrackingSettings;
use crate::warehouse::WarehouseSettings;

mod places;
#[cfg(test)]
mod tests;

use places::Places;

/// The settings with which assay starts when nothing else is said.
pub const DEFAULTS: &str = include_str!("default.toml");
/// Variables that begin so are settings.
const PREFIX: &str = "ASSAY_";
/// Passwords come from variables or files only.
const SECRETS: [&str; 8] = [
    "REGISTRY_PASSWORD",
    "KAFKA_PASSWORD",
    "SERVE_API_KEY",
    "SERVE_ADMIN_KEY",
    "POSTGRES_PASSWORD",
    "WAREHOUSE_PASSWORD",
    "ONLINE_PASSWORD",
    "TRACES_HEADERS",
];

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The name of the pipeline: the application id of its Delta transactions. A lake belongs to one pipeline.
    pub pipeline: String,
    pub lake: LakeSettings,
    pub contract: ContractSettings,
    pub registry: RegistrySettings,
    pub kafka: KafkaSettings,
    pub sql: SqlSettings,
    pub epoch: EpochSettings,
    pub refine: RefineSettings,
    pub windows: WindowSettings,
    pub features: FeatureSettings,
    pub maintenance: CompactionSettings,
    pub model: ModelSettings,
    pub train: TrainJobSettings,
    pub drift: DriftSettings,
    pub scoring: ScoringSettings,
    pub online: OnlineSettings,
    pub serve: ServeSettings,
    pub console: ConsoleSettings,
    pub postgres: PostgresSettings,
    pub flight: FlightSettings,
    pub warehouse: WarehouseSettings,
    pub traces: TraceSettings,
    pub log: LogSettings,
    /// What MLflow's own variables say.
    #[serde(skip)]
    pub mlflow: TrackingSettings,
}

/// What messages look like.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContractSettings {
    /// The contract, and the bronze table that it fills: `<name>.v<n>.avsc` in `folder`, `bronze.<name>`.
    pub name: String,
    /// The folder of contracts; empty for the built-in one of transactions.
    pub folder: PathBuf,
    pub format: Format,
}

impl Default for ContractSettings {
    fn default() -> Self {
        Self { name: "transactions".into(), folder: PathBuf::new(), format: Format::Avro }
    }
}

/// Where tables are defined.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SqlSettings {
    /// A folder whose files override and add to the built-in ones; empty for none.
    pub folder: PathBuf,
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    pub format: LogFormat,
    /// In the syntax of `RUST_LOG`.
    pub filter: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "warn".into() }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pipeline: "transactions".into(),
            lake: LakeSettings::default(),
            contract: ContractSettings::default(),
            registry: RegistrySettings::default(),
            kafka: KafkaSettings::default(),
            sql: SqlSettings::default(),
            epoch: EpochSettings::default(),
            refine: RefineSettings::default(),
            windows: WindowSettings::default(),
            features: FeatureSettings::default(),
            maintenance: CompactionSettings::default(),
            model: ModelSettings::default(),
            train: TrainJobSettings::default(),
            drift: DriftSettings::default(),
            scoring: ScoringSettings::default(),
            online: OnlineSettings::default(),
            serve: ServeSettings::default(),
            console: ConsoleSettings::default(),
            postgres: PostgresSettings::default(),
            flight: FlightSettings::default(),
            warehouse: WarehouseSettings::default(),
            traces: TraceSettings::default(),
            log: LogSettings::default(),
            mlflow: TrackingSettings::default(),
        }
    }
}

/// A setting that cannot be used. The start stops.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("the settings in {} cannot be read: {cause}; correct --config", path.display())]
    Unreadable { path: PathBuf, cause: std::io::Error },
    #[error("{place}: {cause}")]
    Invalid { place: String, cause: String },
}

impl Settings {
    /// Where runs are told: as `[train]` says, and where it does not, as MLflow's own variables say.
    #[must_use]
    pub fn tracking(&self) -> TrackingSettings {
        let or = |own: &str, other: &str| if own.is_empty() { other.to_owned() } else { own.to_owned() };
        let (train, mlflow) = (&self.train, &self.mlflow);
        let experiment = or(&or(&train.mlflow_experiment, &mlflow.experiment), "assay");
        TrackingSettings { uri: or(&train.mlflow_uri, &mlflow.uri), experiment, ..mlflow.clone() }
    }

    /// What the object store of models is opened with: what the lake's is, unless `model.options` says otherwise.
    #[must_use]
    pub fn model_options(&self) -> BTreeMap<String, String> {
        let mut options = self.lake.options.clone();
        options.extend(self.model.options.clone());
        options
    }

    /// The lake's one consumer: started anew, it takes its partitions back at once. Another lake, or one that reads other
    /// topics, must not: the group would give it the partitions of the one before.
    #[must_use]
    pub fn consumer(&self) -> KafkaSettings {
        let mut settings = self.kafka.clone();
        if settings.instance_id.is_empty() {
            let mut topics = settings.topics.clone();
            topics.sort_unstable();
            let of = blake3::hash(format!("{:?}", (&self.lake.location, topics)).as_bytes()).to_hex();
            settings.instance_id = format!("assay-{}-{}", self.pipeline, of.get(..12).unwrap_or_default());
        }
        settings
    }

    /// Reads a file of settings, if one is given, and lays the variables over it.
    ///
    /// Folders in the file are relative to the file.
    ///
    /// # Errors
    /// For the first unknown key or bad value, with its name and place.
    pub fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let mut table = toml::Table::new();
        let mut settings = Self::default();
        let mut places = Places::default();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|cause| SettingsError::Unreadable { path: path.to_owned(), cause })?;
            let shown = path.display().to_string();
            settings = Self::parse(&text, &shown)?;
            places = Places::of_file(&text, &shown);
            table = toml::from_str(&text)
                .map_err(|e| SettingsError::Invalid { place: shown.clone(), cause: e.to_string() })?;
        }
        let location_of_file = table.get("lake").and_then(|lake| lake.get("location")?.as_str()).map(ToOwned::to_owned);
        let mut secrets = Vec::new();
        let (mut mlflow, mut telemetry) = (TrackingSettings::default(), StandardVariables::default());
        for (name, value) in variables {
            let Some(key) = name.strip_prefix(PREFIX) else {
                if name.starts_with("OTEL_") {
                    telemetry.take(&name, value);
                } else {
                    of_mlflow(&mut mlflow, &name, value);
                }
                continue;
            };
            if SECRETS.contains(&key) {
                secrets.push((key.to_owned(), value));
                continue;
            }
            let Some(path) = setting_of(key)? else { continue };
            set(&mut table, &path, &value);
            let key = path.join(".");
            places.give(&key, &name);
            settings = table.clone().try_into().map_err(|e: toml::de::Error| SettingsError::Invalid {
                place: name.clone(),
                cause: places::explain(&key, e.message()),
            })?;
        }
        for (key, value) in secrets {
            match key.as_str() {
                "REGISTRY_PASSWORD" => settings.registry.password = Some(Secret(value)),
                "SERVE_API_KEY" => settings.serve.api_keys.push(ApiKeys::hash(&value)),
                "TRACES_HEADERS" => settings.traces.headers = Some(value),
                "WAREHOUSE_PASSWORD" => settings.warehouse.password = Some(Secret(value)),
                "ONLINE_PASSWORD" => settings.online.password = Some(Secret(value)),
                "SERVE_ADMIN_KEY" => settings.serve.admin_keys.push(ApiKeys::hash(&value)),
                "POSTGRES_PASSWORD" => settings.postgres.password = Some(Passwords::hash(&value)),
                _ => {
                    settings.kafka.properties.insert("sasl.password".into(), value);
                }
            }
        }
        settings.mlflow = mlflow;
        settings.traces.standard = telemetry;
        if let Some(folder) = file.and_then(Path::parent) {
            let (serve, warehouse) = (&mut settings.serve, &mut settings.warehouse);
            let (postgres, flight) = (&mut settings.postgres, &mut settings.flight);
            let (traces, online) = (&mut settings.traces, &mut settings.online);
            for path in [
                &mut settings.contract.folder,
                &mut settings.sql.folder,
                &mut serve.socket,
                &mut serve.api_key_file,
                &mut serve.admin_key_file,
                &mut serve.certificate_file,
                &mut serve.key_file,
                &mut postgres.password_file,
                &mut postgres.certificate_file,
                &mut postgres.key_file,
                &mut flight.certificate_file,
                &mut flight.key_file,
                &mut warehouse.password_file,
                &mut warehouse.ca_file,
                &mut online.password_file,
                &mut online.ca_file,
                &mut traces.headers_file,
            ] {
                if path.as_os_str().is_empty() || path.is_absolute() {
                    continue;
                }
                *path = folder.join(&*path);
            }
            let location = &mut settings.lake.location;
            let is_of_file = location_of_file.as_ref() == Some(&*location);
            if is_of_file && !location.contains("://") && Path::new(&*location).is_relative() {
                *location = folder.join(&*location).display().to_string();
            }
        }
        settings.problem().map_or(Ok(settings), |(key, cause)| {
            let place = places.of(&key).unwrap_or("settings").to_owned();
            Err(SettingsError::Invalid { place, cause: format!("{key} {cause}") })
        })
    }

    /// Parses the text of a file; `place` names it in errors.
    ///
    /// # Errors
    /// For the first unknown key or bad value, with its line and column.
    pub fn parse(text: &str, place: &str) -> Result<Self, SettingsError> {
        toml::from_str(text).map_err(|error| {
            let Some(span) = error.span() else {
                return SettingsError::Invalid { place: place.to_owned(), cause: error.message().to_owned() };
            };
            let place = format!("{place}:{}", places::line_of(text, span.start));
            let key = places::key_at(text, span.start).unwrap_or_default();
            SettingsError::Invalid { place, cause: places::explain(&key, error.message()) }
        })
    }

    /// Checks what no type can: also for settings over which flags were laid.
    ///
    /// # Errors
    /// For the first value that cannot work, with its key.
    pub fn check(&self) -> Result<(), SettingsError> {
        match self.problem() {
            Some((key, cause)) => Err(SettingsError::Invalid { place: key, cause }),
            None => Ok(()),
        }
    }

    /// The key that cannot work, and what it accepts.
    fn problem(&self) -> Option<(String, String)> {
        let own: [(&str, bool, &str); 14] = [
            ("pipeline", self.pipeline.is_empty(), "is empty; give the pipeline a name"),
            ("lake.location", self.lake.location.is_empty(), "is empty; give a folder or s3://bucket/prefix"),
            (
                "lake.history_s",
                self.lake.history_s < 600,
                "must be at least 600: younger files may belong to an epoch under way",
            ),
            ("contract.name", self.contract.name.is_empty(), "is empty; give the contract a name"),
            ("epoch.interval_ms", self.epoch.interval_ms == 0, "must be at least 1"),
            ("epoch.messages_max", self.epoch.messages_max == 0, "must be at least 1"),
            ("epoch.bytes_max", self.epoch.bytes_max == 0, "must be at least 1"),
            ("refine.dedup_span_seconds", self.refine.dedup_span_seconds == 0, "must be at least 1"),
            (
                "features.label_delay_hours",
                self.features.label_delay_hours > 8784,
                "must be at most 8784, which are 366 days",
            ),
            ("maintenance.fan_in", self.maintenance.fan_in < 2, "must be at least 2"),
            ("model.folder", self.model.folder.is_empty(), "is empty; give a folder or s3://bucket/prefix"),
            ("serve.address", !is_address(&self.serve.address), "must be host:port, such as 127.0.0.1:9464"),
            (
                "postgres.address",
                !self.postgres.address.is_empty() && !is_address(&self.postgres.address),
                "must be host:port, such as 127.0.0.1:5432, or empty",
            ),
            (
                "flight.address",
                !self.flight.address.is_empty() && !is_address(&self.flight.address),
                "must be host:port, such as 127.0.0.1:32010, or empty",
            ),
        ];
        if let Some((key, _, cause)) = own.into_iter().find(|(_, is_bad, _)| *is_bad) {
            return Some((key.to_owned(), cause.to_owned()));
        }
        let topic = &self.scoring.topic;
        if self.kafka.topics.contains(topic) {
            return Some((
                "scoring.topic".to_owned(),
                format!("is {topic}, which is read: what is said would come back"),
            ));
        }
        let tracking = TrackingSettings { uri: self.train.mlflow_uri.clone(), ..TrackingSettings::default() };
        if let (false, Err(cause)) = (tracking.uri.is_empty(), tracking.base()) {
            return Some(("train.mlflow_uri".into(), format!("cannot be used: {cause}")));
        }
        if let Some((key, cause)) = self.train.problem() {
            return Some((format!("train.{key}"), cause.to_owned()));
        }
        if let Some((key, cause)) = self.postgres.problem() {
            return Some((format!("postgres.{key}"), cause));
        }
        if let Some((key, cause)) = self.flight.problem() {
            return Some((format!("flight.{key}"), cause.to_owned()));
        }
        if let Some((key, cause)) = self.warehouse.problem() {
            return Some((format!("warehouse.{key}"), cause));
        }
        if let Some((key, cause)) = self.scoring.problem() {
            return Some((format!("scoring.{key}"), cause.to_owned()));
        }
        if let Some((key, cause)) = self.online.problem() {
            return Some((format!("online.{key}"), cause));
        }
        if let Some((key, cause)) = self.serve.problem() {
            return Some((format!("serve.{key}"), cause.to_owned()));
        }
        if let Some((key, cause)) = self.console.problem() {
            return Some((format!("console.{key}"), cause.to_owned()));
        }
        if let Some((key, cause)) = self.drift.problem() {
            return Some((format!("drift.{key}"), cause.to_owned()));
        }
        if let Some((key, cause)) = self.traces.problem() {
            // What OpenTelemetry's own variables say has their names.
            let key = if key.starts_with("OTEL_") { key.to_owned() } else { format!("traces.{key}") };
            return Some((key, cause));
        }
        if let Some((option, hint)) = self.lake.unknown_option() {
            let cause = format!("is no option of the object store{hint}");
            return Some((format!("lake.options.{option}"), cause));
        }
        if let Some(option) = store::unknown_option(&self.model.options) {
            let cause = format!("is no option of the object store{}", store::meant(option));
            return Some((format!("model.options.{option}"), cause));
        }
        if let Err(error) = check_filter(&self.log.filter) {
            return Some(("log.filter".into(), format!("cannot be used: {error}")));
        }
        if let Err(SourceError::Setting { key, cause }) = self.kafka.check() {
            return Some((format!("kafka.{key}"), cause));
        }
        match self.registry.check() {
            Err(RegistryError::Settings { key, problem }) => Some((format!("registry.{key}"), problem)),
            _ => None,
        }
    }
}

/// The variables that MLflow's own tools read.
fn of_mlflow(settings: &mut TrackingSettings, name: &str, value: String) {
    match name {
        "MLFLOW_TRACKING_URI" => settings.uri = value,
        "MLFLOW_EXPERIMENT_NAME" => settings.experiment = value,
        "MLFLOW_TRACKING_USERNAME" => settings.username = Some(value),
        "MLFLOW_TRACKING_PASSWORD" => settings.password = Some(value),
        "MLFLOW_TRACKING_TOKEN" => settings.token = Some(value),
        _ => {}
    }
}

/// Whether a text is `host:port`; whether the host exists is not asked.
fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// The path of the setting that a variable names: `LAKE_LOCATION` is `lake.location`. `None` when it names no section:
/// such variables belong to scripts around assay.
fn setting_of(key: &str) -> Result<Option<Vec<String>>, SettingsError> {
    let defaults: toml::Table = toml::from_str(DEFAULTS)
        .map_err(|e| SettingsError::Invalid { place: "default.toml".into(), cause: e.to_string() })?;
    let wanted = key.to_ascii_lowercase();
    for (section, value) in &defaults {
        let toml::Value::Table(keys) = value else {
            if *section == wanted {
                return Ok(Some(vec![section.clone()]));
            }
            continue;
        };
        let Some(key) = wanted.strip_prefix(&format!("{section}_")) else { continue };
        if keys.contains_key(key) || OPTIONAL.contains(&(section.as_str(), key)) {
            return Ok(Some(vec![section.clone(), key.to_owned()]));
        }
        let known: Vec<&str> = keys.keys().map(String::as_str).collect();
        let hint = did_you_mean(key, known.iter().copied());
        let hint = if hint.is_empty() { ";" } else { &hint };
        let cause = format!("there is no setting {section}.{key}{hint} [{section}] has: {}", known.join(", "));
        return Err(SettingsError::Invalid { place: format!("{PREFIX}{}", wanted.to_ascii_uppercase()), cause });
    }
    Ok(None)
}

/// Settings without a default.
const OPTIONAL: [(&str, &str); 4] =
    [("registry", "url"), ("registry", "username"), ("registry", "password_file"), ("registry", "ca_file")];

fn set(table: &mut toml::Table, path: &[String], value: &str) {
    // A variable is read as TOML where it is TOML (numbers, booleans, lists), and as plain text otherwise.
    let parsed = toml::from_str::<toml::Table>(&format!("v = {value}")).ok().and_then(|mut table| table.remove("v"));
    let value = parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()));
    match path {
        [key] => {
            table.insert(key.clone(), value);
        }
        [section, key] => {
            let section = table.entry(section.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let Some(section) = section.as_table_mut() {
                section.insert(key.clone(), value);
            }
        }
        _ => {}
    }
}
