//! The default profiles of Docker and Podman, as their engines make them up for a container.
#![allow(dead_code, reason = "each test takes what it needs")]

use filter::seccomp::{Action, Arch, Condition, Operator, Profile, Rule};
use serde_json::Value;

/// Both, by name, as published.
pub(crate) fn published() -> [(&'static str, Value); 2] {
    let read = |text| serde_json::from_str(text).expect("a published profile");
    [
        ("docker", read(include_str!("../profiles/docker.json"))),
        ("podman", read(include_str!("../profiles/podman.json"))),
    ]
}

/// What Docker gives a container that asks for nothing.
pub(crate) const USUAL: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

fn list<'a>(of: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    of[key].as_array().into_iter().flatten().map(|word| word.as_str().expect("a word"))
}

fn action(of: &Value, word: &str, number: &str) -> Action {
    let number = of[number].as_u64().map(|number| u16::try_from(number).expect("an error number"));
    Action::parse(of[word].as_str().expect("an action"), number).expect("a known action")
}

/// A published profile for a machine and capabilities; `goarch` is Go's name of the machine. Kernels are new enough.
pub(crate) fn profile<'a>(
    from: &'a Value,
    native: Arch,
    goarch: &str,
    holds: impl Fn(&str) -> bool,
) -> Profile<'a> {
    let known = |name: &str| Arch::parse(name).expect("a known architecture");
    let map = from["archMap"].as_array().expect("architectures").iter();
    let entry = map.into_iter().find(|entry| entry["architecture"] == native.name()).expect("the machine");
    let arches = [native].into_iter().chain(list(entry, "subArchitectures").map(known)).collect();
    let rules = from["syscalls"].as_array().expect("rules").iter();
    let rules = rules.filter(|rule| {
        let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
        list(includes, "caps").all(&holds)
            && !list(excludes, "caps").any(&holds)
            && (includes["arches"].is_null() || list(includes, "arches").any(|arch| arch == goarch))
            && list(excludes, "arches").all(|arch| arch != goarch)
    });
    let rules = rules.map(|rule| Rule {
        names: list(rule, "names").collect(),
        action: action(rule, "action", "errnoRet"),
        conditions: rule["args"].as_array().into_iter().flatten().map(condition).collect(),
    });
    Profile { default: action(from, "defaultAction", "defaultErrnoRet"), arches, rules: rules.collect() }
}

fn condition(from: &Value) -> Condition {
    Condition {
        index: from["index"].as_u64().and_then(|index| index.try_into().ok()).expect("an index"),
        operator: Operator::parse(from["op"].as_str().expect("an operator")).expect("a known operator"),
        value: from["value"].as_u64().expect("a value"),
        second: from["valueTwo"].as_u64().unwrap_or(0),
    }
}
