//! Verification of intact and damaged chains; canonical JSON; exports.

use super::export::{ExportFault, ExportReader, ExportTrailer};
use super::*;
use crate::domain::Timestamp;
use crate::domain::principal::{ApiKey, Principal};
use crate::domain::user::Role;
use crate::domain::{ApiKeyId, OrganizationId};
use proptest::prelude::*;
use serde_json::{Value, json};

fn draft(n: i64) -> Draft {
    Draft {
        time: Timestamp(n * 1000),
        organization_id: None,
        actor: Actor::default(),
        action: Action::Login,
        target: EntryTarget::default(),
        outcome: Outcome::Success,
        reason: (n % 2 == 0).then(|| format!("reason {n}")),
        source_ip: None,
        user_agent: None,
        session_id: None,
        workspace_id: None,
        request_id: None,
        details: json!({"n": n}).as_object().unwrap().clone(),
    }
}

fn chain(count: i64) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for n in 1..=count {
        let prev = entries.last().map_or(GENESIS.to_owned(), |e| e.hash.clone());
        entries.push(draft(n).chain(n, &prev));
    }
    entries
}

fn head_of(entries: &[Entry]) -> Head {
    let (seq, hash) = entries.last().map_or((0, GENESIS.to_owned()), |e| (e.seq, e.hash.clone()));
    Head { seq, signature: format!("signed {}", Head::signed_text(seq, &hash)), hash }
}

fn read(entries: &[Entry], head: &Head) -> Result<i64, ChainFault> {
    let mut verifier = Verifier::default();
    for entry in entries {
        verifier.push(entry)?;
    }
    verifier.finish(head)?;
    Ok(verifier.entries())
}

#[test]
fn intact_chains_verify() {
    for count in [0, 1, 2, 50] {
        let entries = chain(count);
        assert_eq!(read(&entries, &head_of(&entries)), Ok(count));
    }
}

#[test]
fn damage_is_reported() {
    let whole = chain(6);
    let head = head_of(&whole);
    let damaged = |damage: &dyn Fn(&mut Vec<Entry>)| {
        let mut entries = whole.clone();
        damage(&mut entries);
        read(&entries, &head).unwrap_err()
    };
    assert_eq!(damaged(&|e| e[2].time.0 += 1), ChainFault::Changed { seq: 3 });
    assert_eq!(damaged(&|e| e[3].reason = None), ChainFault::Changed { seq: 4 });
    assert_eq!(
        damaged(&|e| {
            e.remove(2);
        }),
        ChainFault::Missing { seq: 3 }
    );
    assert_eq!(
        damaged(&|e| {
            e.remove(0);
        }),
        ChainFault::Missing { seq: 1 }
    );
    assert_eq!(
        damaged(&|e| {
            e.pop();
        }),
        ChainFault::Truncated { last: 5, expected: 6 }
    );
    assert_eq!(damaged(&|e| e.clear()), ChainFault::Truncated { last: 0, expected: 6 });
    assert_eq!(damaged(&|e| e.swap(2, 3)), ChainFault::Missing { seq: 3 });
    assert_eq!(
        damaged(&|e| {
            let again = e[1].clone();
            e.insert(3, again);
        }),
        ChainFault::Reordered { seq: 2, expected: 4 }
    );
    assert_eq!(
        damaged(&|e| {
            let next = draft(7).chain(7, &e[5].hash);
            e.push(next);
        }),
        ChainFault::BeyondHead { seq: 7 }
    );
    // An entry with a recomputed hash is found at the next link.
    assert_eq!(
        damaged(&|e| {
            e[2].action = "x".into();
            e[2].hash = e[2].computed_hash();
        }),
        ChainFault::BrokenLink { seq: 4 }
    );
    // A changed last entry is found by the head.
    assert!(matches!(
        damaged(&|e| {
            e[5].action = "x".into();
            e[5].hash = e[5].computed_hash();
        }),
        ChainFault::BadHead { .. }
    ));
}

#[test]
fn fault_messages() {
    assert_eq!(
        ChainFault::BrokenLink { seq: 4 }.to_string(),
        "entry 4 does not follow entry 3: the one before it was changed or replaced"
    );
    assert_eq!(
        ChainFault::Truncated { last: 5, expected: 6 }.to_string(),
        "the log was cut off after entry 5: it had 6 entries"
    );
}

#[test]
fn names_round_trip() {
    for action in Action::ALL {
        assert_eq!(Action::parse(action.as_str()), Some(*action));
    }
    assert_eq!(Action::parse("nonsense"), None);
    let mut names: Vec<_> = Action::ALL.iter().map(|a| a.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Action::ALL.len());
}

#[test]
fn canonical_json_follows_rfc_8785() {
    // Section 3.2.3: members are sorted by UTF-16 code units, which puts U+1F600 (a surrogate pair)
    // before U+FB33.
    let value = json!({"\u{20ac}": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "\u{1f600}": 5, "\u{80}": 6, "\u{f6}": 7});
    assert_eq!(
        canonical_json(&value),
        "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"\u{f6}\":7,\"\u{20ac}\":1,\"\u{1f600}\":5,\"\u{fb33}\":3}"
    );
    // Section 3.2.2.2: only quotation mark, reverse solidus and controls are escaped.
    assert_eq!(
        canonical_json(&json!("€$\u{f}\nA'B\"\\/\u{7f}")),
        "\"€$\\u000f\\nA'B\\\"\\\\/\u{7f}\""
    );
    assert_eq!(
        canonical_json(&json!({"b": [1, {"d": null, "c": true}], "a": ""})),
        r#"{"a":"","b":[1,{"c":true,"d":null}]}"#
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..6)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

/// The same value with the members of every object in the opposite order.
fn reversed(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(reversed).collect(),
        Value::Object(members) => {
            Value::Object(members.iter().rev().map(|(k, v)| (k.clone(), reversed(v))).collect())
        }
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn canonical_json_is_stable_and_reads_back(value in any_json()) {
        let text = canonical_json(&value);
        prop_assert_eq!(&text, &canonical_json(&reversed(&value)));
        let back: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(canonical_json(&back), text);
        prop_assert_eq!(back, value);
    }

    #[test]
    fn entries_round_trip_through_json(details in prop::collection::hash_map(any::<String>(), any_json(), 0..5), reason: Option<String>) {
        let entry = Draft { details: details.into_iter().collect(), reason, ..draft(1) }.chain(1, GENESIS);
        let back: Entry = serde_json::from_str(&serde_json::to_string(&entry).unwrap()).unwrap();
        prop_assert_eq!(back.computed_hash(), entry.hash);
    }

    #[test]
    fn any_removal_or_swap_is_found(count in 2i64..12, a: prop::sample::Index, b: prop::sample::Index, swap: bool) {
        let mut entries = chain(count);
        let head = head_of(&entries);
        let (a, b) = (a.index(entries.len()), b.index(entries.len()));
        prop_assume!(!swap || a != b);
        if swap { entries.swap(a, b); } else { entries.remove(a); }
        prop_assert!(read(&entries, &head).is_err());
    }
}

fn exported(entries: &[Entry]) -> Vec<String> {
    let seal = ExportTrailer { head: head_of(entries), public_key: "key".to_owned() };
    let lines = entries.iter().map(|e| serde_json::to_string(e).unwrap());
    lines.chain([serde_json::to_string(&seal).unwrap()]).collect()
}

fn read_export(lines: &[String], key: Option<&str>) -> Result<ExportTrailer, ExportFault> {
    let mut reader = ExportReader::default();
    for line in lines {
        reader.push(line)?;
    }
    reader.finish(key, |key, text, signature| key == "key" && signature == format!("signed {text}"))
}

#[test]
fn exports_verify() {
    let lines = exported(&chain(5));
    assert_eq!(read_export(&lines, None).unwrap().head.seq, 5);
    assert!(read_export(&lines, Some("key")).is_ok());
    assert!(read_export(&exported(&[]), None).is_ok());
    // Another tool may sort the members, or end the file with an empty line.
    let mut sorted: Vec<String> =
        lines.iter().map(|l| canonical_json(&serde_json::from_str(l).unwrap())).collect();
    sorted.push(String::new());
    assert!(read_export(&sorted, Some("key")).is_ok());
}

#[test]
fn damaged_exports_are_reported() {
    let lines = exported(&chain(5));
    let damaged = |damage: &dyn Fn(&mut Vec<String>)| {
        let mut lines = lines.clone();
        damage(&mut lines);
        read_export(&lines, Some("key")).unwrap_err()
    };
    let chain_fault = |line, fault| ExportFault::Chain { line, fault };
    assert_eq!(
        damaged(&|l| l[1] = l[1].replace("success", "denied")),
        chain_fault(2, ChainFault::Changed { seq: 2 })
    );
    assert_eq!(
        damaged(&|l| {
            l.remove(1);
        }),
        chain_fault(2, ChainFault::Missing { seq: 2 })
    );
    assert_eq!(
        damaged(&|l| {
            l.remove(4);
        }),
        chain_fault(5, ChainFault::Truncated { last: 4, expected: 5 })
    );
    assert_eq!(damaged(&|l| l.swap(1, 2)), chain_fault(2, ChainFault::Missing { seq: 2 }));
    assert_eq!(
        damaged(&|l| {
            l.pop();
        }),
        ExportFault::MissingTrailer
    );
    assert_eq!(
        damaged(&|l| {
            let again = l[0].clone();
            l.push(again);
        }),
        ExportFault::AfterTrailer { line: 7 }
    );
    assert_eq!(
        damaged(&|l| l[2].insert_str(1, r#""note":"all is well","#)),
        ExportFault::Unreadable { line: 3 }
    );
    assert_eq!(
        damaged(&|l| l[2].insert_str(1, r#""seq":3,"#)),
        ExportFault::Unreadable { line: 3 }
    );
    assert_eq!(damaged(&|l| l[0] = "nonsense".into()), ExportFault::Unreadable { line: 1 });
    assert_eq!(damaged(&|l| l[5] = l[5].replace("signed", "signet")), ExportFault::BadSignature);
    assert_eq!(damaged(&|l| l[5] = l[5].replace("\"key\"", "\"other\"")), ExportFault::KeyMismatch);
}

/// An entry of the first release, byte for byte: it must be read, verified and written as it was.
const OLD_ENTRY: &str = r#"{"seq":1,"time":"2026-03-05T14:30:00.000Z","organization_id":"5f0c1e9a-6f0e-4a58-9a54-0d8f7f0e8a11","actor":{"id":"0b7a8f3e-52c1-4f0d-9a1b-7f6a5c4d3e2f","email":"ann@example.com","role":"member"},"action":"launch_workspace","target":{"type":"workspace","id":"ws-linux-desktop","name":"Linux desktop"},"outcome":"success","reason":null,"source_ip":"192.0.2.1","user_agent":"test","session_id":"9d7e6f5a-4b3c-4d2e-8f1a-0b9c8d7e6f5a","workspace_id":"ws-linux-desktop","request_id":"r-1","details":{"launch_ms":812,"tunnel_status":"encrypted"},"prev_hash":"0000000000000000000000000000000000000000000000000000000000000000","hash":"ccd59acfa2f5772f01d6db9563887e830ef5e65a9749ddc5dfc143fbb620a5d6"}"#;

#[test]
fn entries_of_older_versions_keep_their_bytes() {
    let entry: Entry = serde_json::from_str(OLD_ENTRY).unwrap();
    assert_eq!(entry.computed_hash(), entry.hash);
    assert_eq!(serde_json::to_string(&entry).unwrap(), OLD_ENTRY);
    let mut reader = ExportReader::default();
    reader.push(OLD_ENTRY).unwrap();
}

#[test]
fn the_actor_names_its_principal() {
    let system = Principal::System { organization_id: Some(OrganizationId::new()) };
    let actor = Actor::from(&system);
    assert_eq!(
        serde_json::to_value(&actor).unwrap(),
        json!({"id": null, "email": null, "role": "system"})
    );
    let key = ApiKey {
        id: ApiKeyId::new(),
        organization_id: OrganizationId::new(),
        name: "deployment".to_owned(),
        role: Role::Admin,
    };
    let actor = Actor::from(&Principal::ApiKey(key.clone()));
    assert_eq!(
        serde_json::to_value(&actor).unwrap(),
        json!({"id": key.id.to_string(), "email": null, "role": "admin", "type": "api_key"})
    );
    let with = |actor| Draft { actor, ..draft(1) }.chain(1, GENESIS);
    let mut entry = with(actor);
    let reread: Entry = serde_json::from_str(&serde_json::to_string(&entry).unwrap()).unwrap();
    assert_eq!(reread, entry);
    entry.actor.kind = None;
    assert_ne!(entry.computed_hash(), entry.hash, "the type is part of the hash");
}

#[test]
fn other_organizations_entries_are_withheld_and_the_chain_verifies() {
    let (own, other) = (OrganizationId::new(), OrganizationId::new());
    let mut entries: Vec<Entry> = Vec::new();
    for (n, organization_id) in (1..).zip([None, Some(own), Some(other), Some(own)]) {
        let prev = entries.last().map_or(GENESIS.to_owned(), |e| e.hash.clone());
        entries.push(Draft { organization_id, ..draft(n) }.chain(n, &prev));
    }
    let seen: Vec<_> = entries.iter().cloned().map(|e| e.for_reader(Some(own))).collect();
    assert_eq!(seen.iter().filter_map(|e| e.entry()).count(), 2);
    let mut lines: Vec<String> = seen.iter().map(|e| serde_json::to_string(e).unwrap()).collect();
    let trailer = ExportTrailer { head: head_of(&entries), public_key: "key".to_owned() };
    lines.push(serde_json::to_string(&trailer).unwrap());
    assert!(!lines.concat().contains(&other.to_string()));
    assert!(read_export(&lines, Some("key")).is_ok());
    // A withheld entry cannot be removed, replaced or extended.
    let mut removed = lines.clone();
    removed.remove(2);
    assert!(read_export(&removed, Some("key")).is_err());
    let replaced = lines[2].replace(&entries[2].hash, GENESIS);
    let replaced = [&lines[..2], &[replaced], &lines[3..]].concat();
    assert!(read_export(&replaced, Some("key")).is_err());
    let mut extended = lines.clone();
    extended[2].insert_str(1, r#""action":"login","#);
    assert!(read_export(&extended, Some("key")).is_err());
    // The operator reads everything.
    assert!(entries.into_iter().all(|e| e.for_reader(None).entry().is_some()));
}
