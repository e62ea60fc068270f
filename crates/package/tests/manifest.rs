//! Manifests: what may stand in them, what may not, and what the engine makes of them.
#![allow(clippy::expect_used, reason = "a test states what it expects")]

use std::time::Duration;

use package::{Allowed, Manifest, Mount, Network, Output, Places, Restart, Stop, When};

const LEAST: &str = "name: a\nversion: 0.0.1\nuid: 1\ngid: 1\n";

fn read(text: &str) -> Result<Manifest, String> {
    Manifest::read("a.yaml", text.as_bytes()).map_err(|error| error.to_string())
}

/// What is said of a least manifest with a program and something more.
fn refused(more: &str) -> String {
    let told = read(&format!("{LEAST}init: /a\n{more}")).expect_err(more);
    assert!(!told.contains('\n'), "{told}");
    told
}

/// Every field there is, as the reference's `inspect` tells it.
const FULL: &str = r#"{"name":"full","version":"0.0.1","console":{"permissions":"full"},"init":"/tool","args":["a"],
"env":{"A":"b"},"uid":1000,"gid":1000,"sched":{"policy":{"fifo":{"priority":3}}},"mounts":{"/x":{"type":"bind",
"host":"/lib"},"/t":{"type":"tmpfs","size":20000000},"/r":{"type":"resource","name":"message","version":">=0.0.1",
"dir":"/","options":"nodev,noexec"}},"autostart":"relaxed","cgroups":{"parent":"foo","cpu":{"shares":512},
"memory":{"oom_monitor":true,"memory_hard_limit":20000000}},"network":{"namespace":"foo"},
"seccomp":{"profile":"default","allow":{"clone3":"any","delete_module":{"args":{"index":1,"values":[1],"mask":6}}}},
"selinux":{"mount_context":"a_b:c","exec":null},"capabilities":["CAP_NET_RAW"],"suppl_groups":["log"],
"rlimits":{"nproc":{"soft":10,"hard":null}},"sockets":{"foo":{"type":"stream","mode":432,"uid":1000,"gid":1000}},
"io":{"stdout":"inherit","stderr":"discard"},"custom":5}"#;

#[test]
fn every_field_is_read_from_json() {
    let full = read(FULL).expect("it is good");
    assert_eq!(full.container(), "full:0.0.1");
    assert_eq!(full.console.map(|permissions| permissions.len()), Some(15));
    assert_eq!(full.network, Network::Named("foo".into()));
    assert_eq!(full.mounts["/t"], Mount::Tmpfs { size: 20_000_000 });
    assert_eq!((full.io.stdout, full.io.stderr), (Output::Inherit, Output::Discard));
    let allow = full.seccomp.expect("there is one").allow;
    assert_eq!(allow["clone3"], Allowed::Any);
    assert_eq!(allow["delete_module"], Allowed::Argument { index: 1, values: vec![1], mask: Some(6) });
    assert_eq!(full.rlimits[0].hard, u64::MAX);
    assert_eq!(full.sockets["foo"].mode, 0o660);
    let cgroups = full.cgroups.expect("there are some");
    assert!(cgroups.oom_monitor && cgroups.parent.as_deref() == Some("/foo"));
}

#[test]
fn what_a_client_is_told_is_what_the_reference_tells() {
    let told = Manifest::json(
        b"name: full\nversion: '0.0.1'\nuid: 0x3e8\ngid: 1000\nenv: ~\nsched: {policy: !fifo {priority: 3}}\n\
          network: !namespace foo\nseccomp: {allow: {ioctl: !args {index: 1, values: [0x5401]}, read: any}}\n\
          sockets: {s: {type: stream, mode: 0o660, uid: null}}\ncgroups: {cpu: {cpus: 0, quota: -1}}\n\
          selinux: {mount_context: a, exec: ~}\ncustom: {a: ~, b: 1.5, c: !t {d: True}}\n",
    );
    let expected = concat!(
        r#"{"name":"full","version":"0.0.1","uid":1000,"gid":1000,"sched":{"policy":{"fifo":{"priority":3}}},"#,
        r#""network":{"namespace":"foo"},"seccomp":{"allow":{"ioctl":{"args":{"index":1,"values":[21505]}},"read":"any"}},"#,
        r#""sockets":{"s":{"type":"stream","mode":432}},"cgroups":{"cpu":{"cpus":"0","quota":-1}},"#,
        r#""selinux":{"mount_context":"a"},"custom":{"a":null,"b":1.5,"c":{"t":{"d":true}}}}"#,
    );
    let expected: serde_json::Value = serde_json::from_str(expected).expect("it is JSON");
    assert_eq!(told.expect("it is YAML"), expected);
}

#[test]
fn upkeep_stands_where_the_reference_lets_it_be() {
    let none = read(&format!("{LEAST}init: /a\n")).expect("it is good").upkeep;
    assert_eq!((none.restart.when, none.stop), (When::Never, Stop { signal: 15, timeout: None }));
    let custom = "custom: {cofferdam: {restart: on-failure, restart_delay: 250ms, restart_most: 5s, restart_attempts: 3, \
                  stop_signal: 2, stop_timeout: 1m}}\n";
    let upkeep = read(&format!("{LEAST}init: /a\n{custom}")).expect("it is good").upkeep;
    let expected = Restart {
        when: When::OnFailure,
        delay: Duration::from_millis(250),
        most: Duration::from_secs(5),
        attempts: Some(3),
    };
    assert_eq!(
        (upkeep.restart, upkeep.stop),
        (expected, Stop { signal: 2, timeout: Some(Duration::from_mins(1)) })
    );
    for (more, told) in [
        ("restart: sometimes", "is none of never, on-failure, always"),
        ("restart_delay: soon", "is no length of time"),
        ("stop_signal: 65", "65 is not within 1 and 31"),
        ("restarts: 3", "no such field"),
    ] {
        let refused = refused(&format!("custom: {{cofferdam: {{{more}}}}}\n"));
        assert!(refused.contains(told), "{refused}");
    }
}

#[test]
fn forms_are_read_by_their_tags() {
    let read = read(&format!(
        "{LEAST}init: /a\nsched:\n  policy: !round_robin\n    priority: 99\nnetwork: !namespace foo\nseccomp:\n  allow:\n    \
         read: any\n    ioctl: !args {{index: 1, values: [0x5401]}}\nsockets: {{s: {{type: stream, mode: 0o660}}}}\n"
    ))
    .expect("it is good");
    assert_eq!(read.sched.and_then(|sched| sched.priority), Some(99));
    assert_eq!(read.network, Network::Named("foo".into()));
    let allow = read.seccomp.expect("there is one").allow;
    assert_eq!(allow["ioctl"], Allowed::Argument { index: 1, values: vec![0x5401], mask: None });
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (more, told) in [
        ("env: {NORTHSTAR_NAME: a}", "a.yaml:6:23: env.NORTHSTAR_NAME: is set by the engine"),
        ("bogus: 1", "a.yaml:6:8: bogus: no such field; there are name, version"),
        ("args: [1]", "a.yaml:6:8: args[0]: a text is due: 1 is none without quotes"),
        ("args: a", "a.yaml:6:7: args: a list is due, and this is a word or a number"),
        ("capabilities: [CAP_ALL]", "a.yaml:6:16: capabilities[0]: \"CAP_ALL\" is no capability"),
        ("capabilities: [CAP_KILL, CAP_KILL]", "a.yaml:6:26: capabilities[1]: CAP_KILL stands there twice"),
        ("io: {stdout: pipe}", "a.yaml:6:5: io: the field \"stderr\" is missing"),
        ("mounts: {a: {type: proc}}", "a.yaml:6:13: mounts.a: \"a\" is not absolute"),
        ("mounts: {/a/../b: {type: proc}}", "a.yaml:6:19: mounts[\"/a/../b\"]: \"/a/../b\" leads upwards"),
        (
            "mounts: {/a: {type: nfs}}",
            "a.yaml:6:21: mounts[\"/a\"].type: \"nfs\" is none of bind, dev, persist",
        ),
        ("mounts: {/a: {type: bind}}", "a.yaml:6:14: mounts[\"/a\"]: the field \"host\" is missing"),
        (
            "mounts: {/a: {type: bind, host: /, options: suid}}",
            "a.yaml:6:45: mounts[\"/a\"].options: \"suid\" is none",
        ),
        (
            "mounts: {/a: {type: bind, host: /}, /a-b: {type: bind, host: /}, /a/b: {type: bind, host: /}}",
            "a.yaml:6:72: mounts[\"/a/b\"]: overlaps with the bind mount on \"/a\"",
        ),
        (
            "mounts: {/a: {type: proc}, /a/: {type: proc}}",
            "a.yaml:6:33: mounts[\"/a/\"]: is mounted on twice",
        ),
        (
            "mounts: {/a: {type: resource, name: b, version: '1', dir: /../../etc}}",
            "a.yaml:6:59: mounts[\"/a\"].dir: \"/../../etc\" leads upwards",
        ),
        (
            "mounts: {/a: {type: resource, name: .., version: '1', dir: /}}",
            "a.yaml:6:37: mounts[\"/a\"].name: \"..\" names a directory, and no package",
        ),
        ("mounts: {/a: {type: tmpfs, size: 1.5Q}}", "a.yaml:6:34: mounts[\"/a\"].size: \"1.5Q\" is no size"),
        ("network: bridge", "a.yaml:6:10: network: host, or !namespace with a name, is due"),
        (
            "network: !namespace ../../proc/1/ns/net",
            "a.yaml:6:10: network.namespace: \"../../proc/1/ns/net\" is no name",
        ),
        ("rlimits: {cores: {}}", "a.yaml:6:18: rlimits.cores: no such limit"),
        (
            "custom: {cofferdam: {stop_timeout: 366days}}",
            "a.yaml:6:36: custom.cofferdam.stop_timeout: \"366days\" is longer than 365 days",
        ),
        (
            "rlimits: {core: {soft: 2, hard: 1}}",
            "a.yaml:6:17: rlimits.core: the soft limit is above the hard one",
        ),
        (
            "sched: {policy: !fifo {priority: 100}}",
            "a.yaml:6:34: sched.policy.fifo.priority: 100 is not within 1 and 99",
        ),
        (
            "sched: {policy: !other {nice: -21}}",
            "a.yaml:6:31: sched.policy.other.nice: -21 is not within -20 and 19",
        ),
        (
            "seccomp: {allow: {read: !args {index: 6, mask: 1}}}",
            "a.yaml:6:39: seccomp.allow.read.args.index: 6 is not",
        ),
        (
            "seccomp: {allow: {read: !args {index: 1}}}",
            "a.yaml:6:25: seccomp.allow.read.args: values, a mask",
        ),
        ("seccomp: {profile: docker}", "a.yaml:6:20: seccomp.profile: \"docker\" is none of default"),
        ("selinux: {exec: a-b}", "a.yaml:6:17: selinux.exec: holds more than letters"),
        (
            "sockets: {../x: {type: stream, mode: 0}}",
            "a.yaml:6:17: sockets[\"../x\"]: is no name of a socket",
        ),
        (
            "console: {permissions: [list, all]}",
            "a.yaml:6:31: console.permissions[1]: \"all\" is none of ident",
        ),
        (
            "cgroups: {cpu: {attrs: {../x.y: a}}}",
            "a.yaml:6:33: cgroups.cpu.attrs[\"../x.y\"]: is no file of a controller",
        ),
        ("cgroups: {parent: a/../..}", "a.yaml:6:19: cgroups.parent: \"a/../..\" leads upwards"),
        ("init: /b", "a.yaml:6:1: \"init\" stands there twice"),
        ("env: {A: \"\\0\"}", "a.yaml:6:10: env.A: holds a NUL"),
        ("x: [", "a.yaml:7:1: "),
        ("---\nname: b", "a.yaml:1:1: holds a second document"),
    ] {
        let read = refused(more);
        assert!(read.starts_with(told), "{more}\n  said {read}\n  due  {told}");
    }
}

#[test]
fn required_fields_and_their_bounds() {
    for (text, told) in [
        ("", "a.yaml:1:1: is empty"),
        ("- a", "a.yaml:1:1: a map is due, and this is a list"),
        ("name: a\nversion: 0.0.1\nuid: 1\n", "a.yaml:1:1: the field \"gid\" is missing"),
        ("name: a/b\nversion: 0.0.1\nuid: 1\ngid: 1", "a.yaml:1:7: name: \"a/b\" holds more than letters"),
        ("name: ..\nversion: 0.0.1\nuid: 1\ngid: 1", "a.yaml:1:7: name: \"..\" names a directory"),
        (
            "name: a\nversion: 0.1\nuid: 1\ngid: 1",
            "a.yaml:2:10: version: a text is due: 0.1 is none without quotes",
        ),
        ("name: a\nversion: 1.x.0\nuid: 1\ngid: 1", "a.yaml:2:10: version: \"1.x.0\" is no version"),
        ("name: a\nversion: 0.0.1\nuid: 0\ngid: 1", "a.yaml:3:6: uid: 0 is not within 1 and 65535"),
        ("name: a\nversion: 0.0.1\nuid: 65536\ngid: 1", "a.yaml:3:6: uid: 65536 is out of range"),
        (
            "name: a\nversion: 0.0.1\nuid: 1\ngid: 1\nargs: [a]",
            "a.yaml:5:7: args: a package without init has no use for it",
        ),
    ] {
        let said = read(text).expect_err(text);
        assert!(said.starts_with(told), "{text}\n  said {said}\n  due  {told}");
    }
}

#[test]
fn a_thousand_lists_of_a_thousand_lists_are_refused() {
    let mut bomb = format!("{LEAST}custom:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let before = format!("*a{}", level - 1);
        let all = vec![before; 10].join(", ");
        bomb = format!("{bomb}  a{level}: &a{level} [{all}]\n");
    }
    let told = read(&bomb).expect_err("a bomb");
    assert!(told.ends_with("more than 100000 values, with those that aliases repeat"), "{told}");
    let told = read(&format!("{LEAST}custom: {}", "[".repeat(10_000))).expect_err("a tower");
    assert!(told.starts_with("a.yaml:5:"), "{told}");
    let told = read(&format!("{LEAST}custom: &a [*a]")).expect_err("a snake that bites its tail");
    assert!(told.contains("an alias for what is not whole yet"), "{told}");
    assert!(read(&format!("{LEAST}custom: {{a: &a [x], b: [*a, *a]}}")).is_ok());
}

fn lowered(text: &str) -> spec::Spec {
    let places = Places {
        rootfs: "/mnt".into(),
        data: Some("/data/a".into()),
        resources: [("/r".into(), "/run/message/lib".into())].into(),
        groups: [("log".into(), 7)].into(),
        cgroup: Some("northstar".into()),
        present: vec!["/lib".into()],
        is_spared: true,
        files: Some((1024, 4096)),
        console: Some(3),
        sockets: [("in".into(), 4), ("out".into(), 5)].into(),
        socket_directory: Some("/run/sockets".into()),
    };
    let spec = read(text).expect("it is good").to_spec(&places).expect("it is carried out");
    assert_eq!(spec.check(), Ok(()));
    // What the engine reads is the document, and not our values.
    assert_eq!(spec::Spec::parse(spec.to_pretty().as_bytes()), Ok(spec.clone()));
    spec
}

#[test]
fn a_manifest_becomes_a_document_for_the_engine() {
    let text = format!(
        "{LEAST}init: /a\nargs: [b]\nenv: {{A: c}}\nsuppl_groups: [log]\ncapabilities: [CAP_KILL]\nmounts:\n  /x: {{type: bind, host: \
         /lib}}\n  /y: {{type: bind, host: /absent}}\n  /t: {{type: tmpfs, size: 20M}}\n  /p: {{type: persist}}\n  /r: {{type: \
         resource, name: message, version: '>=0.0.1', dir: /lib, options: 'rw,nodev'}}\n  /proc: {{type: proc}}\n"
    );
    let spec = lowered(&text);
    let process = spec.process.expect("there is one");
    assert_eq!(process.args, ["/a", "b"]);
    assert_eq!(
        process.env,
        ["A=c", "NORTHSTAR_CONTAINER=a:0.0.1", "NORTHSTAR_NAME=a", "NORTHSTAR_VERSION=0.0.1"]
    );
    assert_eq!(process.user.additional_gids, [7]);
    assert!(process.no_new_privileges);
    assert_eq!(process.oom_score_adj, Some(0));
    let mounts: Vec<(&str, &str, String)> = spec
        .mounts
        .iter()
        .map(|one| {
            (one.destination.as_str(), one.source.as_deref().unwrap_or_default(), one.options.join(","))
        })
        .collect();
    assert_eq!(
        mounts,
        [
            ("/dev", "tmpfs", "nosuid,noexec,mode=755,size=64k".to_owned()),
            ("/p", "/data/a", "bind,rprivate,rw,noexec,nosuid,nodev".to_owned()),
            ("/proc", "proc", "ro,nosuid,noexec,nodev".to_owned()),
            ("/r", "/run/message/lib", "bind,rprivate,ro,nodev".to_owned()),
            ("/t", "tmpfs", "nosuid,noexec,nodev,mode=1777,size=20000000".to_owned()),
            ("/x", "/lib", "bind,rprivate,ro".to_owned()),
        ]
    );
    assert_eq!(spec.linux.and_then(|linux| linux.cgroups_path).as_deref(), Some("/northstar/a"));
}

#[test]
fn what_a_daemon_lends_is_told_to_who_asked_for_it() {
    let socket = "{type: stream, mode: 0}";
    let spec = lowered(&format!(
        "{LEAST}init: /a\nconsole: {{permissions: full}}\nsockets: {{out: {socket}, in: {socket}}}\nmounts: {{/s: {{type: sockets}}}}\n"
    ));
    let env = spec.process.expect("there is one").env;
    assert_eq!(env[3..], ["NORTHSTAR_CONSOLE=3", "NORTHSTAR_SOCKET_in=4", "NORTHSTAR_SOCKET_out=5"]);
    let mount = &spec.mounts[1];
    assert_eq!(mount.source.as_deref(), Some("/run/sockets"));
    assert_eq!(mount.options.join(","), "bind,rprivate,ro,noexec,nosuid,nodev");
}

#[test]
fn what_only_a_daemon_can_do_is_refused_by_name() {
    for (more, told) in [
        ("console: {permissions: full}", "console: there is no daemon here that could answer"),
        ("sockets: {a: {type: stream, mode: 0}}", "sockets: nobody here makes them; that is a daemon's work"),
        (
            "mounts: {/a: {type: sockets}}",
            "mounts[\"/a\"]: sockets: there is no daemon here that could have made any",
        ),
        (
            "sched: {policy: deadline}",
            "sched.policy: deadline: the format has no place for its runtime and period",
        ),
        ("suppl_groups: [nobody-knows]", "suppl_groups: this host has no group \"nobody-knows\""),
        ("mounts: {/a: {type: persist}}", "mounts[\"/a\"]: a directory for what persists is due"),
    ] {
        let manifest = read(&format!("{LEAST}init: /a\n{more}")).expect("it is good");
        let error = manifest.to_spec(&Places::default()).expect_err(more);
        assert_eq!(error.to_string(), told);
    }
    let resource = read(LEAST).expect("it is good");
    let error = resource.to_spec(&Places::default()).expect_err("no program");
    assert_eq!(error.to_string(), "a:0.0.1 is a resource: it has no program that could be run");
}

#[test]
fn a_filter_allows_every_value_and_lets_a_program_fork() {
    let text = format!(
        "{LEAST}init: /a\nseccomp: {{profile: default, allow: {{socket: !args {{index: 0, values: [1, 2], mask: 4}}}}}}\n"
    );
    let seccomp = lowered(&text).linux.and_then(|linux| linux.seccomp).expect("there is one");
    let of = |name: &str| {
        seccomp.syscalls.iter().filter(|rule| rule.names.iter().any(|one| one == name)).collect::<Vec<_>>()
    };
    // The default profile allows sockets altogether; three rules more come from the manifest.
    assert_eq!(of("socket").len(), 4);
    assert_eq!(of("clone")[0].args[0].value, 0x7e02_0000);
    assert_eq!((of("clone3")[0].action.as_str(), of("clone3")[0].errno_ret), ("SCMP_ACT_ERRNO", Some(38)));
    assert_eq!(of("personality").len(), 5);
    let bare = lowered(&format!("{LEAST}init: /a\nseccomp: {{}}\n")).linux.and_then(|linux| linux.seccomp);
    assert_eq!(bare.expect("there is one").syscalls.len(), 1);
}

/// What is kept for aliases is a copy each, and an anchor within an anchor is in both.
#[test]
fn anchors_within_anchors_are_bounded() {
    let custom = |depth: usize, values: usize| {
        let begin: Vec<String> = (0..depth).map(|level| format!("&a{level} [")).collect();
        let begin = begin.concat();
        format!("{LEAST}custom: {begin}{}{}\n", "a,".repeat(values), "]".repeat(depth))
    };
    assert!(Manifest::read("a.yaml", custom(40, 2000).as_bytes()).is_ok());
    let told =
        Manifest::read("a.yaml", custom(40, 40_000).as_bytes()).expect_err("it is too much").to_string();
    assert!(told.ends_with("anchors within anchors, of more than 100000 values"), "{told}");
}

/// Each key of a map is looked up once, and not compared with all those before it.
#[test]
fn a_map_of_many_keys_takes_no_longer_than_its_text() {
    let keys: Vec<String> = (0..45_000).map(|key| format!("  k{key}: a\n")).collect();
    let keys = keys.concat();
    let begun = std::time::Instant::now();
    assert!(Manifest::read("a.yaml", format!("{LEAST}custom:\n{keys}").as_bytes()).is_ok());
    // Compared with each other they took two minutes in a build for tests.
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    let twice = format!("{LEAST}custom:\n{keys}  k7: b\n");
    let told = Manifest::read("a.yaml", twice.as_bytes()).expect_err("one comes twice").to_string();
    assert!(told.ends_with("\"k7\" stands there twice"), "{told}");
}
