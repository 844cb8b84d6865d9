//! Which limit holds, and how far a session can be extended.

use super::*;
use proptest::prelude::*;

const HOUR: Duration = Duration::from_secs(3600);
const CREATED: Timestamp = Timestamp(1000);

fn installation() -> SessionTimes {
    SessionTimes::of_installation(8 * HOUR, 12 * HOUR, Some(HOUR))
}

#[test]
fn a_workspace_is_within_its_installation() {
    assert_eq!(installation().within(SessionLimits::default()), installation());
    let shorter = SessionLimits {
        duration: Some(HOUR),
        extension: Some(HOUR / 2),
        idle_timeout: Some(HOUR / 4),
    };
    let times = installation().within(shorter);
    assert_eq!((times.duration, times.max_duration), (HOUR, HOUR + HOUR / 2));
    assert_eq!(times.idle_timeout, Some(HOUR / 4));
    let longer = SessionLimits {
        duration: Some(24 * HOUR),
        extension: Some(24 * HOUR),
        idle_timeout: Some(Duration::ZERO),
    };
    let times = installation().within(longer);
    assert_eq!((times.duration, times.max_duration), (12 * HOUR, 12 * HOUR), "the cap holds");
    assert_eq!(times.idle_timeout, None, "zero means never");
    let fixed = SessionLimits { extension: Some(Duration::ZERO), ..SessionLimits::default() };
    let times = installation().within(fixed);
    assert_eq!((times.max_duration, times.extendable), (8 * HOUR, false));
    let short = SessionTimes::of_installation(8 * HOUR, HOUR, None);
    assert_eq!(short.duration, HOUR, "no session lasts longer than the maximum");
}

#[test]
fn extensions_end_at_the_cap() {
    let (times, cap) = (installation(), CREATED.after(12 * HOUR));
    let fresh = CREATED.after(8 * HOUR);
    assert_eq!(times.extendable_until(CREATED, fresh), Some(cap));
    assert_eq!(times.extended_end(CREATED, fresh, HOUR), Ok(fresh.after(HOUR)));
    assert_eq!(times.extended_end(CREATED, fresh, 4 * HOUR), Ok(cap));
    let refused = times.extended_end(CREATED, fresh, 5 * HOUR).unwrap_err();
    assert_eq!(
        refused.user_message(),
        "This session may last 12 hours in all: it can be extended by 4 hours at most."
    );
    assert_eq!(times.extendable_until(CREATED, cap), None);
    let refused = times.extended_end(CREATED, cap, Duration::from_secs(1)).unwrap_err();
    assert!(refused.user_message().contains("cannot be extended further"), "{refused:?}");
    let fixed = SessionTimes { extendable: false, ..times };
    assert_eq!(fixed.extendable_until(CREATED, fresh), None);
    assert_eq!(fixed.extended_end(CREATED, fresh, HOUR), Err(ExtensionLimit::NotExtendable));
}

proptest! {
    #[test]
    fn no_extension_passes_the_cap(lasts in 1_u64..50, by in 1_u64..u64::MAX / 2, duration in proptest::option::of(0_u64..100), extension in proptest::option::of(0_u64..100)) {
        let hours = |n| Duration::from_secs(3600 * n);
        let limits = SessionLimits { duration: duration.map(hours), extension: extension.map(hours), idle_timeout: None };
        let times = installation().within(limits);
        prop_assert!(times.duration <= times.max_duration && times.max_duration <= 12 * HOUR);
        let end = CREATED.after(hours(lasts));
        if let Ok(until) = times.extended_end(CREATED, end, Duration::from_secs(by)) {
            prop_assert!(until > end && until <= CREATED.after(12 * HOUR));
            prop_assert!(times.extendable_until(CREATED, end).is_some());
        }
    }
}
