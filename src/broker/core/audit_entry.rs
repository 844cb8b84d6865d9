//! Builder of an audit entry: who did what to which target, with which outcome.

use crate::broker::core::text::truncate_utf8;
use crate::domain::audit::{Action, Actor, Draft, EntryTarget, Outcome, Reason};
use crate::domain::host::Host;
use crate::domain::principal::Principal;
use crate::domain::session::Session;
use crate::domain::user::{RequestSource, User};
use crate::domain::workspace::Workspace;
use crate::domain::{LoginId, OrganizationId, SessionId, Timestamp};
use serde_json::{Map, Value};

#[derive(Clone, Debug)]
pub(in crate::broker) struct AuditEntryBuilder {
    pub(in crate::broker::core) draft: Draft,
}

impl AuditEntryBuilder {
    /// An entry without an actor, with outcome success.
    pub(in crate::broker) fn new(now: Timestamp, source: &RequestSource, action: Action) -> Self {
        Self {
            draft: Draft {
                time: now,
                organization_id: None,
                actor: Actor::default(),
                action,
                target: EntryTarget::default(),
                outcome: Outcome::Success,
                reason: None,
                source_ip: source.source_ip.map(|ip| ip.to_string()),
                user_agent: source.user_agent.clone(),
                session_id: None,
                workspace_id: None,
                request_id: Some(source.request_id.clone()).filter(|id| !id.is_empty()),
                details: Map::new(),
            },
        }
    }

    /// The entry, for a writer that is not a unit of work.
    pub(in crate::broker) fn into_draft(self) -> Draft {
        self.draft
    }

    pub(in crate::broker) fn by_caller(mut self, caller: &Principal) -> Self {
        self.draft.organization_id = caller.organization_id();
        self.draft.actor = Actor::from(caller);
        if let Principal::ApiKey(key) = caller {
            return self.with("api_key", key.name.clone());
        }
        self
    }

    pub(in crate::broker) fn by_user(mut self, user: &User) -> Self {
        self.draft.organization_id = Some(user.organization_id);
        self.draft.actor = Actor::from(user);
        self
    }

    pub(in crate::broker) fn by_system(mut self) -> Self {
        self.draft.actor = Actor::from(&Principal::System { organization_id: None });
        self
    }

    /// An unknown account, named by the e-mail address that was entered.
    pub(in crate::broker) fn by_unknown_email(mut self, email: &str) -> Self {
        self.draft.actor =
            Actor { email: Some(truncate_utf8(email, 254).to_owned()), ..Actor::default() };
        self
    }

    pub(in crate::broker) fn in_organization(mut self, organization: OrganizationId) -> Self {
        self.draft.organization_id = Some(organization);
        self
    }

    fn on_target(mut self, kind: &str, id: Option<String>, name: Option<String>) -> Self {
        self.draft.target = EntryTarget { kind: Some(kind.to_owned()), id, name };
        self
    }

    pub(in crate::broker) fn on_session(mut self, session: &Session) -> Self {
        self.draft.session_id = Some(session.id.to_string());
        self.draft.workspace_id = Some(session.workspace_id.to_string());
        self.draft.organization_id.get_or_insert(session.organization_id);
        self.on_target(
            "session",
            Some(session.id.to_string()),
            Some(session.workspace_name.clone()),
        )
    }

    pub(in crate::broker) fn on_session_id(mut self, id: SessionId) -> Self {
        self.draft.session_id = Some(id.to_string());
        self.on_target("session", Some(id.to_string()), None)
    }

    pub(in crate::broker) fn on_workspace(mut self, workspace: &Workspace) -> Self {
        self.draft.workspace_id = Some(workspace.id.to_string());
        self.on_target("workspace", Some(workspace.id.to_string()), Some(workspace.name.clone()))
    }

    pub(in crate::broker) fn on_workspace_id(mut self, id: &crate::domain::WorkspaceId) -> Self {
        self.draft.workspace_id = Some(id.to_string());
        self.on_target("workspace", Some(id.to_string()), None)
    }

    /// Adds the session; keeps the target.
    pub(in crate::broker) fn in_session(mut self, session: &Session) -> Self {
        self.draft.session_id = Some(session.id.to_string());
        self.draft.workspace_id = Some(session.workspace_id.to_string());
        self
    }

    pub(in crate::broker) fn on_user(self, user: &User) -> Self {
        self.on_target("user", Some(user.id.to_string()), Some(user.email.clone()))
    }

    pub(in crate::broker) fn on_user_id(self, id: crate::domain::UserId) -> Self {
        self.on_target("user", Some(id.to_string()), None)
    }

    pub(in crate::broker) fn on_host(mut self, host: &Host) -> Self {
        self.draft.organization_id.get_or_insert(host.organization_id);
        self.on_target("host", Some(host.id.to_string()), Some(host.name.clone()))
    }

    pub(in crate::broker) fn on_host_id(self, id: crate::domain::HostId) -> Self {
        self.on_target("host", Some(id.to_string()), None)
    }

    pub(in crate::broker) fn on_login(self, id: LoginId) -> Self {
        self.on_target("login", Some(id.to_string()), None)
    }

    pub(in crate::broker) fn on_named(self, kind: &str, name: Option<&str>) -> Self {
        self.on_target(kind, None, name.map(|n| truncate_utf8(n, 254).to_owned()))
    }

    pub(in crate::broker) fn denied(mut self, reason: impl Into<Reason>) -> Self {
        self.draft.outcome = Outcome::Denied;
        self.reason(reason)
    }

    pub(in crate::broker) fn failed(mut self, reason: impl Into<Reason>) -> Self {
        self.draft.outcome = Outcome::Error;
        self.reason(reason)
    }

    pub(in crate::broker) fn reason(mut self, reason: impl Into<Reason>) -> Self {
        self.draft.reason = Some(truncate_utf8(reason.into().as_str(), 200).to_owned());
        self
    }

    pub(in crate::broker) fn action(mut self, action: Action) -> Self {
        self.draft.action = action;
        self
    }

    /// The entry about the refusal of this act: the act is a detail of it.
    pub(in crate::broker) fn access_denied(self) -> Self {
        let act = self.draft.action;
        let entry = if act == Action::AccessDenied { self } else { self.with("act", act.as_str()) };
        entry.action(Action::AccessDenied)
    }

    pub(in crate::broker) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.draft.details.insert(name.to_owned(), value.into());
        self
    }

    pub(in crate::broker) fn now(&self) -> Timestamp {
        self.draft.time
    }
}
