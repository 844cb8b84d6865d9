//! The audit log: query, export, verification.

mod export;
mod query;

pub use export::AuditExport;
