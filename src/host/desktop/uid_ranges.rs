//! Uids for the users of a root agent: a range that no account has, and no other agent of the
//! machine.
//!
//! - The area is above those that distributions and directory services assign from: subordinate uids
//!   (`/etc/subuid`, 100000 to 600100000), systemd's containers (to 1879048191), SSSD's mapping (to
//!   2000200000); and below 2^31, above which programs take uids for negative.
//! - Ranges that `/etc/subuid` or `/etc/subgid` name are left out: a desktop must not share a uid with
//!   somebody's container.
//! - A **claim** in the machine's registry names the state folder that a range is for. It is kept
//!   while that folder exists, also while its agent does not run, since homes belong to its uids.

use crate::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// First uid of the area.
const FIRST: u32 = 2_013_265_920;
/// Users of one agent.
const LENGTH: u32 = 65_536;
/// Agents of one machine.
const RANGES: u32 = 1024;
/// The registry of a machine, and the files of subordinate ids.
const REGISTRY: &str = "/var/lib/portcullis-agents";
const SUBORDINATE_IDS: [&str; 2] = ["/etc/subuid", "/etc/subgid"];

/// Claims by the first uid of their range.
#[derive(Default, Serialize, Deserialize)]
struct Claims(BTreeMap<u32, PathBuf>);

/// The range of the agent with this state folder, claimed at its first start.
///
/// # Errors
/// When the registry cannot be read or written, or no range is free.
pub fn claim(state_dir: &Path) -> io::Result<RangeInclusive<u32>> {
    let mut taken = Vec::new();
    for path in SUBORDINATE_IDS {
        match fs::read_to_string(path) {
            Ok(text) => taken.extend(subordinate_ranges(&text)),
            Err(absent) if absent.kind() == io::ErrorKind::NotFound => {}
            Err(other) => return Err(other),
        }
    }
    claim_in(Path::new(REGISTRY), state_dir, &taken)
}

fn claim_in(
    registry: &Path,
    state_dir: &Path,
    taken: &[RangeInclusive<u32>],
) -> io::Result<RangeInclusive<u32>> {
    let state_dir = fs::canonicalize(state_dir)?;
    files::ensure_private_dir(registry)?;
    let _lock = files::lock(&registry.join("lock"))?;
    let path = registry.join("uid-ranges.json");
    let mut claims: Claims = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(absent) if absent.kind() == io::ErrorKind::NotFound => Claims::default(),
        Err(other) => return Err(other),
    };
    claims.0.retain(|_, folder| *folder == state_dir || folder.exists());
    let range = |first: u32| first..=first + (LENGTH - 1);
    let is_free = |first: &u32| {
        let range = range(*first);
        !taken.iter().any(|taken| taken.start() <= range.end() && range.start() <= taken.end())
    };
    let own = claims.0.iter().find(|(_, folder)| **folder == state_dir).map(|(first, _)| *first);
    if let Some(first) = own {
        if is_free(&first) {
            return Ok(range(first));
        }
        return Err(io::Error::other(format!(
            "uids {first} to {} belong to this agent's users, and to a range of /etc/subuid or /etc/subgid: change that file",
            range(first).end()
        )));
    }
    let first = (0..RANGES)
        .map(|n| FIRST + n * LENGTH)
        .find(|first| !claims.0.contains_key(first) && is_free(first))
        .ok_or_else(|| io::Error::other("every range of uids is claimed by an agent"))?;
    claims.0.insert(first, state_dir);
    files::replace_private(&path, &serde_json::to_vec_pretty(&claims)?)?;
    Ok(range(first))
}

/// The ranges of a file of subordinate ids: lines `name:first:count` (subuid(5)).
fn subordinate_ranges(text: &str) -> impl Iterator<Item = RangeInclusive<u32>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':').skip(1);
        let first: u32 = fields.next()?.parse().ok()?;
        let count: u32 = fields.next()?.parse().ok()?;
        (count > 0).then(|| first..=first.saturating_add(count - 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(parent: &Path, name: &str) -> PathBuf {
        let folder = parent.join(name);
        fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn two_agents_have_different_ranges_which_they_keep() {
        let dir = tempfile::tempdir().unwrap();
        let registry = dir.path().join("registry");
        let (one, two) = (folder(dir.path(), "one"), folder(dir.path(), "two"));
        let first = claim_in(&registry, &one, &[]).unwrap();
        let second = claim_in(&registry, &two, &[]).unwrap();
        assert_eq!(first.clone().count(), LENGTH as usize);
        assert_eq!(*second.start(), first.end() + 1);
        assert_eq!(claim_in(&registry, &two, &[]).unwrap(), second);
        assert_eq!(claim_in(&registry, &one, &[]).unwrap(), first);
        // The range of a state folder that is gone is given to the next agent.
        fs::remove_dir(&one).unwrap();
        assert_eq!(claim_in(&registry, &folder(dir.path(), "three"), &[]).unwrap(), first);
        assert_eq!(claim_in(&registry, &two, &[]).unwrap(), second);
    }

    #[test]
    fn agents_that_start_together_have_different_ranges() {
        let dir = tempfile::tempdir().unwrap();
        let registry = dir.path().join("registry");
        let claims: Vec<_> = std::thread::scope(|scope| {
            let claims: Vec<_> = (0..8)
                .map(|n| {
                    let (state, registry) = (folder(dir.path(), &n.to_string()), &registry);
                    scope.spawn(move || *claim_in(registry, &state, &[]).unwrap().start())
                })
                .collect();
            claims.into_iter().map(|claim| claim.join().unwrap()).collect()
        });
        let different: std::collections::BTreeSet<_> = claims.iter().collect();
        assert_eq!(different.len(), claims.len());
    }

    #[test]
    fn ranges_of_other_users_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let registry = dir.path().join("registry");
        let state = folder(dir.path(), "one");
        let text = format!("# x\na:100000:65536\nb:{}:1\nc:{}:0\nd:x\n\n", FIRST + 9, FIRST);
        let taken: Vec<_> = subordinate_ranges(&text).collect();
        assert_eq!(taken, [100_000..=165_535, FIRST + 9..=FIRST + 9]);
        let range = claim_in(&registry, &state, &taken).unwrap();
        assert_eq!(*range.start(), FIRST + LENGTH);
        // One that is given to somebody later is not used any more.
        let taken = [*range.end()..=u32::MAX];
        assert!(claim_in(&registry, &state, &taken).is_err());
    }

    #[test]
    fn the_area_is_clear_of_what_distributions_assign() {
        const { assert!(FIRST > 2_000_200_000) };
        assert!(i32::try_from(FIRST + RANGES * LENGTH - 1).is_ok());
    }
}
