//! What the administrative commands print: tables, and JSON with `--json`.

use super::shell::print_table;
use crate::broker::model::{HostView, WorkspaceView};
use crate::domain::Timestamp;
use crate::domain::route::TargetSpec;
use crate::domain::session_times::SessionLimits;
use crate::domain::upstream::TrustRule;
use crate::domain::user::User;
use crate::domain::web_app::{UpstreamSignIn, WebAppConfig};
use serde_json::{Value, json};
use std::time::Duration;

pub(super) fn print_users(users: &[User], as_json: bool) {
    if as_json {
        let list: Vec<_> = users
            .iter()
            .map(|u| {
                json!({"id": u.id, "email": u.email, "name": u.name, "role": u.role, "organization_id": u.organization_id,
                    "mfa_enrolled": u.mfa_enrolled, "disabled": u.disabled, "created_at": u.created_at, "last_login_at": u.last_login_at})
            })
            .collect();
        println!("{}", json!(list));
        return;
    }
    let rows: Vec<Vec<String>> = users
        .iter()
        .map(|u| {
            let state = if u.disabled { "disabled" } else { "enabled" };
            vec![
                u.email.clone(),
                u.name.clone(),
                u.role.to_string(),
                yes_or_no(u.mfa_enrolled),
                state.into(),
                time_or_never(u.last_login_at),
            ]
        })
        .collect();
    print_table(&["EMAIL", "NAME", "ROLE", "SECOND FACTOR", "STATE", "LAST SIGN-IN"], &rows);
}

pub(super) fn print_workspaces(workspaces: &[WorkspaceView], as_json: bool) {
    if as_json {
        let list: Vec<_> = workspaces
            .iter()
            .map(|v| {
                let w = &v.workspace;
                json!({"id": w.id, "name": w.name, "description": w.description, "type": w.kind, "icon": w.icon, "tags": w.tags,
                    "requires_mfa": w.requires_mfa, "single_seat": w.single_seat, "network": w.network,
                    "allowed_roles": w.allowed_roles, "maintenance": w.maintenance, "target": v.target().map(target_json),
                    "session_limits": session_limits_json(w.session_limits),
                    "policy": {"clipboard": w.policy.clipboard.as_str(), "files": w.policy.files, "read_only": w.policy.read_only},
                    "server": server_json(v)})
            })
            .collect();
        println!("{}", json!(list));
        return;
    }
    let rows: Vec<Vec<String>> = workspaces
        .iter()
        .map(|v| {
            let w = &v.workspace;
            let roles: Vec<&str> = w.allowed_roles.iter().map(|r| r.as_str()).collect();
            let seats = if w.single_seat { "one" } else { "each user" };
            let state = if w.maintenance { "maintenance" } else { "in service" };
            vec![
                w.id.to_string(),
                w.name.clone(),
                w.kind.as_str().into(),
                seats.into(),
                yes_or_no(w.requires_mfa),
                roles.join(","),
                state.into(),
            ]
        })
        .collect();
    print_table(&["ID", "NAME", "TYPE", "SEATS", "NEEDS SECOND FACTOR", "ROLES", "STATE"], &rows);
}

fn session_limits_json(limits: SessionLimits) -> Value {
    let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs());
    json!({"duration_seconds": seconds(limits.duration), "extension_seconds": seconds(limits.extension), "idle_timeout_seconds": seconds(limits.idle_timeout)})
}

pub(super) fn print_hosts(hosts: &[HostView], as_json: bool) {
    if as_json {
        let list: Vec<_> = hosts
            .iter()
            .map(|v| {
                let h = &v.host;
                json!({"id": h.id, "name": h.name, "kind": h.kind.as_str(), "public_key": h.public_key, "address": h.address, "endpoint": h.endpoint, "version": h.version,
                    "enrolled_at": h.enrolled_at, "last_seen_at": h.last_seen_at, "sessions": v.sessions, "drained": h.drained_at.is_some()})
            })
            .collect();
        println!("{}", json!(list));
        return;
    }
    // Only the gateway knows whether a host is connected.
    let rows: Vec<Vec<String>> = hosts
        .iter()
        .map(|v| {
            let h = &v.host;
            vec![
                h.id.to_string(),
                h.name.clone(),
                h.kind.as_str().into(),
                h.address.to_string(),
                h.version.clone(),
                v.sessions.to_string(),
                (if h.drained_at.is_some() { "yes" } else { "no" }).into(),
                time_or_never(h.last_seen_at),
            ]
        })
        .collect();
    print_table(
        &["ID", "NAME", "KIND", "ADDRESS", "VERSION", "SESSIONS", "DRAINED", "LAST SEEN"],
        &rows,
    );
}

/// A workspace's server, as `--json` shows it.
fn server_json(view: &WorkspaceView) -> Option<serde_json::Value> {
    let server = view.upstream.as_ref()?;
    let managed = server.managed.as_ref()?;
    let trust = match &managed.trust {
        TrustRule::FirstUse => json!({"rule": "first_use"}),
        TrustRule::Pinned(pin) => json!({"rule": "pinned", "fingerprint": pin.to_string()}),
        TrustRule::Authority { roots, name } => {
            json!({"rule": "authority", "roots": roots, "name": name})
        }
    };
    let (pinned, offered) = (managed.state.pinned, managed.state.offered.as_ref());
    let web = managed.web.as_ref().map(web_json);
    Some(
        json!({"credential": server.source.as_str(), "credential_saved": server.credential_saved, "exclusive": server.exclusive,
        "keyboard": server.keyboard.map(|id| format!("0x{id:08x}")), "username": managed.username, "domain": managed.domain, "trust": trust, "web": web,
        "certificate": {"pinned": pinned.map(|(pin, _)| pin.to_string()), "pinned_at": pinned.map(|(_, at)| at),
            "offered": offered.map(|o| o.fingerprint.to_string()), "offered_at": offered.map(|o| o.at), "offered_subject": offered.map(|o| &o.subject)}}),
    )
}

/// A web application, as `--json` shows it.
fn web_json(web: &WebAppConfig) -> serde_json::Value {
    let (identity, requests) = (&web.identity, &web.requests);
    let sign_in = match &web.sign_in {
        UpstreamSignIn::None => json!({"by": "none"}),
        UpstreamSignIn::Basic => json!({"by": "basic"}),
        UpstreamSignIn::Header(name) => json!({"by": "header", "header": name}),
    };
    json!({"scheme": web.scheme.as_str(), "host": web.host, "start": web.start, "sign_in": sign_in,
        "identity": {"headers": identity.headers, "assertion_audience": identity.assertion_audience},
        "requests": {"methods": requests.methods, "paths": requests.paths, "upload": requests.upload, "download": requests.download,
            "max_request": requests.max_request}})
}

fn target_json(target: &TargetSpec) -> serde_json::Value {
    match target {
        TargetSpec::Host { host_id, port } => json!({"host_id": host_id, "port": port}),
        TargetSpec::Service { host_id, name } => json!({"host_id": host_id, "service": name}),
        TargetSpec::Direct { name } => json!({"direct": name}),
    }
}

fn yes_or_no(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

fn time_or_never(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "never".to_owned(), |t| t.to_string())
}
