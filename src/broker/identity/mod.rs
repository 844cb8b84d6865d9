//! Who people are: passwords, one-time codes, tokens, users, organizations.

pub(in crate::broker) mod code_attempts;
pub(in crate::broker) mod known_browsers;
mod login_state;
pub mod organizations;
pub mod password;
pub mod tokens;
pub mod totp;
pub mod users;
