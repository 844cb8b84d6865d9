//! The APIs of the gateway. Each is a module with its own routes, error body, authentication, DTOs
//! and OpenAPI document, combined in one [`definition::Api`]; [`mount`] serves any number of them
//! side by side.

pub mod definition;
pub mod mount;
pub mod workspaces;
