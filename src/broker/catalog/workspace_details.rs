//! Details of a workspace in the audit log.

use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::text::json_int;
use crate::domain::route::TargetSpec;
use crate::domain::upstream::TrustRule;
use crate::domain::web_app::{UpstreamSignIn, WebAppConfig};
use crate::domain::workspace::Workspace;
use std::time::Duration;

/// Maximum length of a list of paths in the audit log, in bytes.
const PATHS_MAX: usize = 1000;

pub(super) fn target_detail(workspace: &Workspace) -> Option<String> {
    workspace.driver().target().map(|target| match target {
        TargetSpec::Host { host_id, port } => format!("host {host_id} port {port}"),
        TargetSpec::Service { host_id, name } => format!("host {host_id} service {name}"),
        TargetSpec::Direct { name } => format!("direct {name}"),
    })
}

/// Adds policy and upstream settings.
pub(super) fn with_config_details(
    entry: AuditEntryBuilder,
    workspace: &Workspace,
) -> AuditEntryBuilder {
    let driver = workspace.driver();
    let policy = driver.policy();
    let limits = workspace.session_limits;
    let seconds =
        |duration: Option<Duration>| duration.map(|duration| json_int(duration.as_secs()));
    let entry = entry
        .with("session_duration_seconds", seconds(limits.duration))
        .with("session_extension_seconds", seconds(limits.extension))
        .with("idle_timeout_seconds", seconds(limits.idle_timeout))
        .with("clipboard", policy.clipboard.as_str())
        .with("files", policy.files)
        .with("read_only", policy.read_only);
    let Some(access) = driver.access() else { return entry };
    let trust = match &access.trust {
        TrustRule::FirstUse => "first_use",
        TrustRule::Pinned(_) => "pinned",
        TrustRule::Authority { .. } => "authority",
    };
    let entry = entry
        .with("credential", access.credential_source.as_str())
        .with("username", access.username.clone())
        .with("trust", trust);
    match driver.web_app() {
        Some(web) => with_web_details(entry, web),
        None => entry,
    }
}

fn with_web_details(entry: AuditEntryBuilder, web: &WebAppConfig) -> AuditEntryBuilder {
    let sign_in = match &web.sign_in {
        UpstreamSignIn::None => "none".to_owned(),
        UpstreamSignIn::Basic => "basic".to_owned(),
        UpstreamSignIn::Header(name) => format!("header {name}"),
    };
    let (identity, requests) = (&web.identity, &web.requests);
    let entry = entry
        .with("scheme", web.scheme.as_str())
        .with("host", web.host.clone())
        .with("start", web.start.clone())
        .with("sign_in", sign_in);
    let entry = entry
        .with("identity_headers", identity.headers)
        .with("assertion_audience", identity.assertion_audience.clone());
    let entry = entry.with("methods", requests.methods.join(",")).with(
        "paths",
        crate::broker::core::text::truncate_utf8(&requests.paths.join(" "), PATHS_MAX).to_owned(),
    );
    entry
        .with("upload", requests.upload)
        .with("download", requests.download)
        .with("max_request", json_int(requests.max_request))
}
