//! What use cases take and return: domain values, joined and ready for an API to map. The only
//! secrets are those shown once.

mod audit;
mod health;
mod hosts;
mod identity;
mod page;
mod sessions;
mod streams;
mod tunnel;
mod upstream;
mod web_requests;
mod workspaces;

pub use audit::*;
pub use health::*;
pub use hosts::*;
pub use identity::*;
pub use page::*;
pub use sessions::*;
pub use streams::*;
pub use tunnel::*;
pub use upstream::*;
pub use web_requests::*;
pub use workspaces::*;
