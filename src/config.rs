//! Typed, layered, validated configuration.
