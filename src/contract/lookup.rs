use std::sync::Arc;

use super::definition::Contract;
use super::registry::RegistryError;

/// Where the decoder learns what a schema id means.
pub trait SchemaLookup {
    /// The writer's schema of an id. May block.
    ///
    /// # Errors
    /// When it cannot be told now; then nothing may be refused on the ground of this id.
    fn schema(&mut self, id: i32) -> Result<Lookup, RegistryError>;
}

/// What a schema id means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The schema as JSON.
    Found(String),
    Unknown,
}

/// Without a registry: id `n` is version `n` of the contract.
#[derive(Debug, Clone)]
pub struct LocalSchemas {
    contract: Arc<Contract>,
}

impl LocalSchemas {
    #[must_use]
    pub const fn new(contract: Arc<Contract>) -> Self {
        Self { contract }
    }
}

impl SchemaLookup for LocalSchemas {
    fn schema(&mut self, id: i32) -> Result<Lookup, RegistryError> {
        let version = usize::try_from(id).ok().and_then(|id| self.contract.version(id));
        Ok(version.map_or(Lookup::Unknown, |json| Lookup::Found(json.to_owned())))
    }
}
