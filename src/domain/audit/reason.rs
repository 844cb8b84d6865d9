//! Reasons of audit entries.

use crate::domain::policy::Denial;
use crate::domain::session::EndReason;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// Why something was denied, failed, or took a special course.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
            /// A denial of the policy.
            Denial(Denial),
            /// Why a session ended.
            End(EndReason),
            /// A word of another part: the HTTP layer, an upstream's protocol, the verification of
            /// the chain.
            External(String),
        }

        impl Reason {
            /// Its word in the log.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => $word,)*
                    Self::Denial(denial) => denial.as_str(),
                    Self::End(reason) => reason.as_str(),
                    Self::External(word) => word,
                }
            }
        }
    };
}

reasons! {
    /// The resource does not exist, or not in this organization.
    Unknown = "unknown",
    /// A workspace with this id exists.
    IdTaken = "id_taken",
    /// A user with this e-mail address exists.
    EmailTaken = "email_taken",
    /// The e-mail address cannot be given to a user of this organization.
    EmailUnusable = "email_unusable",
    /// The workspace has no active session.
    NotActive = "not_active",
    /// The user has no second factor.
    NoFactor = "no_factor",
    /// The one-time code is wrong.
    WrongCode = "wrong_code",
    /// The one-time code was accepted before.
    ReusedCode = "reused_code",
    /// The token was used before.
    UsedToken = "used_token",
    /// No such token.
    UnknownToken = "unknown_token",
    /// The token has expired.
    ExpiredToken = "expired_token",
    /// The token is for another step.
    WrongPurpose = "wrong_purpose",
    /// A second factor is enrolled.
    AlreadyEnrolled = "already_enrolled",
    /// No enrolment was started.
    NotStarted = "not_started",
    /// A rate limit was exceeded.
    TooManyTries = "too_many_tries",
    /// Administrators may not do this to themselves.
    OwnAccount = "own_account",
    /// Past its time.
    Expired = "expired",
    /// The signature or its content is wrong.
    Forged = "forged",
    /// The login was revoked.
    Revoked = "revoked",
    /// The login has expired.
    LoginExpired = "login_expired",
    /// No such login.
    UnknownLogin = "unknown_login",
    /// The refresh token was used before.
    Reused = "reused",
    /// No such refresh token.
    UnknownRefreshToken = "unknown_refresh_token",
    /// The refresh token is of another login than the access token beside it.
    OtherLogin = "other_login",
    /// No user with this e-mail address.
    UnknownAccount = "unknown_account",
    /// The password is wrong.
    WrongPassword = "wrong_password",
    /// The user is disabled.
    Disabled = "disabled",
    /// The account changed during the sign-in.
    ChangedMeanwhile = "changed_meanwhile",
    /// The first certificate was pinned.
    Recorded = "recorded",
    /// Another certificate is pinned.
    Changed = "changed",
    /// An administrator accepted the certificate.
    Accepted = "accepted",
    /// The upstream did not present this certificate last.
    NotOffered = "not_offered",
    /// The workspace trusts certificate authorities.
    Authority = "authority",
    /// The workspace's credential is not the user's own.
    NotTheUsers = "not_the_users",
    /// The workspace does not ask for a credential.
    NotAsked = "not_asked",
    /// The workspace has no upstream.
    NoServer = "no_server",
    /// The session has no lease.
    NoLease = "no_lease",
    /// The workspace names another target than the session was created for.
    TargetChanged = "target_changed",
    /// The stream policy forbids it.
    Policy = "policy",
    /// Another destination than the session's.
    NotTheSessions = "not_the_sessions",
    /// The login is not valid any more.
    SignedOut = "signed_out",
    /// The user's session was active already.
    Resumed = "resumed",
    /// The workspace is under maintenance.
    Maintenance = "maintenance",
    /// Somebody else holds the single seat.
    InUse = "in_use",
    /// The session has the maximum number of streams.
    TooManyViewers = "too_many_viewers",
    /// The ticket was used before.
    Used = "used",
    /// The ticket is for another session.
    Foreign = "foreign",
    /// The user's session is still starting or closing.
    Busy = "busy",
    /// The session would last longer than it may.
    DurationLimit = "duration_limit",
    /// The join token is unknown, used or expired.
    JoinToken = "join_token",
    /// The host runs an agent and has no configuration file.
    Agent = "agent",
    /// Only a signed-in user may do this.
    NotAUser = "not_a_user",
    /// The launch was interrupted by the end of its process.
    Interrupted = "interrupted",
    /// The gateway has no domain for web applications.
    NoAppsDomain = "no_apps_domain",
    /// No connected host can start this kind.
    KindNotOffered = "kind_not_offered",
    /// No host is connected, or the host was removed.
    NoHost = "no_host",
    /// Every host that could take it is drained.
    HostDrained = "host_drained",
    /// Every slot of the host's agent is taken.
    HostFull = "host_full",
    /// The host itself could not start the desktop.
    HostFailed = "host_failed",
    /// The host's agent does not have the service.
    ServiceNotOffered = "service_not_offered",
    /// The host is not connected.
    HostNotConnected = "host_not_connected",
    /// The configuration does not allow the target, or it did not resolve.
    TargetNotAllowed = "target_not_allowed",
    /// The host did not answer in time.
    Timeout = "timeout",
    /// The host refused.
    Refused = "refused",
    /// The desktop or its tunnel did not come up.
    Failed = "failed",
}

impl From<Denial> for Reason {
    fn from(denial: Denial) -> Self {
        Self::Denial(denial)
    }
}

impl From<EndReason> for Reason {
    fn from(reason: EndReason) -> Self {
        Self::End(reason)
    }
}
