use std::fmt;
use std::str::FromStr;

/// The layers of the lake; each is a folder and a SQL schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    Bronze,
    Silver,
    Gold,
    Ml,
    Ops,
}

impl Layer {
    pub const ALL: [Self; 5] = [Self::Bronze, Self::Silver, Self::Gold, Self::Ml, Self::Ops];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bronze => "bronze",
            Self::Silver => "silver",
            Self::Gold => "gold",
            Self::Ml => "ml",
            Self::Ops => "ops",
        }
    }
}

/// `layer.name`, for example `silver.transactions`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    pub layer: Layer,
    pub name: String,
}

impl TableName {
    #[must_use]
    pub fn new(layer: Layer, name: impl Into<String>) -> Self {
        Self { layer, name: name.into() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.layer.as_str(), self.name)
    }
}

/// A table name that is not `layer.name`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a table name: write layer.name with one of the layers bronze, silver, gold, ml, ops, and a name of a-z, 0-9 and _"
)]
pub struct TableNameError(pub String);

impl FromStr for TableName {
    type Err = TableNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || TableNameError(text.to_owned());
        let (layer, name) = text.split_once('.').ok_or_else(error)?;
        let layer = Layer::ALL.into_iter().find(|known| known.as_str() == layer).ok_or_else(error)?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(error());
        }
        Ok(Self::new(layer, name))
    }
}
