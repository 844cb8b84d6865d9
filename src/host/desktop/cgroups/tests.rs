//! Finding groups, applying limits and reading them back, on folders in place of a hierarchy.

use super::*;

#[test]
fn own_groups_are_found_in_both_versions() {
    let mount = tempfile::tempdir().unwrap();
    for name in ["cpu,cpuacct", "memory"] {
        fs::create_dir(mount.path().join(name)).unwrap();
    }
    let text = "9:name=systemd:/\n4:memory:/a/b\n2:cpu,cpuacct:/\n3:pids:/\n0::/user/agent\n";
    let unified = |path: &str| {
        let found = own_groups(mount.path(), path);
        assert_eq!(found.len(), 1);
        found[0].clone()
    };
    assert_eq!(
        own_groups(mount.path(), text),
        [
            (mount.path().join("memory/a/b"), Hierarchy::Memory),
            (mount.path().join("cpu,cpuacct"), Hierarchy::Cpu),
            (mount.path().join("user/agent"), Hierarchy::Unified),
        ]
    );
    assert_eq!(
        unified(&format!("0::/unit/{AGENT_GROUP}\n")),
        (mount.path().join("unit"), Hierarchy::Unified)
    );
}

#[test]
fn limits_are_held_by_the_controllers_that_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits::default();
    let unified = Hierarchy::Unified;
    apply(folder.path(), unified, &limits).unwrap();
    assert_eq!(read_back(folder.path(), unified, &limits), BTreeSet::new());
    for name in ["memory.max", "memory.swap.max", "pids.max"] {
        fs::write(folder.path().join(name), "max").unwrap();
    }
    assert_eq!(read_back(folder.path(), unified, &limits), BTreeSet::new());
    apply(folder.path(), unified, &limits).unwrap();
    assert_eq!(
        read_back(folder.path(), unified, &limits),
        BTreeSet::from([DesktopLimit::Memory, DesktopLimit::Processes])
    );
    let swap = fs::read_to_string(folder.path().join("memory.swap.max")).unwrap();
    assert_eq!(swap, "0");
    let tighter = Limits { memory: limits.memory - 1, ..limits };
    assert!(!read_back(folder.path(), unified, &tighter).contains(&DesktopLimit::Memory));
}

#[test]
fn an_agent_leaves_its_group_only_when_it_is_alone_there() {
    let own = tempfile::tempdir().unwrap();
    let procs = own.path().join("cgroup.procs");
    let pid = std::process::id();
    fs::write(&procs, format!("{pid}\n1\n")).unwrap();
    let error = move_agent(own.path()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    fs::write(&procs, format!("{pid}\n")).unwrap();
    move_agent(own.path()).unwrap();
    let moved = fs::read_to_string(own.path().join(AGENT_GROUP).join("cgroup.procs")).unwrap();
    assert_eq!(moved, pid.to_string());
}
