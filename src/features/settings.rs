use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Whether features are kept, and how long labels take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeatureSettings {
    /// Whether tables that declare features are filled. They cost the stream 2.5 µs of CPU a row and the encoding of their
    /// columns, so whoever wants them says so once.
    pub enabled: Enabled,
    /// How long a label takes to arrive, in hours: a rate of labels counts nothing that is younger. A declaration with a
    /// delay of its own keeps it.
    pub label_delay_hours: u32,
}

impl Default for FeatureSettings {
    fn default() -> Self {
        Self { enabled: Enabled::Auto, label_delay_hours: 168 }
    }
}

impl FeatureSettings {
    #[must_use]
    pub fn label_delay_us(&self) -> i64 {
        i64::from(self.label_delay_hours) * 3_600_000_000
    }
}

/// Written `true`, `false` or `"auto"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Enabled {
    /// In every lake; `assay rebuild scores` fills them for the rows that are there already.
    Yes,
    /// In none: a lake that had them goes on without.
    No,
    /// A lake whose newest epoch has them keeps them.
    #[default]
    Auto,
}

impl Serialize for Enabled {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Yes => serializer.serialize_bool(true),
            Self::No => serializer.serialize_bool(false),
            Self::Auto => serializer.serialize_str("auto"),
        }
    }
}

impl<'de> Deserialize<'de> for Enabled {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = Enabled;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("true, false or \"auto\"")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Enabled, E> {
                Ok(if value { Enabled::Yes } else { Enabled::No })
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Enabled, E> {
                match value {
                    "auto" => Ok(Enabled::Auto),
                    _ => Err(E::invalid_value(Unexpected::Str(value), &self)),
                }
            }
        }
        deserializer.deserialize_any(Word)
    }
}
