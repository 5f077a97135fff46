use chrono::DateTime;
use serde::Deserialize;

/// What to generate: `[generate]` in `assay.toml`. Shares are of all messages, from 0 to 1.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GenerateSettings {
    /// The same seed and settings give the same messages, byte for byte.
    pub seed: u64,
    /// Messages in all, duplicates and dirt included; without it the stream has no end.
    pub events: Option<u64>,
    pub users: u32,
    pub merchants: u32,
    /// Messages per second of event time, on average over a day: how densely the simulated days are filled.
    pub rate: f64,
    /// Event time of the first message, ISO 8601 with a zone.
    pub start_at: String,
    /// Schema ids that frame messages of version 1 and 2.
    pub v1_schema_id: u32,
    pub v2_schema_id: u32,
    /// Messages sent a second time, some seconds to minutes later.
    pub duplicates: f64,
    /// Events 2 to 30 minutes behind the clock.
    pub late: f64,
    /// Events up to 20 seconds behind the clock.
    pub out_of_order: f64,
    /// Messages that cannot be decoded, of seven kinds.
    pub malformed: f64,
    /// Rows that break an expectation: empty ids, impossible amounts and timestamps.
    pub bad_rows: f64,
    /// Good rows whose payment method is not a known one.
    pub unknown_payment: f64,
    /// Messages of version 2 of the contract.
    pub v2: f64,
    /// Messages in JSON instead of Avro.
    pub json: f64,
    /// Fraudulent events, of four scenarios.
    pub fraud: f64,
}

impl Default for GenerateSettings {
    fn default() -> Self {
        Self {
            seed: 42,
            events: Some(100_000),
            users: 100_000,
            merchants: 2_000,
            rate: 50.0,
            start_at: "2026-01-05T08:00:00Z".to_owned(),
            v1_schema_id: 1,
            v2_schema_id: 2,
            duplicates: 0.01,
            late: 0.005,
            out_of_order: 0.03,
            malformed: 0.003,
            bad_rows: 0.005,
            unknown_payment: 0.002,
            v2: 0.2,
            json: 0.0,
            fraud: 0.007,
        }
    }
}

/// Why nothing can be generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    #[error("generate.{key}: {cause}")]
    Setting { key: &'static str, cause: String },

    #[error("`{path}` could not be written: {cause}")]
    Write { path: String, cause: String },
}

impl GenerateSettings {
    /// # Errors
    /// [`GenerateError::Setting`] for the first setting that cannot work.
    pub fn check(&self) -> Result<(), GenerateError> {
        let refuse = |key, cause: &str| Err(GenerateError::Setting { key, cause: cause.to_owned() });
        if self.users == 0 || i32::try_from(self.users).is_err() {
            return refuse("users", "must be between 1 and 2147483647");
        }
        if self.merchants == 0 || self.merchants > 10_000_000 {
            return refuse("merchants", "must be between 1 and 10000000");
        }
        if !(self.rate.is_finite() && self.rate > 0.0 && self.rate <= 1e6) {
            return refuse("rate", "must be above 0 and at most 1000000 events per second of event time");
        }
        self.start_us()?;
        for (key, share) in self.shares() {
            if !(0.0..=1.0).contains(&share) {
                return refuse(key, "must be a share from 0 to 1");
            }
        }
        if self.duplicates + self.malformed + self.bad_rows > 1.0 {
            return refuse("duplicates, malformed and bad_rows", "must not exceed 1 together");
        }
        if self.late + self.out_of_order > 1.0 {
            return refuse("late and out_of_order", "must not exceed 1 together");
        }
        if self.fraud > 0.5 {
            return refuse("fraud", "must be at most 0.5");
        }
        Ok(())
    }

    /// Microseconds since 1970.
    pub(super) fn start_us(&self) -> Result<i64, GenerateError> {
        let cause = |error: chrono::ParseError| GenerateError::Setting {
            key: "start_at",
            cause: format!("`{}` is not a time such as 2026-01-05T08:00:00Z: {error}", self.start_at),
        };
        DateTime::parse_from_rfc3339(&self.start_at).map(|time| time.timestamp_micros()).map_err(cause)
    }

    const fn shares(&self) -> [(&'static str, f64); 9] {
        [
            ("duplicates", self.duplicates),
            ("late", self.late),
            ("out_of_order", self.out_of_order),
            ("malformed", self.malformed),
            ("bad_rows", self.bad_rows),
            ("unknown_payment", self.unknown_payment),
            ("v2", self.v2),
            ("json", self.json),
            ("fraud", self.fraud),
        ]
    }
}
