//! The actions of the audit log.

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Action { $($(#[$doc])* $name,)* }

        impl Action {
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

actions! {
    /// The first factor was accepted (and no second one is required), or the sign-in was completed.
    Login = "login",
    /// Wrong password, unknown or disabled account.
    LoginFailed = "login_failed",
    /// Too many attempts.
    LoginThrottled = "login_throttled",
    /// Wrong passwords or codes of an account came from so many unknown browsers that those wait in
    /// a queue now; written once an hour at most.
    SignInSlowed = "sign_in_slowed",
    /// Second factor accepted.
    MfaVerify = "mfa_verify",
    /// Second factor rejected.
    MfaFailed = "mfa_failed",
    /// Second factor enrolled.
    MfaEnroll = "mfa_enroll",
    /// Second factor removed by an admin.
    MfaReset = "mfa_reset",
    /// Tokens renewed.
    Refresh = "refresh",
    /// A refresh token was used twice: the login was revoked.
    RefreshReuse = "refresh_reuse",
    /// Signed out.
    Logout = "logout",
    /// Every login of a user was ended.
    LogoutEverywhere = "logout_everywhere",
    /// A session was created.
    CreateSession = "create_session",
    /// A workspace was launched and its session is active, or the launch failed or was refused.
    LaunchWorkspace = "launch_workspace",
    /// A workspace was stopped.
    StopWorkspace = "stop_workspace",
    /// A session was disconnected by its user.
    DisconnectSession = "disconnect_session",
    /// A session was ended by an administrator or by the gateway.
    TerminateSession = "terminate_session",
    /// A session was extended: it expires later.
    ExtendSession = "extend_session",
    /// A session reached its expiry.
    ExpireSession = "expire_session",
    /// A session was ended, since it had no input for its idle timeout.
    EndIdleSession = "end_idle_session",
    /// The desktop and the tunnel keys of a session were removed.
    CloseSession = "close_session",
    /// A stream was opened.
    OpenStream = "open_stream",
    /// A stream was closed.
    CloseStream = "close_stream",
    /// A stream ticket was issued.
    IssueTicket = "issue_ticket",
    /// A used, expired, foreign or unknown ticket was presented.
    TicketRefused = "ticket_refused",
    /// Policy denied an action, or the object belongs to somebody else.
    AccessDenied = "access_denied",
    /// A forged, expired or revoked token was presented.
    TokenRefused = "token_refused",
    /// A workspace was created.
    CreateWorkspace = "create_workspace",
    /// A workspace was changed.
    UpdateWorkspace = "update_workspace",
    /// A workspace was removed.
    DeleteWorkspace = "delete_workspace",
    /// A user was created.
    CreateUser = "create_user",
    /// A user was changed.
    UpdateUser = "update_user",
    /// A user was disabled.
    DisableUser = "disable_user",
    /// A user was enabled.
    EnableUser = "enable_user",
    /// A user was signed out by an admin.
    SignOutUser = "sign_out_user",
    /// A host join token was created.
    CreateJoinToken = "create_join_token",
    /// A host enrolled.
    EnrollHost = "enroll_host",
    /// A standard WireGuard peer was added as a host.
    AddPeer = "add_peer",
    /// A host's configuration, which contains its preshared key, was shown.
    ShowHostConfig = "show_host_config",
    /// A host was removed.
    RemoveHost = "remove_host",
    /// A host was drained: it takes no new sessions.
    DrainHost = "drain_host",
    /// A drained host takes new sessions again.
    UndrainHost = "undrain_host",
    /// A host's tunnel came up.
    HostConnected = "host_connected",
    /// A host's tunnel went down.
    HostLost = "host_lost",
    /// The gateway started.
    GatewayStart = "gateway_start",
    /// The gateway shut down regularly.
    GatewayStop = "gateway_stop",
    /// The certificate of an upstream was pinned: recorded at first use, or accepted by an
    /// administrator.
    PinCertificate = "pin_certificate",
    /// An upstream presented another certificate than the expected one.
    CertificateRefused = "certificate_refused",
    /// An upstream rejected the credential.
    LoginRefused = "login_refused",
    /// Policy blocked a transfer in a stream: clipboard, files, input, a channel.
    TransferRefused = "transfer_refused",
    /// Policy blocked a request to a web application: by method, path, size, or as an upload or
    /// download.
    RequestRefused = "request_refused",
    /// A browser requested another destination than its session's.
    DestinationRefused = "destination_refused",
    /// A user saved their own credential for a workspace.
    SaveCredential = "save_credential",
    /// A user deleted their saved credential.
    ForgetCredential = "forget_credential",
    /// A user entered a credential for one use.
    EnterCredential = "enter_credential",
    /// The log was exported.
    ExportAudit = "export_audit",
    /// The log was verified.
    VerifyAudit = "verify_audit",
    /// An administrator with the master key accepted that the log is damaged or was replaced: it is
    /// continued from here, and nothing before is proved.
    AcceptAuditDamage = "accept_audit_damage",
}

impl Action {
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|a| a.as_str() == name)
    }
}
