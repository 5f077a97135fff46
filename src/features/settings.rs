use serde::{Deserialize, Serialize};

/// Whether features are kept, and how long labels take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeatureSettings {
    /// Whether tables that declare features are filled. They cost the stream 2.5 µs of CPU a row and the encoding of their
    /// columns, so whoever wants them says so.
    pub enabled: bool,
    /// How long a label takes to arrive, in hours: a rate of labels counts nothing that is younger. A declaration with a
    /// delay of its own keeps it.
    pub label_delay_hours: u32,
}

impl Default for FeatureSettings {
    fn default() -> Self {
        Self { enabled: false, label_delay_hours: 168 }
    }
}

impl FeatureSettings {
    #[must_use]
    pub fn label_delay_us(&self) -> i64 {
        i64::from(self.label_delay_hours) * 3_600_000_000
    }
}
