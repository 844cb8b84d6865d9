//! Properties of the kinds: what a kind takes out of the fields it gives back, and it refuses what
//! is another's.

use super::*;
use crate::domain::HostId;
use crate::domain::route::TargetSpec;
use crate::domain::upstream::{
    Clipboard, CredentialSource, Fingerprint, ProtocolSettings, StreamPolicy, TrustRule,
};
use crate::domain::web_app::{RequestPolicy, Scheme, UpstreamSignIn};
use proptest::prelude::*;

fn targets() -> impl Strategy<Value = TargetSpec> {
    let host = || any::<u128>().prop_map(|id| HostId(uuid::Uuid::from_u128(id)));
    prop_oneof![
        (host(), 1u16..).prop_map(|(host_id, port)| TargetSpec::Host { host_id, port }),
        (host(), "[a-z]{1,8}").prop_map(|(host_id, name)| TargetSpec::Service { host_id, name }),
        "[a-z]{1,8}".prop_map(|name| TargetSpec::Direct { name }),
    ]
}

fn policies() -> impl Strategy<Value = StreamPolicy> {
    (prop::sample::select(&Clipboard::ALL[..]), any::<bool>(), any::<bool>())
        .prop_map(|(clipboard, files, read_only)| StreamPolicy { clipboard, files, read_only })
}

fn trust_rules() -> impl Strategy<Value = TrustRule> {
    prop_oneof![
        Just(TrustRule::FirstUse),
        any::<[u8; 32]>().prop_map(|pin| TrustRule::Pinned(Fingerprint(pin))),
        ("[A-Z]{1,8}", prop::option::of("[a-z]{1,8}"))
            .prop_map(|(roots, name)| TrustRule::Authority { roots, name }),
    ]
}

fn web_apps() -> impl Strategy<Value = WebAppConfig> {
    (any::<bool>(), "(/[a-z]{0,4}){0,2}", any::<bool>(), 0u64..10).prop_map(
        |(https, start, header, max_request)| WebAppConfig {
            scheme: if https { Scheme::Https } else { Scheme::Http },
            start,
            sign_in: if header {
                UpstreamSignIn::Header("x-key".to_owned())
            } else {
                UpstreamSignIn::None
            },
            requests: RequestPolicy { max_request, ..RequestPolicy::default() },
            ..WebAppConfig::default()
        },
    )
}

/// Fields of which about half have their default, so that each kind often takes all of them.
fn fields() -> impl Strategy<Value = WorkspaceFields> {
    let upstream = (
        prop::sample::select(&CredentialSource::ALL[..]),
        "[a-z]{0,2}",
        "[a-z]{0,1}",
        trust_rules(),
        any::<bool>(),
        prop::option::of(1u32..),
    )
        .prop_map(
            |(credential_source, username, domain, trust, exclusive, keyboard_layout)| {
                UpstreamFields {
                    credential_source,
                    username,
                    domain,
                    trust,
                    exclusive,
                    keyboard_layout,
                }
            },
        );
    (
        prop::option::of(targets()),
        any::<bool>(),
        prop_oneof![Just(StreamPolicy::default()), policies()],
        prop_oneof![Just(UpstreamFields::default()), upstream],
        prop_oneof![Just(WebAppConfig::default()), web_apps()],
    )
        .prop_map(|(target, network, policy, upstream, web_app)| WorkspaceFields {
            target,
            network,
            policy,
            upstream,
            web_app,
        })
}

proptest! {
    #[test]
    fn a_kind_gives_back_the_fields_it_takes(kind in prop::sample::select(&WorkspaceKind::ALL[..]), given in fields()) {
        let Ok(spec) = WorkspaceSpec::from_fields(kind, given.clone()) else { return Ok(()) };
        let driver = spec.driver();
        prop_assert_eq!(spec.kind(), kind);
        let network = given.network && driver.started_desktop().is_some();
        prop_assert_eq!(driver.fields(), WorkspaceFields { network, ..given.clone() });
        prop_assert_eq!(WorkspaceSpec::from_fields(kind, driver.fields()).unwrap(), spec.clone());
        // What the layers dispatch on agrees with the kind and with each other.
        let protocol = match driver.protocol() {
            ProtocolSettings::Rfb { .. } => StreamProtocol::Rfb,
            ProtocolSettings::Rdp { .. } => StreamProtocol::Rdp,
            ProtocolSettings::Http(_) => StreamProtocol::Http,
        };
        prop_assert_eq!(protocol, kind.protocol());
        prop_assert_eq!(driver.started_desktop().is_some(), driver.target().is_none());
        prop_assert!(driver.target().is_some() || kind.properties().is_started_by_agents);
        prop_assert_eq!(driver.access().is_some(), kind.properties().has_server);
        prop_assert_eq!(driver.web_app().is_some(), protocol == StreamProtocol::Http);
        prop_assert_eq!(driver.policy(), given.policy);
    }
}

fn base(kind: WorkspaceKind) -> WorkspaceFields {
    let target =
        kind.properties().has_server.then(|| TargetSpec::Direct { name: "desk".to_owned() });
    WorkspaceFields { target, ..(kind.properties().initial_fields)() }
}

fn refusal(kind: WorkspaceKind, change: impl Fn(&mut WorkspaceFields)) -> Option<String> {
    let mut fields = base(kind);
    change(&mut fields);
    WorkspaceSpec::from_fields(kind, fields).err().map(|error| error.message)
}

#[test]
fn a_field_of_another_kind_is_refused_by_name() {
    use WorkspaceKind::{Html5, Linux, Rdp, Vnc};
    type Change = fn(&mut WorkspaceFields);
    let cases: [(Change, &[WorkspaceKind], &str); 8] = [
        (|f| f.target = Some(TargetSpec::Direct { name: "a".into() }), &[Linux], "has a target"),
        (|f| f.target = None, &[Vnc, Html5], "give its target"),
        (|f| f.policy.files = true, &[Html5], "policy is for desktops"),
        (|f| f.upstream.username = "ann".into(), &[Linux], "has a server"),
        (|f| f.upstream.domain = "CORP".into(), &[Linux, Vnc, Html5], "server"),
        (|f| f.upstream.keyboard_layout = Some(0x407), &[Linux, Vnc, Html5], "server"),
        (|f| f.upstream.exclusive = true, &[Linux, Rdp, Html5], "server"),
        (|f| f.web_app.scheme = Scheme::Https, &[Linux, Vnc, Rdp], ""),
    ];
    for (change, refused, text) in cases {
        for kind in WorkspaceKind::ALL {
            match refusal(kind, change) {
                Some(message) => {
                    assert!(refused.contains(&kind), "{kind:?}: {message}");
                    assert!(message.contains(text), "{kind:?}: {message}");
                }
                None => assert!(!refused.contains(&kind), "{kind:?} took it: {text}"),
            }
        }
    }
    assert_eq!(
        refusal(Linux, |f| f.web_app.scheme = Scheme::Https).unwrap(),
        "Only a workspace of type vnc, rdp or html5 has a server."
    );
    assert_eq!(
        refusal(Vnc, |f| f.upstream.keyboard_layout = Some(1)).unwrap(),
        "server.domain and server.keyboard are for workspaces of type rdp."
    );
    assert_eq!(
        refusal(Rdp, |f| f.upstream.exclusive = true).unwrap(),
        "server.exclusive is for workspaces of type vnc."
    );
    assert_eq!(
        refusal(Rdp, |f| f.web_app.start = "/a".into()).unwrap(),
        "web is for workspaces of type html5."
    );
}

#[test]
fn a_started_desktop_has_a_credential_of_its_own() {
    let changes: [fn(&mut UpstreamFields); 5] = [
        |u| u.credential_source = CredentialSource::Ask,
        |u| u.username = "ann".into(),
        |u| u.domain = "CORP".into(),
        |u| u.trust = TrustRule::Pinned(Fingerprint([1; 32])),
        |u| u.exclusive = true,
    ];
    for change in changes {
        let message = refusal(WorkspaceKind::Rdp, |f| {
            f.target = None;
            change(&mut f.upstream);
        });
        assert_eq!(message.as_deref(), Some(super::super::DESKTOP_HAS_OWN_CREDENTIAL));
    }
    let layout = refusal(WorkspaceKind::Rdp, |f| {
        f.target = None;
        f.upstream.keyboard_layout = Some(0x407);
    });
    assert_eq!(layout, None);
}

#[test]
fn names_round_trip_and_are_listed() {
    for kind in WorkspaceKind::ALL {
        assert_eq!(WorkspaceKind::parse(kind.as_str()), Some(kind));
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str(), "as serde writes it");
    }
    assert_eq!(WorkspaceKind::list_names(|kind| kind.has_server, "or"), "vnc, rdp or html5");
    assert_eq!(WorkspaceKind::list_names(|kind| kind.is_started_by_agents, "and"), "linux and rdp");
    assert_eq!(WorkspaceKind::list_names(|kind| kind.name == "vnc", "or"), "vnc");
    assert_eq!(WorkspaceKind::list_names(|_| false, "or"), "");
}
