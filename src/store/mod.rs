//! Diesel and nothing else, over SQLite and PostgreSQL.

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store {}
