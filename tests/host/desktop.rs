//! Real desktops: Xtigervnc in bubblewrap. These need the packages; without them they fail.

use super::harness::{
    UIDS, authenticate, connect_client, display_server, home, processes_with_mark,
    reachable_sockets, run_in_desktop, spec, wait_until,
};
use portcullis::domain::UserId;
use portcullis::host::desktop::{DesktopSpec, Launcher, Limits, Phase};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Instant;

fn launcher(dir: &Path) -> Launcher {
    Launcher::new(dir, Limits::default(), UIDS).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn greets_takes_its_password_and_shows_a_picture() {
    let dir = tempfile::tempdir().unwrap();
    let launcher = launcher(dir.path());
    let (warm_up, _) = spec(UserId::new());
    launcher.launch(warm_up.clone()).await.unwrap().stop().await;
    let (spec, mark) = spec(warm_up.user_id);
    let begun = Instant::now();
    let desktop = launcher.launch(spec.clone()).await.unwrap();
    let greeted = begun.elapsed();
    let mut screen =
        connect_client(desktop.connect().await.unwrap(), desktop.password().expose()).await;
    screen.frame().await.unwrap();
    println!("launch to greeting {greeted:?}, to first frame {:?}", begun.elapsed());
    assert_eq!((screen.width, screen.height, screen.name.as_str()), (1280, 800, mark.as_str()));
    // The desktop appears: panel, wallpaper and terminal are many colours.
    screen
        .read_until(|screen| {
            screen.pixels.iter().collect::<std::collections::HashSet<_>>().len() > 200
        })
        .await
        .unwrap();
    println!("launch to painted desktop {:?}", begun.elapsed());

    let mut wrong = desktop.connect().await.unwrap();
    assert!(authenticate(&mut wrong, "wrong-pw").await.is_err());
    // Wrong passwords do not lock the right one out.
    authenticate(&mut desktop.connect().await.unwrap(), desktop.password().expose()).await.unwrap();

    // Its folder is the agent's alone, its password the user's alone. Its socket is in the sandbox.
    let folder = portcullis::host::desktop::launcher::session_folder(dir.path(), spec.session_id);
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let secret = std::fs::metadata(folder.join("etc/vncpasswd")).unwrap();
    assert_eq!(secret.permissions().mode() & 0o777, 0o600);
    assert!(!processes_with_mark(&mark).is_empty());
    // The password is in no argument and no environment.
    let said: Vec<u32> = processes_with_mark(desktop.password().expose());
    assert!(said.is_empty(), "{said:?}");

    desktop.stop().await;
    assert_eq!(processes_with_mark(&mark), Vec::<u32>::new(), "processes after stop");
    assert!(!folder.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn is_alone_in_its_sandbox() {
    let dir = tempfile::tempdir().unwrap();
    let launcher = launcher(dir.path());
    let other = UserId::new();
    let (other_spec, _) = spec(other);
    let other_desktop = launcher.launch(other_spec).await.unwrap();
    std::fs::write(home(dir.path(), other).join("diary.txt"), "secret").unwrap();
    let (spec, _) = spec(UserId::new());
    let state = dir.path().display();
    let script = format!(
        r#"
echo uid=$(id -u) name=$(id -un) host=$(hostname)
echo links=$(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' | tr '\n' ,)
echo caps=$(grep CapEff /proc/self/status | cut -f2) nnp=$(grep NoNewPrivs /proc/self/status | cut -f2)
echo processes=$(ls /proc | grep -c '^[0-9]')
ls {state} >/dev/null 2>&1 && echo SEES-STATE
ls /root >/dev/null 2>&1 && echo SEES-ROOT
ls /home
cat /etc/shadow 2>/dev/null && echo SEES-SHADOW
touch /usr/x 2>/dev/null && echo WRITES-USR
touch /etc/portcullis/x 2>/dev/null && echo WRITES-ETC
unshare -U true 2>/dev/null && echo NESTS-NAMESPACES
timeout 2 bash -c 'echo >/dev/tcp/127.0.0.1/22' 2>/dev/null && echo REACHES-HOST
echo core=$(ulimit -c) files=$(ulimit -Hn) procs=$(ulimit -Hu)
echo socket=$(stat -c %a-%U /run/ws /run/ws/rfb.sock)
echo tmp=$(df -k --output=size /tmp | tail -1 | tr -d ' ')
env | grep -i -c -E 'cargo|portcullis_(db|key|token)'
"#
    );
    let text = run_in_desktop(&launcher, dir.path(), spec, &script).await;
    println!("{text}");
    assert!(text.contains("links=lo,\n"), "only its own loopback");
    assert!(text.contains("name=mona-member host=ws-linux-desktop"));
    assert!(!text.contains("uid=0 "));
    assert!(text.contains("caps=0000000000000000 nnp=1"));
    for bad in ["SEES-", "WRITES-", "NESTS-", "REACHES-", other.to_string().as_str()] {
        assert!(!text.contains(bad), "{bad}");
    }
    assert!(text.contains("\nmona-member\n"), "one home");
    assert!(text.contains("core=0 files=4096 procs=1024"));
    assert!(text.contains("socket=700-mona-member 600-mona-member\n"));
    assert!(text.contains("tmp=1048576"));
    let count: usize =
        text.lines().find_map(|line| line.strip_prefix("processes=")).unwrap().parse().unwrap();
    assert!(count < 30, "sees {count} processes");
    other_desktop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reaches_the_network_only_where_the_workspace_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let launcher = launcher(dir.path());
    // What it reaches is tested in tests/host/network.rs.
    let script = "ls /sys/class/net /proc/sys/net/ipv4/conf; cat /etc/resolv.conf && echo NAMES";
    for network in [true, false] {
        let (spec, _) = spec(UserId::new());
        let text =
            run_in_desktop(&launcher, dir.path(), DesktopSpec { network, ..spec }, script).await;
        assert_eq!(text.contains("tap0"), network, "{text}");
        assert_eq!(text.contains("NAMES"), network, "{text}");
    }
    // Its display server has no socket that the whole host could see.
    let (spec, mark) = spec(UserId::new());
    let desktop = launcher.launch(DesktopSpec { network: true, ..spec }).await.unwrap();
    let server = display_server(&mark).as_raw_nonzero().get().cast_unsigned();
    assert_eq!(reachable_sockets([server]), Vec::<String>::new());
    desktop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn homes_are_kept_and_are_their_users_alone() {
    let dir = tempfile::tempdir().unwrap();
    let launcher = launcher(dir.path());
    let (mona, max) = (UserId::new(), UserId::new());
    let text =
        run_in_desktop(&launcher, dir.path(), spec(mona).0, "echo hello >~/Documents/letter.txt")
            .await;
    assert!(text.contains("END"));
    let text =
        run_in_desktop(&launcher, dir.path(), spec(mona).0, "cat ~/Documents/letter.txt").await;
    assert!(text.contains("hello"), "{text}");
    let text =
        run_in_desktop(&launcher, dir.path(), spec(max).0, "cat ~/Documents/letter.txt").await;
    assert!(!text.contains("hello"), "{text}");
    let facts = |user| std::fs::metadata(home(dir.path(), user)).unwrap();
    for user in [mona, max] {
        assert_eq!(facts(user).mode() & 0o777, 0o700);
    }
    if rustix::process::geteuid().is_root() {
        assert_ne!(facts(mona).uid(), facts(max).uid(), "each user has a uid");
        assert!(UIDS.contains(&facts(mona).uid()));
        drop(launcher);
        let again = Launcher::new(dir.path(), Limits::default(), UIDS).unwrap();
        run_in_desktop(&again, dir.path(), spec(mona).0, "touch ~/mine").await;
        assert_eq!(
            std::fs::metadata(home(dir.path(), mona).join("mine")).unwrap().uid(),
            facts(mona).uid(),
            "and keeps it"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_is_noticed_at_once_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let launcher = launcher(dir.path());
    let (spec, mark) = spec(UserId::new());
    let desktop = launcher.launch(spec).await.unwrap();
    let server = display_server(&mark);
    let begun = Instant::now();
    rustix::process::kill_process(server, rustix::process::Signal::KILL).unwrap();
    let mut phase = desktop.phase();
    tokio::time::timeout(super::harness::TIMEOUT, phase.wait_for(|phase| *phase >= Phase::Ended))
        .await
        .unwrap()
        .unwrap();
    println!("a dead display server was noticed after {:?}", begun.elapsed());
    assert!(!desktop.is_running());
    assert!(desktop.connect().await.is_err());
    desktop.stop().await;
    assert_eq!(processes_with_mark(&mark), Vec::<u32>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_handle_ends_the_desktop() {
    let dir = tempfile::tempdir().unwrap();
    let launcher = launcher(dir.path());
    let (spec, mark) = spec(UserId::new());
    drop(launcher.launch(spec).await.unwrap());
    wait_until("the desktop is gone", || processes_with_mark(&mark).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_launch_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let launcher = launcher(dir.path());
    let (spec, mark) = spec(UserId::new());
    let folder = portcullis::host::desktop::launcher::session_folder(dir.path(), spec.session_id);
    // Given up while the server starts.
    tokio::select! {
        _ = launcher.launch(spec) => panic!("too quick to give up"),
        () = wait_until("something starts", || !processes_with_mark(&mark).is_empty()) => {}
    }
    wait_until("nothing is left", || processes_with_mark(&mark).is_empty() && !folder.exists())
        .await;
}
