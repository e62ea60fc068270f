//! The table: data, and nothing else.
//!
//! What the manual says of a command besides stands in `bin/cofferdam/pages`; tests/manual.rs makes the pages of both.

use usage::{Flag, HELP, Table, Verb};

/// The program.
pub static TABLE: Table = Table {
    program: "cofferdam",
    about: "run containers on Linux",
    global: GLOBAL,
    verbs: VERBS,
    argument: crate::complete::argument,
};

/// The flags that stand before the command.
pub static GLOBAL: &[Flag] = &[
    Flag::switch("debug", "log more"),
    Flag::path("log", "PATH", "also append errors and warnings to this file"),
    Flag::text("log-format", "FORMAT", "how the log is written: text or json")
        .default("text")
        .words(&["json", "text"]),
    Flag::path("root", "DIR", "where the state of containers is kept").default("/run/cofferdam"),
    Flag::path("criu", "PATH", "ignored").hidden(),
    Flag::switch("systemd-cgroup", "let systemd make the control groups"),
    Flag::text("rootless", "WHEN", "ignore missing rights on control groups: true, false or auto")
        .default("auto")
        .words(&["auto", "false", "true"]),
    HELP,
    Flag::switch("version", "print the version").short('v'),
];

/// The commands.
pub static VERBS: &[Verb] = &[
    Verb {
        long: "\
Everything is made ready: namespaces, root file system, control groups, limits. The program
itself waits until \"cofferdam start ID\". The bundle is a directory with a config.json.",
        flags: &[
            BUNDLE,
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            PID_FILE,
            NO_PIVOT,
            NO_NEW_KEYRING,
            PRESERVE_FDS,
            Flag::switch("keep-status", "let a process stay that keeps the exit status for \"wait\""),
        ],
        ..Verb::new("create", "ID", 1, "create a container")
    },
    Verb::new("start", "ID", 1, "start the program of a created container"),
    Verb {
        long: "\
In the foreground, signals are passed on, the exit status is that of the program (128 and the
signal's number where a signal ended it), and the container is deleted in the end.",
        flags: &[
            BUNDLE,
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            PID_FILE,
            NO_PIVOT,
            NO_NEW_KEYRING,
            PRESERVE_FDS,
            DETACH,
            Flag::switch("keep", "do not delete the container after it exits"),
            NO_SUBREAPER,
        ],
        ..Verb::new("run", "ID", 1, "create a container and start it")
    },
    Verb {
        long: "Prints a JSON object: id, pid, status, bundle, rootfs, created, annotations, owner.",
        ..Verb::new("state", "ID", 1, "print the state of a container")
    },
    Verb {
        long: "Looks in the directory that the global flag --root names.",
        flags: &[FORMAT, Flag::switch("quiet", "print the ids alone").short('q')],
        ..Verb::new("list", "", 0, "list the containers")
    },
    Verb {
        long: "\
As a table, what the host's ps prints of them, called with the arguments after ID (-ef without
any). As JSON, their process ids on the host.",
        flags: &[FORMAT],
        most: None,
        stops: true,
        ..Verb::new("ps", "ID [PS ARGUMENTS]", 1, "list the processes in a container")
    },
    Verb {
        long: "\
SIGNAL is a number or a name, with or without SIG, in any case: 9, KILL and sigkill are the
same. Without one it is SIGTERM.",
        flags: &[Flag::switch("all", "no error if the container is not running; reaches no process more")
            .short('a')
            .hidden()],
        most: Some(2),
        ..Verb::new("kill", "ID [SIGNAL]", 1, "send a signal to the first process of a container")
    },
    Verb {
        long: "\
Prints the exit status: that of the program, or 128 and the signal's number where a signal ended
it. For a container that has ended already it must have been kept: \"run --detach\" and \"run --keep\"
do that, and \"create --keep-status\". What nobody can tell is an error, and never a guess.",
        ..Verb::new("wait", "ID", 1, "wait until a container has ended, print its exit status")
    },
    Verb {
        flags: &[Flag::switch("force", "kill it first if it runs; no error if there is none").short('f')],
        ..Verb::new("delete", "ID", 1, "remove a container and all that it holds")
    },
    Verb {
        long: "\
For control groups whose record is lost: somebody has removed the directory of --root, say. Only
groups that bear the mark of this program and of this --root are looked at; those with a
process in them are left, and told.",
        flags: &[Flag::switch("dry-run", "remove nothing, and print what would be removed")],
        ..Verb::new("sweep", "", 0, "remove the control groups of containers that have no record")
    },
    Verb::new("pause", "ID", 1, "freeze all processes of a container"),
    Verb::new("resume", "ID", 1, "thaw the processes of a paused container"),
    Verb {
        long: "A file that is there is not overwritten.",
        flags: &[BUNDLE, Flag::switch("rootless", "for use without root's rights")],
        ..Verb::new("spec", "", 0, "write a config.json to begin with")
    },
    Verb::new("features", "", 0, "print what this runtime can do, as JSON"),
    Verb {
        long: "\
Nothing is done but reading config.json and looking at the host. Each step is printed with its
undoing. BUNDLE is the current directory if it is not given.",
        flags: &[
            Flag::switch("json", "print the plan for machines"),
            Flag::text("id", "ID", "plan for a container of this name").default("ID"),
        ],
        least: 0,
        ..Verb::new("plan", "[BUNDLE]", 1, "print what create would do, step by step")
    },
    Verb {
        long: "\
Without --rootfs and --tar the host's own /usr is seen, read-only, under an empty root. Without
a COMMAND it is shown what was shut in. Everything is removed in the end.",
        flags: &[
            Flag::path("rootfs", "DIR", "a directory to use as the root file system"),
            Flag::path("tar", "FILE", "an archive to unpack as the root file system"),
            Flag::text("memory", "SIZE", "the most memory: bytes, or with k, m, g").short('m'),
            Flag::text("cpus", "N", "the most processors, in parts if need be: 0.5"),
            Flag::number("pids", "N", "the most processes"),
            Flag::text("env", "NAME=VALUE", "set a variable").short('e').repeated(),
            Flag::path("volume", "SOURCE:TARGET[:ro]", "show a directory of the host").short('v').repeated(),
            Flag::text("user", "UID[:GID]", "who runs the command").short('u').default("0:0"),
            Flag::switch("read-only", "nothing can be written in the root file system"),
            Flag::switch("tty", "give the command a terminal").short('t'),
            Flag::text("name", "ID", "the container's name").default("made up"),
        ],
        least: 0,
        most: None,
        stops: true,
        ..Verb::new("try", "[--] [COMMAND [ARGUMENTS]]", 0, "run a command in a throw-away container")
    },
    Verb {
        long: "\
What no flag says is as config.json has it, or the process.json of --process; words after ID take
the place of its program. The exit status is that of the program (128 and the signal's number where
a signal ended it), and 255 where there was none.",
        flags: &[
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            Flag::text("cwd", "DIR", "the working directory, in the container"),
            Flag::text("env", "NAME=VALUE", "set a variable").short('e').repeated(),
            Flag::switch("tty", "give the process a terminal").short('t'),
            Flag::text("user", "UID[:GID]", "who runs the process").short('u'),
            Flag::number("additional-gids", "GID", "one more group").short('g').repeated(),
            Flag::path("process", "FILE", "a process.json to take all of it from").short('p'),
            DETACH,
            PID_FILE,
            Flag::text("process-label", "LABEL", "the SELinux label"),
            Flag::text("apparmor", "PROFILE", "the AppArmor profile"),
            Flag::switch("no-new-privs", "no gain of privileges"),
            Flag::text("cap", "NAME", "one more capability").short('c').repeated().words(spec::CAPABILITIES),
            PRESERVE_FDS,
            Flag::text("cgroup", "[CONTROLLERS:]PATH", "a control group below the container's").repeated(),
            Flag::switch("ignore-paused", "also in a paused container"),
        ],
        most: None,
        stops: true,
        failure: 255,
        ..Verb::new("exec", "ID COMMAND [ARGUMENTS]", 1, "run another process in a container")
    },
    Verb {
        long: "\
Prints a JSON object on each line: figures after each interval, which is written as 5s, 500ms or 1h30m,
and a line at once when the container lacks memory. Ends when its last process has ended. With --details
that line says how much memory there may be, is, and was at most, and there are more of them: for pressure
on memory, and for freezing and thawing where the kernel tells that (cgroup v2).",
        flags: &[
            Flag::switch("details", "tell pressure, freezing and thawing, and how much memory ran out"),
            Flag::text("interval", "DURATION", "how often").default("5s"),
            Flag::switch("stats", "print the figures once"),
        ],
        ..Verb::new("events", "ID", 1, "print what a container uses, and when it lacks memory")
    },
    Verb {
        long: "\
What is not named stays as it is, and so does a 0. With --resources no other flag counts; its file is
the linux.resources of a config.json; devices in it replace those in force. If the kernel refuses one limit,
none is changed.",
        flags: &[
            Flag::path("resources", "FILE", "take all limits from this JSON, \"-\" for standard input")
                .short('r'),
            Flag::number("blkio-weight", "N", "share of disk time, 10 to 1000"),
            Flag::text("cpu-period", "MICROSECONDS", "period of the processor limit"),
            Flag::text("cpu-quota", "MICROSECONDS", "processor time in each period"),
            Flag::text("cpu-burst", "MICROSECONDS", "processor time that may be saved up"),
            Flag::text("cpu-share", "N", "share of processor time"),
            Flag::text("cpu-rt-period", "MICROSECONDS", "period of the real-time limit"),
            Flag::text("cpu-rt-runtime", "MICROSECONDS", "real time in each period"),
            Flag::text("cpuset-cpus", "LIST", "processors"),
            Flag::text("cpuset-mems", "LIST", "memory nodes"),
            Flag::text("cpu-idle", "N", "1: only idle processor time"),
            Flag::text("kernel-memory", "SIZE", "ignored").hidden(),
            Flag::text("kernel-memory-tcp", "SIZE", "ignored").hidden(),
            Flag::text("memory", "SIZE", "the most memory"),
            Flag::text("memory-reservation", "SIZE", "memory that is kept for it"),
            Flag::text("memory-swap", "SIZE", "the most memory and swap, -1 for no limit"),
            Flag::number("pids-limit", "N", "the most processes"),
            Flag::text("l3-cache-schema", "SCHEMA", "share of the L3 cache").unbuilt(),
            Flag::text("mem-bw-schema", "SCHEMA", "share of the memory bandwidth").unbuilt(),
        ],
        ..Verb::new("update", "ID", 1, "change the limits of a container")
    },
    Verb {
        long: "\
A virtual machine's monitor is the program that runs it:

    limits plan ID               print what would be made
    limits apply ID --pid PID    put a monitor that runs into limits
    limits apply ID -- PROGRAM   start one in its limits, and print its process id
    limits update ID             give and take devices and processors, place new threads
    limits helper ID -- PROGRAM  start a helper beside it, such as virtiofsd; or take one: --pid
    limits show ID               print limits, processors, devices, and what was used
    limits watch ID              tell when memory runs out, until the monitor has ended
    limits destroy ID            end the monitor and all that is with it, remove the groups
    limits sweep                 destroy those whose monitor has ended

NAME is a container's in the guest: sets of processors are united, quotas added.",
        flags: &[
            Flag::number("pid", "PID", "the process to put into limits"),
            Flag::path("pid-file", "PATH", "the file to write the process id to"),
            Flag::text("cgroup", "PATH", "where: a path in the hierarchies, or slice:prefix:name")
                .default("the id"),
            Flag::text("driver", "WHO", "who makes groups: cgroupfs or systemd")
                .default("by the path")
                .words(&["cgroupfs", "systemd"]),
            Flag::text("layout", "LAYOUT", "of limits: all-in-one or overhead-elsewhere")
                .default("all-in-one")
                .words(&["all-in-one", "overhead-elsewhere"]),
            Flag::text("vcpus", "WHERE", "processors on cgroup v2: together or threaded")
                .default("together")
                .words(&["threaded", "together"]),
            Flag::text("vcpu", "NAME", "a name of threads that are processors, # for the number").repeated(),
            Flag::number("vcpu-count", "N", "how many processors to wait for").default("1"),
            Flag::switch("helpers", "make a group for helpers"),
            Flag::text("guest-memory", "SIZE", "the guest's memory"),
            Flag::text("overhead", "SIZE", "what the monitor takes beside it")
                .default("measured, with --pid"),
            Flag::text("memory", "SIZE", "the most memory").default("guest's and overhead"),
            Flag::text("helper-memory", "SIZE", "the most memory of all helpers"),
            Flag::text("cpus", "[NAME=]LIST", "processors").repeated(),
            Flag::text("mems", "[NAME=]LIST", "memory nodes").repeated(),
            Flag::text("cpu-quota", "[NAME=]N[/PERIOD]", "microseconds in each period").repeated(),
            Flag::switch("pin", "one processor for each of the guest's, while they are as many"),
            Flag::path("resources", "FILE", "more limits and devices, as linux.resources has them")
                .short('r'),
            Flag::text("device", "NODE[:ACCESS]", "a device for the guest, also as \"c 10:200 rw\"")
                .repeated(),
            Flag::text("remove-device", "NODE[:ACCESS]", "one that it is given no longer").repeated(),
            Flag::text("accel", "HOW", "how processors run: kvm or tcg")
                .default("kvm")
                .words(&["kvm", "tcg"]),
            Flag::switch("vhost-net", "the monitor opens /dev/vhost-net"),
            Flag::switch("vhost-vsock", "the monitor opens /dev/vhost-vsock"),
            Flag::switch("tun", "the monitor opens /dev/net/tun"),
            Flag::number("vfio", "GROUP", "a group of VFIO").repeated(),
            Flag::text("disk", "NODE[:ro]", "a block device that is a disk of the guest's").repeated(),
            Flag::path("guest", "FILE", "what the guest counts, as JSON; \"-\" for standard input"),
            FORMAT,
        ],
        most: None,
        ..Verb::new(
            "sandbox",
            "limits ACTION [ID] [-- PROGRAM [ARGUMENTS]]",
            2,
            "limits for virtual machines",
        )
    },
    Verb {
        flags: &[
            IMAGE_PATH,
            WORK_PATH,
            Flag::path("parent-path", "DIR", "images of an earlier --pre-dump"),
            Flag::switch("leave-running", "let the container run on"),
            TCP_ESTABLISHED,
            Flag::switch("tcp-skip-in-flight", "leave out connections that are not yet established"),
            Flag::switch("link-remap", "keep files that have lost their name"),
            EXT_UNIX_SK,
            SHELL_JOB,
            LAZY_PAGES,
            Flag::number("status-fd", "FD", "told when lazy pages can be asked for").default("-1"),
            Flag::text("page-server", "ADDRESS:PORT", "where memory is sent"),
            FILE_LOCKS,
            Flag::switch("pre-dump", "memory alone, and let the container run on"),
            CGROUPS_MODE,
            EMPTY_NS,
            AUTO_DEDUP,
        ],
        unbuilt: true,
        ..Verb::new("checkpoint", "ID", 1, "write a running container to disk")
    },
    Verb {
        flags: &[
            BUNDLE,
            CONSOLE_SOCKET,
            DETACH,
            PID_FILE,
            NO_SUBREAPER,
            NO_PIVOT,
            IMAGE_PATH,
            WORK_PATH,
            TCP_ESTABLISHED,
            EXT_UNIX_SK,
            SHELL_JOB,
            FILE_LOCKS,
            CGROUPS_MODE,
            EMPTY_NS,
            AUTO_DEDUP,
            LAZY_PAGES,
            Flag::text("lsm-profile", "TYPE:NAME", "the security profile to restore with"),
            Flag::text("lsm-mount-context", "CONTEXT", "the security context of mounts"),
        ],
        unbuilt: true,
        ..Verb::new("restore", "ID", 1, "bring a container back from a checkpoint")
    },
    Verb {
        long: "\
What is missing is told with what to do about it, what is degraded with what happens instead. The
exit status is 0 where containers can run for this caller, and 1 where they cannot. Nothing is changed.",
        flags: &[FORMAT],
        ..Verb::new("check", "", 0, "tell what this host can do for containers")
    },
    Verb::COMPLETION,
    Verb {
        least: 0,
        most: None,
        ..Verb::new("help", "[COMMAND]", 0, "print the commands, or the flags of one")
    },
];

const BUNDLE: Flag = Flag::path("bundle", "DIR", "the bundle").short('b').default("the current directory");
const CONSOLE_SOCKET: Flag =
    Flag::path("console-socket", "PATH", "the socket that is sent the terminal's master end");
const PIDFD_SOCKET: Flag =
    Flag::path("pidfd-socket", "PATH", "the socket that is sent a pidfd of the process");
const PID_FILE: Flag = Flag::path("pid-file", "PATH", "the file to write the process id to");
const NO_PIVOT: Flag = Flag::switch("no-pivot", "move the root mount instead of pivot_root, for a ramdisk");
const NO_NEW_KEYRING: Flag = Flag::switch("no-new-keyring", "keep the caller's session keyring");
const PRESERVE_FDS: Flag =
    Flag::number("preserve-fds", "N", "hand on N descriptors after stdio and $LISTEN_FDS").default("0");
const DETACH: Flag = Flag::switch("detach", "do not wait for the process").short('d');
const NO_SUBREAPER: Flag = Flag::switch("no-subreaper", "leave orphans of the container to the host's init");
const FORMAT: Flag =
    Flag::text("format", "FORMAT", "table or json").short('f').default("table").words(&["json", "table"]);
const IMAGE_PATH: Flag = Flag::path("image-path", "DIR", "where the images are").default("./checkpoint");
const WORK_PATH: Flag = Flag::path("work-path", "DIR", "where criu keeps its files and logs");
const TCP_ESTABLISHED: Flag = Flag::switch("tcp-established", "keep open TCP connections");
const EXT_UNIX_SK: Flag = Flag::switch("ext-unix-sk", "allow sockets to outside the container");
const SHELL_JOB: Flag = Flag::switch("shell-job", "allow a job of a shell outside");
const LAZY_PAGES: Flag = Flag::switch("lazy-pages", "bring memory over when it is touched");
const FILE_LOCKS: Flag = Flag::switch("file-locks", "keep file locks");
const CGROUPS_MODE: Flag = Flag::text("manage-cgroups-mode", "MODE", "soft, full, strict or ignore")
    .default("soft")
    .words(&["full", "ignore", "soft", "strict"]);
const EMPTY_NS: Flag = Flag::text("empty-ns", "NAME", "leave the content of this namespace out").repeated();
const AUTO_DEDUP: Flag = Flag::switch("auto-dedup", "keep no page twice");
