//! What the engine gives must be what DataFusion gives for the same SQL over all rows.

mod gold;
mod property;
mod refusals;
mod scenarios;
mod sets;
mod sources;
