//! Diesel and nothing else, over SQLite and PostgreSQL.
