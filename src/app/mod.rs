//! The composition root: the only module that sees all others, and the command line.
//!
//! | file | what it answers |
//! | --- | --- |
//! | [`cli`] | which commands and options there are |
//! | [`private`] | how files nobody else may read are made |
//! | [`keys`] | the gateway's own keys |
//! | [`tls`] | its certificate |

pub mod keys;
pub mod private;
pub mod tls;

/// Why a command failed: one clear line for standard error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    /// A failure told as `sentence`.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}
