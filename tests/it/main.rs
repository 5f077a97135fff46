//! The whole pipeline as a library, on lakes in memory and in temporary folders. Needs no services.

mod conservation;
mod crash;
mod fault;
mod kit;
mod rebuilding;
mod standing;
mod values;
