//! The filters of system calls of every desktop (seccomp(2)): what is not listed fails with `ENOSYS`,
//! which programs take as "not in this kernel"; making a namespace fails with `EPERM`, as where that
//! is not permitted.
//!
//! - The list follows the default profile of Podman and Docker (containers/common,
//!   `pkg/seccomp`) for a container without capabilities. Calls that attack surface of the kernel
//!   needs a reason for are left out: keys, BPF, performance events, io_uring, user faults, mounts,
//!   namespaces.
//! - `clone3` has its flags in memory, which a filter cannot see, so it is left out too: libraries
//!   then use `clone`.
//! - A debugger may start a program to trace it, but may not attach to one that runs.
//! - Numbers of another architecture, such as those of 32-bit programs, end the process.

use seccompiler::{BpfProgram, TargetArch, compile_from_json};
use serde_json::{Value, json};
use std::io;

/// Their files among the desktop files.
pub(super) const FILES: [&str; 2] = ["permitted.bpf", "namespaces.bpf"];
/// errno(3).
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// Flags of clone(2) and unshare(2) that make a namespace: mount, cgroup, host name, IPC, user,
/// process, network. That of time namespaces is a flag of `unshare` only.
const NEW_NAMESPACES: [u64; 7] =
    [0x2_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
const NEW_TIME_NAMESPACE: u64 = 0x80;
/// Requests of ptrace(2) by which a process becomes another one's tracer.
const PTRACE_ATTACH: u64 = 16;
const PTRACE_SEIZE: u64 = 0x4206;
/// Requests of ioctl(2) that put input into a terminal (ioctl_tty(2), ioctl_console(2)).
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;
/// Families of socket(2): unix, IPv4, IPv6, netlink. Others reach the machine outside a network
/// namespace (vsock), or old code.
const FAMILIES: [u64; 4] = [1, 2, 10, 16];
/// Execution domains of personality(2) that Docker permits: Linux, 32-bit, and asking.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Permitted with any arguments.
const PERMITTED: &str = "
    accept accept4 bind brk cachestat capget capset chdir chroot clone clock_getres clock_gettime
    clock_nanosleep close close_range connect copy_file_range dup dup3 epoll_create1 epoll_ctl
    epoll_pwait epoll_pwait2 eventfd2 execve execveat exit exit_group faccessat faccessat2
    fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync
    fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex
    futex_requeue futex_wait futex_waitv futex_wake getcpu getcwd getdents64 getegid geteuid
    getgid getgroups getitimer getpeername getpgid getpid getppid getpriority getrandom getresgid
    getresuid getrlimit get_robust_list getrusage getsid getsockname getsockopt gettid
    gettimeofday getuid getxattr inotify_add_watch inotify_init1 inotify_rm_watch io_cancel
    io_destroy io_getevents io_pgetevents ioprio_get ioprio_set io_setup io_submit kill
    landlock_add_rule landlock_create_ruleset landlock_restrict_self lgetxattr linkat listen
    listxattr llistxattr lremovexattr lseek lsetxattr madvise map_shadow_stack membarrier
    memfd_create mincore mkdirat mknodat mlock mlock2 mlockall mmap mprotect mq_getsetattr
    mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv
    msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat openat openat2
    pidfd_open pidfd_send_signal pipe2 pkey_alloc pkey_free pkey_mprotect ppoll prctl pread64
    preadv preadv2 prlimit64 process_mrelease pselect6 pwrite64 pwritev pwritev2 read readahead
    readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages removexattr renameat renameat2
    restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
    rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_getaffinity sched_getattr
    sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler
    sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler
    sched_yield seccomp semctl semget semop semtimedop sendfile sendmmsg sendmsg sendto setfsgid
    setfsuid setgid setgroups setitimer setpgid setpriority setregid setresgid setresuid setreuid
    setrlimit set_robust_list setsid setsockopt set_tid_address setuid setxattr shmat shmctl
    shmdt shmget shutdown sigaltstack signalfd4 splice statfs statx symlinkat sync
    sync_file_range syncfs sysinfo tee tgkill timer_create timer_delete timerfd_create
    timerfd_gettime timerfd_settime timer_getoverrun timer_gettime timer_settime times tkill
    truncate umask uname unshare unlinkat utimensat vmsplice wait4 waitid write writev";
/// Calls of x86-64 that later architectures have only in a newer form.
const PERMITTED_ON_X86_64: &str = "
    access alarm arch_prctl chmod chown creat dup2 epoll_create epoll_wait eventfd fork futimesat
    getdents getpgrp get_thread_area inotify_init lchown link lstat mkdir mknod open pause pipe
    poll readlink rename rmdir select set_thread_area signalfd stat symlink time unlink uretprobe
    utime utimes vfork";

/// The programs of [`FILES`], as bubblewrap reads them.
///
/// # Errors
/// When there are none for this machine's architecture.
pub(super) fn filters() -> io::Result<[Vec<u8>; 2]> {
    let architecture = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    let bytes = |program: BpfProgram| {
        program
            .iter()
            .flat_map(|step| {
                let [a, b] = step.code.to_ne_bytes();
                let [c, d, e, f] = step.k.to_ne_bytes();
                [a, b, step.jt, step.jf, c, d, e, f]
            })
            .collect()
    };
    Ok([permitted(architecture).map(bytes)?, no_namespaces(architecture).map(bytes)?])
}

/// Permits what is listed.
fn permitted(architecture: TargetArch) -> io::Result<BpfProgram> {
    let more = if architecture == TargetArch::x86_64 { PERMITTED_ON_X86_64 } else { "" };
    let names = PERMITTED.split_whitespace().chain(more.split_whitespace());
    let mut rules: Vec<Value> = names.map(|name| json!({ "syscall": name })).collect();
    let mut add = |name: &str, conditions: Vec<Value>| {
        rules.push(json!({ "syscall": name, "args": conditions }));
    };
    add("ptrace", vec![argument(0, "ne", PTRACE_ATTACH), argument(0, "ne", PTRACE_SEIZE)]);
    add("ioctl", vec![argument(1, "ne", TIOCSTI), argument(1, "ne", TIOCLINUX)]);
    add("socketpair", vec![argument(0, "eq", FAMILIES[0])]);
    for family in FAMILIES {
        add("socket", vec![argument(0, "eq", family)]);
    }
    for personality in PERSONALITIES {
        add("personality", vec![argument(0, "eq", personality)]);
    }
    compile(architecture, json!({ "errno": ENOSYS }), json!("allow"), rules)
}

/// Refuses calls that make a namespace.
fn no_namespaces(architecture: TargetArch) -> io::Result<BpfProgram> {
    let rule = |name: &str, flag: u64| {
        let has_flag =
            json!({ "index": 0, "type": "qword", "op": { "masked_eq": flag }, "val": flag });
        json!({ "syscall": name, "args": [has_flag] })
    };
    let mut rules = vec![rule("unshare", NEW_TIME_NAMESPACE)];
    for flag in NEW_NAMESPACES {
        rules.extend(["clone", "unshare"].map(|name| rule(name, flag)));
    }
    compile(architecture, json!("allow"), json!({ "errno": EPERM }), rules)
}

fn compile(
    architecture: TargetArch,
    otherwise: Value,
    matched: Value,
    rules: Vec<Value>,
) -> io::Result<BpfProgram> {
    let filter = json!({ "desktop": {
        "mismatch_action": otherwise,
        "match_action": matched,
        "filter": rules,
    } });
    compile_from_json(filter.to_string().as_bytes(), architecture)
        .map_err(io::Error::other)?
        .remove("desktop")
        .ok_or_else(|| io::Error::other("the filter of system calls is empty"))
}

/// A condition on the lower half of an argument: these arguments are of type `int`.
fn argument(index: u8, operator: &str, value: u64) -> Value {
    json!({ "index": index, "type": "dword", "op": operator, "val": value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_filters_for_each_architecture() {
        for architecture in [TargetArch::x86_64, TargetArch::aarch64] {
            let program = permitted(architecture).unwrap();
            // The kernel takes at most 4096 instructions (seccomp(2)).
            assert!((300..4096).contains(&program.len()), "{architecture:?}: {}", program.len());
            assert!((30..4096).contains(&no_namespaces(architecture).unwrap().len()));
        }
        assert!(filters().unwrap().iter().all(|program| program.len() % 8 == 0));
    }
}
