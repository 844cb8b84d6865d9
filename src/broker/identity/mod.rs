//! Who people are: passwords, one-time codes, tokens, users, organizations.

pub mod organizations;
pub mod password;
pub mod tokens;
pub mod totp;
pub mod users;
