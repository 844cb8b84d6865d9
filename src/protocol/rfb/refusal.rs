//! What a server refuses, the connection or the credential, and its reason (section 7.1.3).

use super::{Input, MAX_REASON, Reason, RfbError, Step};

/// What the server refused.
#[derive(Clone, Copy, Debug)]
pub(super) enum FailureKind {
    Connection,
    Password,
}

impl FailureKind {
    pub(super) fn with_reason(self, reason: Reason) -> RfbError {
        match self {
            Self::Connection => RfbError::Refused(reason),
            Self::Password if reason.is_about_credential() => {
                RfbError::AuthenticationFailed(reason)
            }
            Self::Password => RfbError::Refused(reason),
        }
    }
}

/// Reads the reason of a refusal.
pub(super) fn read_reason(refusal: FailureKind, input: &mut Input<'_>) -> Result<Step, RfbError> {
    let Some(length) = input.peek_u32() else { return Ok(Step::Wait) };
    match usize::try_from(length) {
        Ok(length) if length <= MAX_REASON => match input.take(4 + length) {
            Some(bytes) => Err(refusal.with_reason(Reason::from_bytes(bytes.split_at(4).1))),
            None => Ok(Step::Wait),
        },
        // A refusal whose reason is too long is still a refusal.
        Ok(_) | Err(_) => Err(refusal.with_reason(Reason::default())),
    }
}
