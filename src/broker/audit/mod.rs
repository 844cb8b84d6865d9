//! The audit log: query, export, verification.

mod export;
pub mod query;

pub use export::AuditExport;
