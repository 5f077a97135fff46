use super::error::LakeError;
use super::root::Lake;
use crate::domain::TableName;

/// Which of these tables the lake does not hold. Creates nothing.
///
/// # Errors
/// When the store does not answer.
pub async fn missing_tables(lake: &Lake, names: &[TableName]) -> Result<Vec<TableName>, LakeError> {
    let mut missing = Vec::new();
    for name in names {
        let there = lake.log_store(name)?.is_delta_table_location().await;
        if !there.map_err(|e| LakeError::store(name, "looking for it", e))? {
            missing.push(name.clone());
        }
    }
    Ok(missing)
}

/// Refuses to read a lake without these tables, which would be created otherwise.
///
/// # Errors
/// [`LakeError::Missing`] with their names, or when the store does not answer.
pub async fn require_tables(lake: &Lake, names: &[TableName]) -> Result<(), LakeError> {
    let missing = missing_tables(lake, names).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let tables = missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(LakeError::Missing { location: lake.location(), tables })
}
