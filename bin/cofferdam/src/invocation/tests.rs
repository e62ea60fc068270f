use std::os::unix::ffi::OsStringExt as _;

use super::*;

fn read(line: &[&str]) -> Invocation {
    Invocation::read(line.iter().map(OsString::from))
}

fn told(line: &[&str]) -> (String, u8) {
    match read(line).command {
        Ok(command) => (format!("{command:?}"), 0),
        Err(misuse) => (misuse.to_string(), misuse.status),
    }
}

/// The words and the status of runc 1.1.5 for each line, but for its own name before the words.
#[test]
fn misuse_is_told_in_runcs_words() {
    for (line, words, status) in [
        (
            &["delete", "--force=maybe", "web1"][..],
            "invalid boolean value \"maybe\" for -force: parse error",
            1,
        ),
        (&["delete", "-fx", "web1"], "flag provided but not defined: -fx", 1),
        (&["delete"], "\"delete\" requires exactly 1 argument(s)", 1),
        (&["delete", "a", "b"], "\"delete\" requires exactly 1 argument(s)", 1),
        (&["list", "a"], "\"list\" requires exactly 0 argument(s)", 1),
        (&["kill"], "\"kill\" requires a minimum of 1 argument(s)", 1),
        (&["kill", "a", "b", "c"], "\"kill\" requires a maximum of 2 argument(s)", 1),
        (&["ps"], "\"ps\" requires a minimum of 1 argument(s)", 1),
        (&["create", "--bundle"], "flag needs an argument: -bundle", 1),
        (
            &["create", "--preserve-fds", "x", "id"],
            "invalid value \"x\" for flag -preserve-fds: parse error",
            1,
        ),
        (&["create", "--nope", "id"], "flag provided but not defined: -nope", 1),
        (&["state", "a", "--nope"], "\"state\" requires exactly 1 argument(s)", 1),
        (&["exec"], "\"exec\" requires a minimum of 1 argument(s)", 1),
        (&["exec", "--nope", "a", "b"], "flag provided but not defined: -nope", 1),
        (&["exec", "-p"], "flag needs an argument: -p", 1),
        (&["list", "--format", "xml"], "invalid format option", 1),
        (&["ps", "--format", "xml", "a"], "invalid format option", 1),
        (&["events"], "\"events\" requires exactly 1 argument(s)", 1),
        (&["events", "--interval", "0s", "a"], "duration interval must be greater than 0", 1),
        (&["events", "--interval", "x", "a"], "invalid value \"x\" for flag -interval: parse error", 1),
        (&["update"], "\"update\" requires exactly 1 argument(s)", 1),
        (&["update", "--memory", "x", "a"], "invalid value for memory: invalid size: 'x'", 1),
        (&["nonsense"], "No help topic for 'nonsense'", 3),
        (&["help", "nope"], "No help topic for 'nope'", 3),
        (&["version"], "No help topic for 'version'", 3),
        (&["--nope", "state", "x"], "flag provided but not defined: -nope", 1),
        (&["-x"], "flag provided but not defined: -x", 1),
        (&["---x"], "bad flag syntax: ---x", 1),
        (&["state", "-=a"], "bad flag syntax: -=a", 1),
        (&["state", "--=a"], "bad flag syntax: --=a", 1),
        (&["--root"], "flag needs an argument: -root", 1),
        (&["-debug=maybe", "list"], "invalid boolean value \"maybe\" for -debug: parse error", 1),
        (&["--help=maybe"], "invalid boolean value \"maybe\" for -help: parse error", 1),
        (&["--log-format", "xml", "list"], "invalid log-format: xml", 1),
    ] {
        assert_eq!(told(line), (words.into(), status), "{line:?}");
    }
}

/// runc 1.1.5 takes the id for the bundle, and then misses the id.
#[test]
fn a_value_is_not_looked_for_before_its_flag() {
    assert_eq!(told(&["create", "a", "-b"]), ("flag needs an argument: -b".into(), 1));
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    for (line, words, status) in [
        (
            &["update", "--l3-cache-schema", "x", "a"][..],
            "update: --l3-cache-schema: not built yet, see docs/roadmap.md",
            1,
        ),
        (&["checkpoint", "a"], "checkpoint: not built yet, see docs/roadmap.md", 1),
        (&["restore", "a"], "restore: not built yet, see docs/roadmap.md", 1),
    ] {
        assert_eq!(told(line), (words.into(), status), "{line:?}");
    }
}

/// A verb that the table has and [`Command::typed`] has not would be refused by name as well.
#[test]
fn every_command_of_the_table_is_typed() {
    for verb in flags::VERBS.iter().filter(|verb| !verb.unbuilt) {
        // One more where words of others follow: the least that `exec` takes is the id, and that alone runs nothing.
        let words = match verb.name {
            "completion" => vec!["bash"],
            "sandbox" => vec!["limits", "show", "vm1"],
            _ => vec!["word"; verb.least + usize::from(verb.stops)],
        };
        let command = read(&[&[verb.name][..], &words].concat()).command;
        assert!(command.is_ok(), "{}: {command:?}", verb.name);
    }
}

#[test]
fn limits_of_sandboxes_are_asked_for_strictly() {
    for (line, why) in [
        (&["sandbox", "create", "a"][..], "sandbox create: there is \"limits\" alone, see docs/roadmap.md"),
        (&["sandbox", "limits", "make", "a"], "sandbox limits: there is no \"make\""),
        (&["sandbox", "limits", "show"], "sandbox limits show: of which sandbox?"),
        (&["sandbox", "limits", "show", "a", "b"], "sandbox limits show: takes one sandbox and nothing else"),
        (&["sandbox", "limits", "sweep", "a"], "sandbox limits sweep: is about all sandboxes"),
        (&["sandbox", "limits", "destroy", "a", "--pid", "1"], "sandbox limits destroy: takes no --pid"),
        (&["sandbox", "limits", "apply", "a"], "whom for? --pid PID, or -- PROGRAM [ARGUMENTS]"),
        (&["sandbox", "limits", "apply", "a", "--pid", "0"], "--pid 0: is no process id"),
        (
            &["sandbox", "limits", "apply", "a", "--pid", "7", "--", "qemu"],
            "--pid and a program: one of the two",
        ),
        (
            &["sandbox", "limits", "plan", "a", "--layout", "x"],
            "--layout x: is none of all-in-one, overhead-elsewhere",
        ),
        (&["sandbox", "limits", "plan", "a", "--memory", "lots"], "--memory lots: is no size, such as 512m"),
        (
            &["sandbox", "limits", "plan", "a", "--cpu-quota", "b=x"],
            "--cpu-quota b=x: is not like 50000 or 50000/100000",
        ),
        (
            &["sandbox", "limits", "apply", "a", "--vcpu", "x", "--", "q"],
            "--vcpu: \"x\" is no name of threads with one # for a number",
        ),
    ] {
        assert_eq!(told(line), (why.into(), 1), "{line:?}");
    }
}

#[test]
fn words_to_be_completed_are_nobodys_flags() {
    let words = Some(["--debug", "kill", "--help", ""].map(str::to_owned).to_vec());
    let line = ["completion", "fish", "--", "--debug", "kill", "--help", ""];
    assert_eq!(read(&line).command, Ok(Command::Completion { shell: Shell::Fish, words }));
    let script = Ok(Command::Completion { shell: Shell::Zsh, words: None });
    assert_eq!(read(&["completion", "zsh"]).command, script);
    for line in [&["completion", "tcsh"][..], &["completion", "bash", "kill"]] {
        assert!(read(line).command.is_err(), "{line:?}");
    }
}

#[test]
fn flags_may_follow_the_id() {
    let delete = Ok(Command::Delete { force: true, id: "web1".into() });
    for line in [
        &["delete", "-f", "web1"][..],
        &["delete", "web1", "-f"],
        &["delete", "web1", "--force"],
        &["delete", "-force", "web1"],
        &["delete", "--force=true", "web1"],
        &["delete", "-f=1", "web1"],
        &["delete", "--force", "--", "web1"],
        &["--", "delete", "web1", "--force=false", "--force"],
    ] {
        assert_eq!(read(line).command, delete, "{line:?}");
    }
}

#[test]
fn words_after_two_dashes_are_no_flags() {
    assert_eq!(read(&["state", "--", "--x"]).command, Ok(Command::State { id: "--x".into() }));
    assert_eq!(read(&["state", "a", "--"]).command, Ok(Command::State { id: "a".into() }));
    assert_eq!(read(&["state", "-"]).command, Ok(Command::State { id: "-".into() }));
    assert_eq!(told(&["delete", "--", "a", "-f"]).1, 1);
}

#[test]
fn create_takes_all_that_runc_gives() {
    let line = [
        "--root=/r",
        "-log",
        "/l",
        "--log-format",
        "json",
        "--systemd-cgroup",
        "--rootless",
        "False",
        "--criu",
        "x",
        "create",
        "--bundle",
        "-odd",
        "--pid-file=/p=q",
        "--no-pivot",
        "--console-socket",
        "console",
        "--pidfd-socket=pidfd",
        "--no-new-keyring",
        "--keep-status",
        "--preserve-fds=0x10",
        "web1",
    ];
    let Invocation { global, command } = read(&line);
    assert_eq!(
        global,
        Global {
            debug: false,
            log: Some("/l".into()),
            log_format: LogFormat::Json,
            root: Some("/r".into()),
            systemd_cgroup: true,
            rootless: Some(false),
        }
    );
    let create = Create {
        id: "web1".into(),
        bundle: Some("-odd".into()),
        console_socket: Some("console".into()),
        pidfd_socket: Some("pidfd".into()),
        no_new_keyring: true,
        keep_status: true,
        no_pivot: true,
        pid_file: Some("/p=q".into()),
        preserve_fds: 16,
    };
    assert_eq!(command, Ok(Command::Create(create)));
}

#[test]
fn run_takes_what_create_takes_and_more() {
    let create = Create {
        id: "a".into(),
        bundle: None,
        console_socket: None,
        pidfd_socket: None,
        no_new_keyring: false,
        keep_status: false,
        no_pivot: false,
        pid_file: None,
        preserve_fds: 0,
    };
    let run = |line| read(line).command;
    let made = |detach, keep, no_subreaper| {
        Ok(Command::Run(Run { create: create.clone(), detach, keep, no_subreaper }))
    };
    assert_eq!(run(&["run", "--bundle=", "a"]), made(false, false, false));
    assert_eq!(run(&["run", "-d", "--keep", "--no-subreaper", "a"]), made(true, true, true));
    // Where runc 1.1.5 stops at a word after a switch, and counts three arguments.
    assert!(run(&["run", "-d", "a", "--bundle", "b"]).is_ok());
}

#[test]
fn descriptors_are_counted_as_go_counts() {
    let count = |value: &str| match read(&["create", "--preserve-fds", value, "a"]).command {
        Ok(Command::Create(create)) => Ok(create.preserve_fds),
        Ok(other) => Err(format!("{other:?}")),
        Err(misuse) => Err(misuse.to_string()),
    };
    for (typed, number) in [("3", 3), ("+3", 3), ("-3", 0), ("010", 8), ("0b11", 3), ("0o17", 15), ("0", 0)] {
        assert_eq!(count(typed), Ok(number), "{typed}");
    }
    for typed in ["99999999999999999999", "4294967296", "-99999999999999999999"] {
        assert_eq!(
            count(typed),
            Err(format!("invalid value {typed:?} for flag -preserve-fds: value out of range"))
        );
    }
    for typed in ["", "-", "--3", "+-3", "0x", "0x-1", "3 ", "9a"] {
        assert_eq!(count(typed), Err(format!("invalid value {typed:?} for flag -preserve-fds: parse error")));
    }
}

#[test]
fn kill_keeps_the_signal_as_it_was_typed() {
    let kill = |line| read(line).command;
    let made = |all, signal: &str| Ok(Command::Kill { all, id: "a".into(), signal: signal.into() });
    assert_eq!(kill(&["kill", "a"]), made(false, "SIGTERM"));
    assert_eq!(kill(&["kill", "a", ""]), made(false, "SIGTERM"));
    assert_eq!(kill(&["kill", "a", "-9"]), made(false, "-9"));
    assert_eq!(kill(&["kill", "--all", "a", "9"]), made(true, "9"));
    assert_eq!(kill(&["kill", "a", "KILL", "-a"]), made(true, "KILL"));
}

#[test]
fn flags_of_the_hosts_ps_are_left_alone() {
    let ps = |line| read(line).command;
    let made = |format, arguments: &[&str]| {
        let arguments = arguments.iter().map(OsString::from).collect();
        Ok(Command::Ps { arguments, format, id: "a".into() })
    };
    assert_eq!(ps(&["ps", "a"]), made(Format::Table, &["-ef"]));
    assert_eq!(ps(&["ps", "-f", "json", "a"]), made(Format::Json, &["-ef"]));
    assert_eq!(ps(&["ps", "a", "-f", "json"]), made(Format::Table, &["-f", "json"]));
    assert_eq!(ps(&["ps", "a", "--", "--help"]), made(Format::Table, &["--", "--help"]));
}

#[test]
fn a_plan_is_of_this_directory_unless_told() {
    let made = |bundle: &str, id: Option<&str>, json| {
        Ok(Command::Plan { bundle: bundle.into(), id: id.map(str::to_owned), json })
    };
    assert_eq!(read(&["plan"]).command, made(".", None, false));
    assert_eq!(read(&["plan", "--json", "--id=a", "b"]).command, made("b", Some("a"), true));
}

#[test]
fn try_leaves_the_commands_flags_to_the_command() {
    let line = [
        "try",
        "-m",
        "64m",
        "--cpus=0.5",
        "--pids",
        "9",
        "-e",
        "A=1",
        "--env",
        "B=2",
        "-v",
        "/s:/t:ro",
        "-u",
        "1:2",
        "--read-only",
        "-t",
        "--name",
        "n",
        "--rootfs",
        "/r",
        "--",
        "sh",
        "-c",
        "--",
        "-t",
    ];
    let expected = Try {
        command: ["sh", "-c", "--", "-t"].map(str::to_owned).into(),
        cpus: Some(500),
        env: vec!["A=1".into(), "B=2".into()],
        memory: Some(64 << 20),
        name: Some("n".into()),
        pids: Some(9),
        read_only: true,
        rootfs: Some("/r".into()),
        tar: None,
        tty: true,
        user: User { uid: 1, gid: 2 },
        volumes: vec![Volume { source: "/s".into(), target: "/t".into(), read_only: true }],
    };
    assert_eq!(read(&line).command, Ok(Command::Try(expected)));
    assert_eq!(read(&["try"]).command, Ok(Command::Try(Try::default())));
    assert_eq!(told(&["try", "--rootfs=a", "--tar=b"]).1, 1);
}

#[test]
fn global_flags_are_kept_where_the_command_is_misused() {
    let Invocation { global, command } = read(&["--log", "/l", "--log-format=json", "list", "a"]);
    assert_eq!((global.log, global.log_format), (Some("/l".into()), LogFormat::Json));
    assert!(command.is_err());
    let Invocation { global, command } = read(&["--log", "/l", "--nope"]);
    assert_eq!(global.log, Some("/l".into()));
    assert!(command.is_err());
}

#[test]
fn rootless_is_found_out_unless_told() {
    for (typed, rootless) in [("auto", None), ("AUTO", None), ("true", Some(true)), ("0", Some(false))] {
        let Invocation { global, command } = read(&["--rootless", typed, "list"]);
        assert_eq!((global.rootless, command.is_ok()), (rootless, true), "{typed}");
    }
    assert_eq!(
        told(&["--rootless", "maybe", "list"]).0,
        "--rootless: \"maybe\" is none of true, false and auto"
    );
}

#[test]
fn help_and_version_come_before_the_command() {
    assert_eq!(read(&["--version", "state"]).command, Ok(Command::Version));
    assert_eq!(read(&["-v"]).command, Ok(Command::Version));
    let program = Ok(Command::Help(flags::of_program()));
    for line in [&["--help", "--version", "state"][..], &["-h"], &["help"], &["h"], &[], &["--debug"]] {
        assert_eq!(read(line).command, program, "{line:?}");
    }
    let state = read(&["help", "state", "x"]).command;
    for line in [
        &["state", "--help"][..],
        &["state", "-h", "a", "b"],
        &["h", "state"],
        &["state", "a", "--help=true"],
    ] {
        assert_eq!(read(line).command, state, "{line:?}");
    }
    assert_eq!(
        read(&["ps", "a", "--help"]).command.map(|command| matches!(command, Command::Ps { .. })),
        Ok(true)
    );
}

#[test]
fn bytes_that_are_not_utf_8_are_for_paths() {
    let odd = || OsString::from_vec(b"a\xff".to_vec());
    let line = |words: [OsString; 4]| Invocation::read(words).command;
    let create = line(["create".into(), "--bundle".into(), odd(), "a".into()]);
    assert!(matches!(create, Ok(Command::Create(Create { bundle: Some(bundle), .. })) if *bundle == *odd()));
    let told = |words| line(words).map_err(|misuse| misuse.to_string());
    let refused = "\"a\u{fffd}\" is not UTF-8";
    assert_eq!(told(["create".into(), "--bundle".into(), "b".into(), odd()]), Err(refused.into()));
    assert_eq!(told(["plan".into(), "--id".into(), odd(), "b".into()]), Err(format!("-id: {refused}")));
    assert_eq!(told([odd(), "a".into(), "b".into(), "c".into()]), Err(refused.into()));
    let mut flag = OsString::from("--");
    flag.push(odd());
    assert!(line(["state".into(), flag, "a".into(), "b".into()]).is_err());
}
