//! Search of a long log: bounded steps that together find exactly what fits.

use super::*;
use portcullis::domain::audit::ActorFilter;
use portcullis::store::AuditFilter;
use portcullis::store::search::WINDOW;

const ENTRIES: i64 = 12_000;
const STEPS_OF_ALL: usize = 3;
const YEAR_MS: i64 = 365 * 24 * 3600 * 1000;

/// What the entry of a number has.
struct Sample {
    time: i64,
    is_own: bool,
    email: String,
    action: Action,
    outcome: Outcome,
    session: Option<String>,
    source_ip: &'static str,
}

fn sample(seq: i64) -> Sample {
    // For ten entries the clock was a year ahead, and for ten others a year behind.
    let wrong = match seq {
        3_000..3_010 => YEAR_MS,
        9_000..9_010 => -YEAR_MS,
        _ => 0,
    };
    Sample {
        time: NOW.0 + seq * 1000 + wrong,
        is_own: seq % 5 != 0,
        email: format!("u{}@example.com", seq % 100),
        action: if seq % 3_001 == 0 { Action::Logout } else { Action::Login },
        outcome: if seq % 7 == 0 { Outcome::Denied } else { Outcome::Success },
        session: (seq % 4_000 == 1).then(|| format!("s-{seq}")),
        source_ip: if seq % 5_003 == 4 { "198.51.100.7" } else { "192.0.2.1" },
    }
}

/// Whether an entry fits a filter.
type Fits = Box<dyn Fn(&Sample) -> bool>;

async fn fill(db: &Db) -> OrganizationId {
    let (own, other) = (organization(db).await, organization(db).await);
    let mut conn = db.connection();
    use diesel::connection::SimpleConnection as _;
    let rows: Vec<String> = (1..=ENTRIES)
        .map(|seq| {
            let s = sample(seq);
            let organization = if s.is_own { own } else { other };
            let session = s.session.map_or("NULL".to_owned(), |id| format!("'{id}'"));
            format!(
                "({seq}, {}, '{organization}', '{}', '{}', '{}', '{}', {session}, '{{}}', '', '')",
                s.time,
                s.email,
                s.action.as_str(),
                s.outcome.as_str(),
                s.source_ip
            )
        })
        .collect();
    for part in rows.chunks(500) {
        conn.batch_execute(&format!(
            "INSERT INTO audit_entries (seq, time, organization_id, actor_email, action, outcome, source_ip, session_id, details, prev_hash, hash) VALUES {}",
            part.join(", ")
        ))
        .unwrap();
    }
    own
}

/// Everything that a search finds, and in how many steps.
async fn find(
    db: &Db,
    organization: Option<OrganizationId>,
    filter: &AuditFilter,
) -> (Vec<i64>, usize) {
    let (mut found, mut steps, mut filter) = (Vec::new(), 0, filter.clone());
    filter.limit = 100;
    loop {
        let sought = filter.clone();
        let step = db.store.search(move |tx| tx.audit_window(organization, &sought));
        let window = step.await.unwrap();
        steps += 1;
        assert!(window.entries.len() <= 100);
        found.extend(window.entries.iter().map(|entry| entry.seq));
        match window.next {
            Some(next) => {
                assert!(filter.before_seq.is_none_or(|before| next < before), "it goes on");
                filter.before_seq = Some(next);
            }
            None => return (found, steps),
        }
    }
}

fn expected(fits: impl Fn(&Sample) -> bool) -> Vec<i64> {
    (1..=ENTRIES).rev().filter(|seq| fits(&sample(*seq))).collect()
}

on_both! {
    async fn steps_find_exactly_what_fits(db) {
        let own = fill(&db).await;
        let any = AuditFilter::default();
        let text = |q: &str| AuditFilter { q: Some(q.to_owned()), ..AuditFilter::default() };
        let email = |email: &str| Some(ActorFilter::Email(email.to_owned()));
        let cases: Vec<(&str, AuditFilter, Fits)> = vec![
            ("no match", text("zzznothere"), Box::new(|_| false)),
            ("few matches", text("198.51.100"), Box::new(|s| s.source_ip == "198.51.100.7")),
            ("an action", AuditFilter { action: Some(Action::Logout), ..any.clone() }, Box::new(|s| s.action == Action::Logout)),
            ("no such action", AuditFilter { action: Some(Action::CreateUser), ..any.clone() }, Box::new(|_| false)),
            ("a session", AuditFilter { session_id: Some("s-4001".into()), ..any.clone() }, Box::new(|s| s.session.as_deref() == Some("s-4001"))),
            ("a frequent action with a rare text", AuditFilter { action: Some(Action::Login), ..text("u77@") }, Box::new(|s| s.action == Action::Login && s.email == "u77@example.com")),
            ("two columns", AuditFilter { actor: email("U14@example.com"), outcome: Some(Outcome::Denied), ..any.clone() }, Box::new(|s| s.email == "u14@example.com" && s.outcome == Outcome::Denied)),
            ("two columns without a match", AuditFilter { action: Some(Action::Logout), outcome: Some(Outcome::Error), ..any.clone() }, Box::new(|_| false)),
        ];
        for (what, filter, fits) in cases {
            let (found, steps) = find(&db, Some(own), &filter).await;
            assert_eq!(found, expected(|s| s.is_own && fits(s)), "{what}");
            assert!(steps <= STEPS_OF_ALL + found.len() / 100, "{what}: {steps}");
            let (found, _) = find(&db, None, &filter).await;
            assert_eq!(found, expected(|s| fits(s)), "{what}, of all organizations");
        }
        // No step reads the whole log, and a rare column is not searched window by window.
        assert_eq!(find(&db, None, &text("zzznothere")).await.1, STEPS_OF_ALL);
        let session = AuditFilter { session_id: Some("s-1".into()), ..text("zzznothere") };
        assert_eq!(find(&db, Some(own), &session).await.1, 1);
        assert!(i64::try_from(WINDOW).unwrap() * 2 < ENTRIES);
    }

    async fn only_what_came_after_a_number(db) {
        let own = fill(&db).await;
        for (filter, fits) in [
            (AuditFilter::default(), true),
            (AuditFilter { q: Some("zzznothere".into()), ..AuditFilter::default() }, false),
            (AuditFilter { action: Some(Action::Login), q: Some("example".into()), ..AuditFilter::default() }, true),
        ] {
            let filter = AuditFilter { after_seq: Some(ENTRIES - 30), ..filter };
            let (found, steps) = find(&db, Some(own), &filter).await;
            let after: Vec<i64> = (ENTRIES - 29..=ENTRIES).rev().filter(|seq| seq % 5 != 0).collect();
            assert_eq!((found, steps), (if fits { after } else { Vec::new() }, 1), "{filter:?}");
        }
        let none = AuditFilter { after_seq: Some(ENTRIES), ..AuditFilter::default() };
        assert_eq!(find(&db, None, &none).await, (Vec::new(), 1));
    }

    /// By date, whatever the clock showed; what was read once is skipped the next time.
    async fn searches_by_date_skip_what_cannot_fit(db) {
        let own = fill(&db).await;
        let at = |seq: i64| Timestamp(NOW.0 + seq * 1000);
        for (from, to) in [
            (None, Some(at(50))),
            (Some(at(11_950)), None),
            (Some(at(5_000)), Some(at(5_040))),
            (None, Some(Timestamp(NOW.0 - 1))),
            (Some(Timestamp(NOW.0 + YEAR_MS / 2)), None),
            (Some(at(3_000)), Some(at(3_020))),
        ] {
            let fits = |s: &Sample| from.is_none_or(|from| s.time >= from.0) && to.is_none_or(|to| s.time < to.0);
            for action in [None, Some(Action::Login)] {
                let filter = AuditFilter { from, to, action, ..AuditFilter::default() };
                let (found, steps) = find(&db, Some(own), &filter).await;
                assert_eq!(found, expected(|s| s.is_own && fits(s) && action.is_none_or(|action| s.action == action)), "{filter:?}");
                assert!(steps <= 2 * STEPS_OF_ALL + 2, "{filter:?}: {steps}");
            }
        }
        // What the blocks have is known now: one step looks at the block in which the clock was
        // behind, the next one goes straight to the date.
        let filter = AuditFilter { to: Some(at(50)), from: Some(at(0)), ..AuditFilter::default() };
        let (found, steps) = find(&db, Some(own), &filter).await;
        assert_eq!((found.len(), steps), (40, 2));
        let future = AuditFilter { from: Some(Timestamp(NOW.0 + 3 * YEAR_MS)), ..AuditFilter::default() };
        assert!(find(&db, Some(own), &future).await.0.is_empty());
        // An entry that is added is found, in the block that is not complete.
        db.raw(&format!(
            "INSERT INTO audit_entries (seq, time, organization_id, action, outcome, details, prev_hash, hash) VALUES ({}, {}, '{own}', 'login', 'success', '{{}}', '', '')",
            ENTRIES + 1, NOW.0 + 4 * YEAR_MS
        ));
        assert_eq!(find(&db, Some(own), &future).await.0, [ENTRIES + 1]);
    }
}

/// A value of another type, beyond the first window of the verification.
#[tokio::test]
async fn a_mistyped_value_is_found_anywhere() {
    let db = Db::new(crate::support::db::Backend::Sqlite);
    let drafts: Vec<Draft> = (0..WINDOW + 10).map(|_| make_draft(Action::Login)).collect();
    db.store.write(move |tx| tx.append_audit_entries(drafts.clone())).await.unwrap();
    assert_eq!(db.store.verify_chain().await.unwrap().fault, None);
    let seq = i64::try_from(WINDOW).unwrap() + 5;
    db.raw(&format!(
        "UPDATE audit_entries SET target_name = CAST(target_name AS BLOB) WHERE seq = {seq}"
    ));
    let fault = db.store.verify_chain().await.unwrap().fault;
    assert_eq!(fault, Some(portcullis::domain::audit::ChainFault::Changed { seq }));
}
