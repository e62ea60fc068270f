//! Refusals: what is not built, and what would harm, named before anything is done. The first table is also the proof
//! that docs/fields.md gives for the fields that it calls refused.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod property;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use property::{hosts, plan, request};
use serde_json::{Value, json};

/// The smallest document that is planned.
fn base() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/"},
        "root": {"path": "rootfs"},
        "linux": {"namespaces": [{"type": "mount"}]},
    })
}

/// Objects grow together, everything else is replaced.
fn merge(into: &mut Value, fragment: &Value) {
    match (into, fragment) {
        (Value::Object(into), Value::Object(fragment)) => {
            for (key, value) in fragment {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, value) => *into = value.clone(),
    }
}

/// The one line that a document gets on every host, which must be the same.
fn refusal(fragment: &Value) -> String {
    let mut document = base();
    merge(&mut document, fragment);
    let mut lines = hosts().map(|(_, host)| match plan(document.to_string().as_bytes(), &host, &request()) {
        Ok(_) => panic!("planned: {fragment}"),
        Err(line) => line,
    });
    lines.sort();
    assert_eq!(lines[0], lines[1], "{fragment}");
    lines[0].clone()
}

const UNBUILT: &str = "not built yet, see docs/roadmap.md";

/// What is not built: every field of it, and the path that the refusal names.
fn unbuilt() -> Vec<(Value, &'static str)> {
    vec![(
        json!({"linux": {"intelRdt": {
            "closID": "gold", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20", "schemata": ["L3:0=f"],
            "enableMonitoring": true, "enableCMT": true, "enableMBM": true,
        }}}),
        "linux.intelRdt",
    )]
}

/// The rest: the fragment, and what is said after `config.json: `.
#[allow(clippy::too_many_lines, reason = "a table")]
fn others() -> Vec<(Value, &'static str)> {
    let mount = |mount: Value| json!({"mounts": [mount]});
    let rule =
        |rule: Value| json!({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}}});
    vec![
        (
            json!({"linux": {"namespaces": [{"type": "pid"}]}}),
            "linux.namespaces: a mount namespace is needed: without one every mount would be the host's",
        ),
        (
            json!({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "m"}}}),
            "linux.seccomp.listenerMetadata: needs listenerPath",
        ),
        (
            json!({"linux": {"seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/run/listener",
                "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
            }}}),
            "linux.seccomp.syscalls: let neither sendmsg nor write pass, by which the agent's listener is handed over",
        ),
        (
            json!({"linux": {"seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "",
                "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
            }}}),
            "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY needs listenerPath",
        ),
        (
            json!({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 65536}}}),
            "linux.seccomp.defaultErrnoRet: 65536 is more than 4095, the largest error number",
        ),
        (
            rule(json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096})),
            "linux.seccomp.syscalls[0].errnoRet: 4096 is more than 4095, the largest error number",
        ),
        (
            rule(json!({"names": ["read"], "action": "SCMP_ACT_TRACE", "errnoRet": 65536})),
            "linux.seccomp.syscalls[0].errnoRet: 65536 is more than 65535, and a filter's answer holds no more",
        ),
        (
            rule(json!({"names": ["read", ""], "action": "SCMP_ACT_TRAP"})),
            "linux.seccomp.syscalls[0].names[1]: is empty",
        ),
        (
            json!({"linux": {"seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_S390X"],
            }}}),
            "linux.seccomp.architectures[1]: SCMP_ARCH_S390X has another order of bytes than this kernel",
        ),
        (
            json!({"linux": {"seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [
                    {"names": ["read"], "action": "SCMP_ACT_TRAP", "args": [{"index": 1, "value": 5, "op": "SCMP_CMP_EQ"}]},
                    {"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 1, "value": 5, "op": "SCMP_CMP_EQ"}]},
                ],
            }}}),
            "linux.seccomp.syscalls[1]: contradicts syscalls[0] about read",
        ),
        (
            mount(json!({"destination": "/", "type": "tmpfs", "source": "tmpfs"})),
            "mounts[0].destination: is the root file system itself",
        ),
        (
            mount(json!({"destination": "/a/..", "source": "/s", "options": ["bind"]})),
            "mounts[0].destination: is the root file system itself",
        ),
        (
            mount(json!({"destination": "/proc/self/attr", "type": "tmpfs", "source": "tmpfs"})),
            "mounts[0].destination: /proc/self/attr is inside /proc",
        ),
        (
            mount(json!({"destination": "proc/x/../sys/kernel", "source": "/s", "options": ["bind"]})),
            "mounts[0].destination: /proc/sys/kernel is inside /proc",
        ),
        (
            mount(json!({"destination": "/m", "source": "/s"})),
            "mounts[0].type: is missing, and the options say neither bind nor rbind",
        ),
        (
            mount(json!({"destination": "/m", "options": ["rbind"]})),
            "mounts[0].source: a bind mount needs one",
        ),
        (
            mount(json!({"destination": "/m", "type": "bind", "source": "/s", "options": ["size=1m"]})),
            "mounts[0].options: \"size\" is no option of a bind mount",
        ),
        (
            mount(json!({"destination": "/m", "type": "tmpfs", "options": ["ro", "src-nofollow"]})),
            "mounts[0].options[1]: \"src-nofollow\" is an option of a bind mount",
        ),
        (
            mount(
                json!({"destination": "/m", "source": "/s", "options": ["copy-symlink", "bind", "remount"]}),
            ),
            "mounts[0].options[0]: \"copy-symlink\" is an option of a bind mount",
        ),
        (
            mount(json!({"destination": "/m", "type": "bind", "options": ["remount", "size=1m"]})),
            "mounts[0].options: \"size\" is no option of a bind mount",
        ),
        // The hosts of these tests run no security module.
        (
            json!({"process": {"apparmorProfile": "docker-default"}}),
            "process.apparmorProfile: this host does not run AppArmor (/sys/module/apparmor/parameters/enabled)",
        ),
        (
            json!({"process": {"selinuxLabel": "system_u:system_r:container_t:s0"}}),
            "process.selinuxLabel: this host does not run SELinux (/sys/fs/selinux)",
        ),
        (
            json!({"linux": {"mountLabel": "system_u:object_r:container_file_t:s0"}}),
            "linux.mountLabel: this host does not run SELinux (/sys/fs/selinux)",
        ),
        (
            json!({"linux": {"cgroupsPath": "system.slice:cofferdam:web"}}),
            "linux.cgroupsPath: \"system.slice:cofferdam:web\" is slice:prefix:name, which only --systemd-cgroup \
             understands",
        ),
        (
            json!({"linux": {"cgroupsPath": "/"}}),
            "linux.cgroupsPath: \"/\" is no group of the container's own",
        ),
        (
            json!({"linux": {"cgroupsPath": "/a\nb"}}),
            "linux.cgroupsPath: \"/a\\nb\" has a character that no control group may have",
        ),
    ]
}

/// A document with a user namespace in which ten users and groups are, and what is changed in it.
fn mapped(fragment: &Value) -> Value {
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    let mut document = json!({"linux": {
        "namespaces": [{"type": "mount"}, {"type": "user"}], "uidMappings": map, "gidMappings": map,
    }});
    merge(&mut document, fragment);
    document
}

#[test]
fn who_is_not_mapped_is_refused_by_name() {
    let process = |user: Value| json!({"process": {"user": user}});
    let tmpfs =
        |option: &str| json!({"mounts": [{"destination": "/m", "type": "tmpfs", "options": ["ro", option]}]});
    let lines: Vec<Value> = (0..300)
        .map(|n| json!({"containerID": n * 2, "hostID": 3_000_000_000_u32 + n * 2, "size": 1}))
        .collect();
    let from_one = json!([{"containerID": 1, "hostID": 1000, "size": 1}]);
    let table = [
        (process(json!({"uid": 10, "gid": 0})), "process.user.uid: linux.uidMappings maps no user 10"),
        (process(json!({"uid": 0, "gid": 11})), "process.user.gid: linux.gidMappings maps no group 11"),
        (
            process(json!({"uid": 0, "gid": 0, "additionalGids": [9, 10]})),
            "process.user.additionalGids[1]: linux.gidMappings maps no group 10",
        ),
        (tmpfs("uid=10"), "mounts[0].options[1]: linux.uidMappings maps no user 10"),
        (tmpfs("gid=12"), "mounts[0].options[1]: linux.gidMappings maps no group 12"),
        (
            json!({"linux": {"uidMappings": from_one}}),
            "linux.uidMappings: does not map 0: somebody must own what is made in the root",
        ),
        (
            json!({"linux": {"gidMappings": lines}}),
            "linux.gidMappings: is 5045 bytes as text, and the kernel takes 4095",
        ),
    ];
    for (fragment, line) in table {
        assert_eq!(refusal(&mapped(&fragment)), format!("config.json: {line}"), "{fragment}");
    }
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    for (fragment, path) in unbuilt() {
        assert_eq!(refusal(&fragment), format!("config.json: {path}: {UNBUILT}"), "{fragment}");
    }
}

#[test]
fn what_would_harm_is_refused_with_its_reason() {
    for (fragment, line) in others() {
        let told = refusal(&fragment);
        assert_eq!(told, format!("config.json: {line}"), "{fragment}");
    }
}

/// A size belongs to a terminal; without one the specification has it ignored, and engines write it all the same.
#[test]
fn a_console_size_without_a_terminal_means_nothing() {
    let mut document = base();
    merge(&mut document, &json!({"process": {"consoleSize": {"height": 24, "width": 80}}}));
    for (_, host) in hosts() {
        let with = plan(document.to_string().as_bytes(), &host, &request()).expect("it is planned").1;
        let without = plan(base().to_string().as_bytes(), &host, &request()).expect("it is planned").1;
        assert_eq!(with.to_string(), without.to_string());
    }
}

/// Whoever detaches says who gets the terminal, and whoever has none does not.
#[test]
fn a_terminal_has_somebody_at_its_other_end() {
    let mut document = base();
    merge(&mut document, &json!({"process": {"terminal": true}}));
    let mut told = |terminal: bool, detached: bool, socket: bool| {
        document["process"]["terminal"] = json!(terminal);
        let console_socket = socket.then(|| "/run/console".to_owned());
        let request = plan::Request { detached, console_socket, ..request() };
        plan(document.to_string().as_bytes(), &hosts()[0].1, &request).err().unwrap_or_default()
    };
    for (terminal, detached, socket) in
        [(true, true, true), (true, false, false), (false, true, false), (false, false, false)]
    {
        assert_eq!(told(terminal, detached, socket), "");
    }
    let lacking = "cannot allocate tty if cofferdam will detach without setting console socket";
    assert_eq!(told(true, true, false), lacking);
    let superfluous = "cannot use console socket if cofferdam will not detach or allocate tty";
    for (terminal, detached) in [(true, false), (false, true), (false, false)] {
        assert_eq!(told(terminal, detached, true), superfluous);
    }
}

/// docs/fields.md and the tables above name the same fields.
#[test]
fn every_field_that_is_called_refused_is_refused_here() {
    let table = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/fields.md"))
        .expect("the table is there");
    let rows = table.lines().filter(|row| row.starts_with("| `") && row.contains("`plan::refuse`"));
    let refused: BTreeSet<String> = rows
        .filter(|row| row.contains("| refused |"))
        .map(|row| row.trim_start_matches("| `").split('`').next().unwrap_or_default().to_owned())
        .collect();
    let mut seen = BTreeSet::new();
    for (fragment, path) in unbuilt().into_iter().chain(others()) {
        let path = plain(path.split(": ").next().unwrap_or_default());
        let mut fields = BTreeSet::new();
        walk(&fragment, "", &mut fields);
        let below = |field: &&String| {
            field.strip_prefix(&path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        seen.extend(fields.iter().filter(below).cloned());
        // The partner of a map, which cannot stand alone, and what is above the field, are refused with it.
        seen.extend(fields.iter().filter(|field| field.contains("gidMappings")).cloned());
        seen.extend(
            fields
                .iter()
                .filter(|field| path.starts_with(&format!("{field}.")) && refused.contains(*field))
                .cloned(),
        );
    }
    let lacking: Vec<_> = refused.difference(&seen).collect();
    assert!(lacking.is_empty(), "called refused in docs/fields.md, and not proven here: {lacking:#?}");
    assert!(refused.len() > 5, "only {} rows were found", refused.len());
    for (_, path) in unbuilt() {
        let path = plain(path);
        assert!(
            refused.contains(&path) || path.starts_with("linux.namespaces"),
            "refused here, and not called so in docs/fields.md: {path}"
        );
    }
}

/// A path without the numbers of lists.
fn plain(path: &str) -> String {
    path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect()
}

/// All fields of a document, as docs/fields.md writes them: maps whose keys are names of other things add nothing.
fn walk(value: &Value, path: &str, fields: &mut BTreeSet<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| walk(value, path, fields)),
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                if ["linux.netDevices", "linux.timeOffsets"].contains(&path.as_str()) {
                    let named = value.as_object().expect("a map");
                    named.values().for_each(|value| walk(value, &path, fields));
                } else {
                    walk(value, &path, fields);
                }
                fields.insert(path);
            }
        }
        _ => {}
    }
}
