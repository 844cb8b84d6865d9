//! Who people are: passwords, one-time codes, tokens, users, organizations.

pub(in crate::broker) mod organizations;
pub(in crate::broker) mod password;
pub(in crate::broker) mod tokens;
pub(in crate::broker) mod totp;
mod users;
