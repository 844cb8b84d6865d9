//! Routes, extractors, error mapping, pages.
