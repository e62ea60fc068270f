//! Who joins what others are in is hidden from them until it is the program: `prctl(PR_GET_DUMPABLE)`, asked of the child
//! itself behind each of its system calls.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::json;
use tests::trace::{Standing, look_at_child};
use tests::{Bundle, Invocation, Runtime, needs};

const GET_DUMPABLE: u64 = 3;
const SET_DUMPABLE: u64 = 4;

/// The calls that a change of ids is made of; whose death ends the child is said anew among them, and asked after.
const CHANGING: [i64; 5] =
    [libc::SYS_setgroups, libc::SYS_setresgid, libc::SYS_setresuid, libc::SYS_prctl, libc::SYS_recvfrom];

/// Follows the child of a command. From the call on that is named, or its birth, it must not be dumpable: but for the few
/// calls in which it changes its ids, while it has all its rights and nobody inside as many.
///
/// A host with `fs.suid_dumpable` 1 is played: there each change of ids makes a process dumpable.
fn assert_concealed(command: Invocation<'_>, from: Option<i64>) {
    let (mut begun, mut changing, mut looks) = (from.is_none(), false, 0);
    let mut calls = Vec::new();
    look_at_child(command, |child: &Standing| {
        let call = child.call.unwrap_or(-1);
        begun |= child.call.is_some() && child.call == from;
        if matches!(call, libc::SYS_setresgid | libc::SYS_setresuid) {
            assert_eq!(child.make(libc::SYS_prctl, [SET_DUMPABLE, 1]), 0);
            changing = true;
        }
        changing &= CHANGING.contains(&call);
        if begun && !changing {
            assert_eq!(
                child.make(libc::SYS_prctl, [GET_DUMPABLE, 0]),
                0,
                "behind call {call}, after {calls:?}"
            );
            looks += 1;
        }
        calls.push(call);
    })
    .success();
    assert!(looks > 5 && calls.contains(&libc::SYS_capset), "was not followed: {calls:?}");
}

#[test]
fn root_who_joins_a_container_is_concealed_until_it_is_the_program() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("concealed")
        .shell("exec sleep 1000")
        .edit(|config| config["process"]["oomScoreAdj"] = json!(100));
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    container.start().success();
    for user in ["0", "1000:1000", "0:1000", "1000:0"] {
        assert_concealed(container.command(&["exec", "--user", user, "ID", "/bin/true"]), None);
    }
}

#[test]
fn root_who_joins_a_user_namespace_is_concealed_until_it_is_the_program() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("mapped").shell("exec sleep 1000").edit(|config| {
        let map = json!([{"containerID": 0, "hostID": 300_000, "size": 65536}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
        let list = config["linux"]["namespaces"].as_array_mut().expect("the default has namespaces");
        list.push(json!({"type": "user"}));
    });
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    container.start().success();
    for user in ["0", "1000:1000"] {
        assert_concealed(container.command(&["exec", "--user", user, "ID", "/bin/true"]), None);
    }
}

#[test]
fn root_a_container_that_joins_others_is_concealed_until_it_is_the_program() {
    needs!(Root, Busybox);
    let peer = Bundle::new("peer").shell("exec sleep 1000");
    let inside = peer.container(&Runtime::under_test());
    inside.create().success();
    inside.start().success();
    let pid = inside.pid().expect("the peer runs");
    for (kind, name, from) in [
        ("network", "net", libc::SYS_setns),
        ("ipc", "ipc", libc::SYS_setns),
        ("uts", "uts", libc::SYS_setns),
        // Its parent enters the namespace: it is born there.
        ("pid", "pid", libc::SYS_setsid),
    ] {
        for uid in [0, 1000] {
            let bundle = Bundle::new("joins").edit(|config| {
                config["process"]["user"]["uid"] = json!(uid);
                let list = config["linux"]["namespaces"].as_array_mut().expect("the default has namespaces");
                list.retain(|namespace| namespace["type"] != kind);
                list.push(json!({"type": kind, "path": format!("/proc/{pid}/ns/{name}")}));
            });
            let container = bundle.container(&Runtime::under_test());
            let run = container.command(&["run", "--detach", "--bundle", "BUNDLE", "ID"]);
            assert_concealed(run, Some(from));
            assert!(container.ended());
        }
    }
}
