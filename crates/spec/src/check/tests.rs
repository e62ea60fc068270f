#![allow(clippy::expect_used, reason = "a test states what it expects")]

use crate::Spec;

/// What is said about the smallest good document with `fields` in place of its own, `null` taking a field away.
fn said(fields: &str) -> String {
    let mut document: serde_json::Value =
        serde_json::from_str(SMALLEST).expect("the smallest document is JSON");
    let fields: serde_json::Value = serde_json::from_str(fields).expect("the fields are JSON");
    merge(&mut document, fields);
    let spec = Spec::parse(document.to_string().as_bytes()).expect("the document parses");
    spec.check().err().map_or_else(String::new, |invalid| invalid.to_string())
}

fn merge(into: &mut serde_json::Value, from: serde_json::Value) {
    match (into, from) {
        (serde_json::Value::Object(into), serde_json::Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

const SMALLEST: &str = r#"{
    "ociVersion": "1.3.0",
    "process": {"args": ["sh"], "cwd": "/"},
    "root": {"path": "rootfs"},
    "linux": {"namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "ipc"}, {"type": "network"}]}
}"#;

/// Each fault beside what is said about it; the name of the test is what docs/fields.md points to.
macro_rules! refused {
    ($($test:ident: $($fields:expr => $said:expr),+ $(,)?;)+) => {$(
        #[test]
        fn $test() {
            $(assert_eq!(said($fields), $said, "{}", $fields);)+
        }
    )+};
}

refused! {
    the_smallest_document_passes: "{}" => "";
    a_version_is_semantic_and_begins_with_one:
        r#"{"ociVersion":null}"# => "ociVersion: is missing",
        r#"{"ociVersion":"1.0"}"# => r#"ociVersion: "1.0" is not a semantic version such as 1.3.0"#,
        r#"{"ociVersion":"1.0.01"}"# => r#"ociVersion: "1.0.01" is not a semantic version such as 1.3.0"#,
        r#"{"ociVersion":"1.0.0-"}"# => r#"ociVersion: "1.0.0-" is not a semantic version such as 1.3.0"#,
        r#"{"ociVersion":"1.0.0-01"}"# => r#"ociVersion: "1.0.0-01" is not a semantic version such as 1.3.0"#,
        r#"{"ociVersion":"2.0.0"}"# => r#"ociVersion: "2.0.0" is not a version 1 document"#,
        r#"{"ociVersion":"1.0.2-dev"}"# => "",
        r#"{"ociVersion":"1.99.0-rc.1+build.01"}"# => "";
    a_root_has_a_path:
        r#"{"root":null}"# => "root: is missing",
        r#"{"root":{"path":""}}"# => "root.path: is empty",
        r#"{"root":{"path":"a\u0000b"}}"# => "root.path: holds a NUL byte";
    a_process_has_arguments_and_a_directory:
        r#"{"process":null}"# => "process: is missing",
        r#"{"process":{"args":[]}}"# => "process.args: is empty: there is no program to run",
        r#"{"process":{"args":["a","\u0000"]}}"# => "process.args[1]: holds a NUL byte",
        r#"{"process":{"cwd":null}}"# => "process.cwd: is empty",
        r#"{"process":{"cwd":"home"}}"# => r#"process.cwd: "home" is not absolute"#,
        r#"{"process":{"cwd":"/a\u0000"}}"# => "process.cwd: holds a NUL byte";
    a_user_is_no_minus_one:
        r#"{"process":{"user":{"uid":4294967295}}}"# => "process.user.uid: 4294967295 is no id",
        r#"{"process":{"user":{"gid":4294967295}}}"# => "process.user.gid: 4294967295 is no id",
        r#"{"process":{"user":{"additionalGids":[1,4294967295]}}}"# => "process.user.additionalGids[1]: 4294967295 is no id";
    a_variable_has_a_name_and_a_value:
        r#"{"process":{"env":["A=1","B"]}}"# => r#"process.env[1]: "B" is not NAME=VALUE"#,
        r#"{"process":{"env":["=1"]}}"# => r#"process.env[0]: "=1" has no name before the ="#,
        r#"{"process":{"env":["A=\u0000"]}}"# => "process.env[0]: holds a NUL byte",
        r#"{"process":{"env":["A=1","A=2","B==",""]}}"# => r#"process.env[3]: "" is not NAME=VALUE"#,
        r#"{"process":{"env":["A=1","A=2","B=="]}}"# => "";
    unknown_capabilities_pass:
        r#"{"process":{"capabilities":{"bounding":["CAP_FLY","CAP_FLY"]}}}"# => "";
    a_limit_is_listed_once_and_below_its_ceiling:
        r#"{"process":{"rlimits":[{"type":"RLIMIT_NOFILE","soft":1,"hard":1},{"type":"RLIMIT_NOFILE","soft":1,"hard":1}]}}"#
            => "process.rlimits[1]: RLIMIT_NOFILE is listed twice",
        r#"{"process":{"rlimits":[{"type":"RLIMIT_CORE","soft":2,"hard":1}]}}"#
            => "process.rlimits[0]: soft limit 2 is above hard limit 1";
    oom_score_adj_has_a_range:
        r#"{"process":{"oomScoreAdj":-1001}}"# => "process.oomScoreAdj: -1001 is not from -1000 to 1000",
        r#"{"process":{"oomScoreAdj":1000}}"# => "";
    a_scheduler_is_one_that_the_kernel_has:
        r#"{"process":{"scheduler":{"policy":"SCHED_BEST"}}}"# => r#"process.scheduler.policy: expected one of SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_ISO, SCHED_IDLE, SCHED_DEADLINE, not "SCHED_BEST""#,
        r#"{"process":{"scheduler":{"policy":"SCHED_OTHER","nice":20}}}"# => "process.scheduler.nice: 20 is not from -20 to 19",
        r#"{"process":{"scheduler":{"policy":"SCHED_OTHER","priority":1}}}"# => "process.scheduler.priority: needs SCHED_FIFO or SCHED_RR, not SCHED_OTHER",
        r#"{"process":{"scheduler":{"policy":"SCHED_FIFO","runtime":1}}}"# => "process.scheduler.runtime: needs SCHED_DEADLINE, not SCHED_FIFO",
        r#"{"process":{"scheduler":{"policy":"SCHED_FIFO","priority":1,"flags":["X"]}}}"# => r#"process.scheduler.flags[0]: expected one of SCHED_FLAG_RESET_ON_FORK, SCHED_FLAG_RECLAIM, SCHED_FLAG_DL_OVERRUN, SCHED_FLAG_KEEP_POLICY, SCHED_FLAG_KEEP_PARAMS, SCHED_FLAG_UTIL_CLAMP_MIN, SCHED_FLAG_UTIL_CLAMP_MAX, not "X""#,
        r#"{"process":{"scheduler":{"policy":"SCHED_DEADLINE","runtime":1,"deadline":2,"period":3}}}"# => "";
    an_io_priority_has_a_class_and_a_range:
        r#"{"process":{"ioPriority":{"class":"BEST"}}}"# => r#"process.ioPriority.class: expected one of IOPRIO_CLASS_RT, IOPRIO_CLASS_BE, IOPRIO_CLASS_IDLE, not "BEST""#,
        r#"{"process":{"ioPriority":{"class":"IOPRIO_CLASS_BE","priority":8}}}"# => "process.ioPriority.priority: 8 is not from 0 to 7";
    an_affinity_is_a_list_of_numbers:
        r#"{"process":{"execCPUAffinity":{"initial":"0-3, 7,","final":"3-1"}}}"# => r#"process.execCPUAffinity.final: "3-1" is not a number or a range such as 0-3"#,
        r#"{"process":{"execCPUAffinity":{"initial":"+1"}}}"# => r#"process.execCPUAffinity.initial: "+1" is not a number or a range such as 0-3"#;
    a_hostname_needs_its_namespace_and_fits:
        r#"{"hostname":"a","linux":{"namespaces":[]}}"# => "hostname: needs a uts namespace, and linux.namespaces has none",
        r#"{"domainname":"a","linux":null}"# => "domainname: needs a uts namespace, and linux.namespaces has none",
        r#"{"hostname":"a\u0000b"}"# => "hostname: holds a NUL byte",
        r#"{"hostname":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}"# => "hostname: is 65 bytes long, the kernel takes 64",
        r#"{"hostname":"","linux":{"namespaces":[]}}"# => "";
    a_mount_has_a_destination:
        r#"{"mounts":[{"destination":""}]}"# => "mounts[0].destination: is empty",
        r#"{"mounts":[{"destination":"/a","type":"tm\u0000pfs"}]}"# => "mounts[0].type: holds a NUL byte",
        r#"{"mounts":[{"destination":"/a","options":["ro","\u0000"]}]}"# => "mounts[0].options[1]: holds a NUL byte",
        r#"{"mounts":[{"destination":"relative","type":"tmpfs"},{"destination":"relative","type":"tmpfs"}]}"# => "";
    a_bind_mount_takes_no_options_of_file_systems:
        r#"{"mounts":[{"destination":"/a","source":"/b","options":["rbind","ro","size=1"]}]}"# => r#"mounts[0].options[2]: "size=1" is an option of a file system, which a bind mount does not make"#;
    only_bind_mounts_map_ids_and_both_kinds:
        r#"{"mounts":[{"destination":"/a","options":["bind"],"uidMappings":[{"containerID":0,"hostID":0,"size":1}]}]}"# => "mounts[0].gidMappings: is missing beside uidMappings",
        r#"{"mounts":[{"destination":"/a","options":["bind"],"gidMappings":[{"containerID":0,"hostID":0,"size":1}]}]}"# => "mounts[0].uidMappings: is missing beside gidMappings",
        r#"{"mounts":[{"destination":"/a","type":"tmpfs","options":["idmap"]}]}"# => "mounts[0]: only a bind mount can map ids",
        r#"{"mounts":[{"destination":"/a","options":["bind","ridmap"]}]}"# => "mounts[0].options[1]: there are neither mappings nor a user namespace to take them from";
    a_hook_has_an_absolute_path_and_time:
        r#"{"hooks":{"prestart":[{"path":"true"}]}}"# => r#"hooks.prestart[0].path: "true" is not absolute"#,
        r#"{"hooks":{"poststop":[{"path":"/bin/true","timeout":0}]}}"# => "hooks.poststop[0].timeout: 0 is not above 0",
        r#"{"hooks":{"createContainer":[{"path":"/bin/true","args":["\u0000"]}]}}"# => "hooks.createContainer[0].args[0]: holds a NUL byte",
        r#"{"hooks":{"startContainer":[{"path":"/bin/true","env":["\u0000"]}]}}"# => "hooks.startContainer[0].env[0]: holds a NUL byte",
        r#"{"hooks":{"createRuntime":[{"path":"/bin/true"},{"path":""}]}}"# => "hooks.createRuntime[1].path: is empty",
        r#"{"hooks":{"poststart":[{"path":"/\u0000"}]}}"# => "hooks.poststart[0].path: holds a NUL byte";
    mappings_need_a_user_namespace_and_do_not_overlap:
        r#"{"linux":{"uidMappings":[{"containerID":0,"hostID":0,"size":1}]}}"# => "linux.uidMappings: needs a user namespace, and linux.namespaces has none",
        r#"{"linux":{"gidMappings":[{"containerID":0,"hostID":0,"size":0}]}}"# => "linux.gidMappings[0].size: is 0",
        r#"{"linux":{"uidMappings":[{"containerID":0,"hostID":4294967290,"size":6}]}}"# => "linux.uidMappings[0]: reaches past the last id, 4294967294",
        r#"{"linux":{"uidMappings":[{"containerID":5,"hostID":50,"size":5},{"containerID":0,"hostID":0,"size":6}]}}"# => "linux.uidMappings[1]: overlaps with line 0",
        r#"{"linux":{"namespaces":[{"type":"user"}]}}"# => "linux.namespaces[0]: a new user namespace needs linux.uidMappings and linux.gidMappings";
    a_namespace_is_listed_once:
        r#"{"linux":{"namespaces":[{"type":"mount"},{"type":"pid"},{"type":"mount"}]}}"# => r#"linux.namespaces[2]: "mount" is listed twice"#,
        r#"{"linux":{"namespaces":[{"type":"network","path":"netns/blue"}]}}"# => r#"linux.namespaces[0].path: "netns/blue" is not absolute"#,
        r#"{"linux":{"namespaces":[{"type":"network","path":"/run/\u0000"}]}}"# => "linux.namespaces[0].path: holds a NUL byte";
    a_sysctl_belongs_to_a_namespace_of_the_container:
        r#"{"linux":{"sysctl":{"kernel.core_pattern":"x"}}}"# => r#"linux.sysctl["kernel.core_pattern"]: would change the host: it belongs to no namespace"#,
        r#"{"linux":{"sysctl":{"net/../kernel/core_pattern":"x"}}}"# => r#"linux.sysctl["net/../kernel/core_pattern"]: is no name of a kernel parameter"#,
        r#"{"linux":{"sysctl":{"kernel.hostname":"x"}}}"# => r#"linux.sysctl["kernel.hostname"]: is set by hostname"#,
        r#"{"linux":{"sysctl":{"net.ipv4.ip_forward":"1"},"namespaces":[]}}"# => r#"linux.sysctl["net.ipv4.ip_forward"]: would change the host: there is no network namespace"#,
        r#"{"linux":{"sysctl":{"fs.mqueue.msg_max":"1"},"namespaces":[]}}"# => r#"linux.sysctl["fs.mqueue.msg_max"]: would change the host: there is no ipc namespace"#,
        r#"{"linux":{"sysctl":{"user.max_mnt_namespaces":"1"}}}"# => r#"linux.sysctl["user.max_mnt_namespaces"]: would change the host: there is no user namespace"#,
        r#"{"linux":{"sysctl":{"kernel.sem":"\u0000"}}}"# => r#"linux.sysctl["kernel.sem"]: holds a NUL byte"#,
        r#"{"linux":{"sysctl":{"kernel/shmmax":"1","net.ipv4.ip_forward":"1","kernel.domainname":"x","fs/mqueue/msg_max":"1"}}}"# => "";
    a_device_rule_names_what_it_means:
        r#"{"linux":{"resources":{"devices":[{"allow":true}]}}}"# => "linux.resources.devices[0].access: is missing",
        r#"{"linux":{"resources":{"devices":[{"allow":true,"access":"xy"}]}}}"# => r#"linux.resources.devices[0].access: "xy" has none of r, w and m"#,
        r#"{"linux":{"resources":{"devices":[{"allow":true,"access":"r","type":"p"}]}}}"# => r#"linux.resources.devices[0].type: expected one of a, b, c, not "p""#,
        r#"{"linux":{"resources":{"devices":[{"allow":true,"access":"r","type":"c","major":-1,"minor":-2}]}}}"# => "linux.resources.devices[0].minor: is below -1, which stands for all";
    resources_name_files_that_exist:
        r#"{"linux":{"resources":{"unified":{"../memory.max":"1"}}}}"# => r#"linux.resources.unified["../memory.max"]: is not the name of a file"#,
        r#"{"linux":{"resources":{"unified":{"memory.max":"\u0000"}}}}"# => r#"linux.resources.unified["memory.max"]: holds a NUL byte"#,
        r#"{"linux":{"resources":{"hugepageLimits":[{"pageSize":"2MB/../x","limit":1}]}}}"# => r#"linux.resources.hugepageLimits[0].pageSize: "2MB/../x" is no size such as 64KB, 2MB or 1GB"#,
        r#"{"linux":{"resources":{"hugepageLimits":[{"pageSize":"2MB","limit":1}]}}}"# => "",
        r#"{"linux":{"resources":{"cpu":{"cpus":"0\u0000"}}}}"# => "linux.resources.cpu.cpus: holds a NUL byte",
        r#"{"linux":{"resources":{"cpu":{"mems":"0\u0000"}}}}"# => "linux.resources.cpu.mems: holds a NUL byte",
        r#"{"linux":{"resources":{"network":{"priorities":[{"name":"a b","priority":1}]}}}}"# => r#"linux.resources.network.priorities[0].name: "a b" is no name of a network interface"#,
        r#"{"linux":{"cgroupsPath":"/a\u0000"}}"# => "linux.cgroupsPath: holds a NUL byte";
    a_device_has_a_path_and_numbers:
        r#"{"linux":{"devices":[{"path":"dev/x","type":"c","major":1,"minor":3}]}}"# => r#"linux.devices[0].path: "dev/x" is not absolute"#,
        r#"{"linux":{"devices":[{"path":"/dev/x","type":"c","major":-1,"minor":3}]}}"# => "linux.devices[0].major: -1 is not from 0 to 4095",
        r#"{"linux":{"devices":[{"path":"/dev/x","type":"b","major":1,"minor":1048576}]}}"# => "linux.devices[0].minor: 1048576 is not from 0 to 1048575",
        r#"{"linux":{"devices":[{"path":"/dev/x","type":"p","uid":4294967295}]}}"# => "linux.devices[0].uid: 4294967295 is no id",
        r#"{"linux":{"devices":[{"path":"/dev/x","type":"p","fileMode":438}]}}"# => "";
    network_devices_have_names_that_do_not_collide:
        r#"{"linux":{"netDevices":{"eth0":{}},"namespaces":[]}}"# => "linux.netDevices: needs a network namespace, and linux.namespaces has none",
        r#"{"linux":{"netDevices":{"a/b":{}}}}"# => r#"linux.netDevices["a/b"]: "a/b" is no name of a network interface"#,
        r#"{"linux":{"netDevices":{"eth0":{"name":"sixteen-letters-"}}}}"# => r#"linux.netDevices.eth0.name: "sixteen-letters-" is no name of a network interface"#,
        r#"{"linux":{"netDevices":{"eth0":{"name":"in"},"eth1":{"name":"in"}}}}"# => r#"linux.netDevices.eth1.name: "in" is taken by another device"#,
        r#"{"linux":{"netDevices":{"eth0":{"name":"in%d"},"eth1":{"name":"in%d"}}}}"# => "";
    a_filter_uses_words_that_exist:
        r#"{"linux":{"seccomp":{"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}}}"# => r#"linux.seccomp.defaultAction: expected one of SCMP_ACT_ALLOW, SCMP_ACT_ERRNO, SCMP_ACT_KILL, SCMP_ACT_KILL_PROCESS, SCMP_ACT_KILL_THREAD, SCMP_ACT_LOG, SCMP_ACT_NOTIFY, SCMP_ACT_TRACE, SCMP_ACT_TRAP, not """#,
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_NOTIFY"}}}"# => "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY would also stop the hand-over to the agent",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","flags":["F"]}}}"# => r#"linux.seccomp.flags[0]: expected one of SECCOMP_FILTER_FLAG_TSYNC, SECCOMP_FILTER_FLAG_SPEC_ALLOW, SECCOMP_FILTER_FLAG_LOG, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, not "F""#,
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","listenerMetadata":"m"}}}"# => "linux.seccomp.listenerMetadata: needs listenerPath",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/\u0000"}}}"# => "linux.seccomp.listenerPath: holds a NUL byte",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}]}}}"# => "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY needs listenerPath",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/s","syscalls":[{"names":["read","write"],"action":"SCMP_ACT_NOTIFY"}]}}}"# => "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY cannot be used for the write syscall: it would also stop our own report",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_KILL","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}}}"# => "linux.seccomp.syscalls[0].args[0].index: 6 is not from 0 to 5",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_KILL","args":[{"index":5,"value":0,"op":"EQ"}]}]}}}"# => r#"linux.seccomp.syscalls[0].args[0].op: expected one of SCMP_CMP_EQ, SCMP_CMP_GE, SCMP_CMP_GT, SCMP_CMP_LE, SCMP_CMP_LT, SCMP_CMP_MASKED_EQ, SCMP_CMP_NE, not "EQ""#,
        r#"{"linux":{"seccomp":{}}}"# => "";
    propagation_is_one_of_eight_words:
        r#"{"linux":{"rootfsPropagation":"ro"}}"# => r#"linux.rootfsPropagation: "ro" is no kind of propagation"#,
        r#"{"linux":{"rootfsPropagation":"runbindable"}}"# => "";
    masks_are_absolute_and_need_a_mount_namespace:
        r#"{"linux":{"maskedPaths":["/proc/kcore","proc/keys"]}}"# => r#"linux.maskedPaths[1]: "proc/keys" is not absolute"#,
        r#"{"linux":{"readonlyPaths":["/proc/\u0000"]}}"# => "linux.readonlyPaths[0]: holds a NUL byte",
        r#"{"linux":{"readonlyPaths":["/proc/sys"],"namespaces":[]}}"# => "linux.readonlyPaths: needs a mount namespace, and linux.namespaces has none",
        r#"{"linux":{"maskedPaths":["/proc/kcore","/proc/kcore"]}}"# => "";
    labels_are_clean:
        r#"{"process":{"apparmorProfile":"\u0000"}}"# => "process.apparmorProfile: holds a NUL byte",
        r#"{"process":{"selinuxLabel":"\u0000"}}"# => "process.selinuxLabel: holds a NUL byte",
        r#"{"linux":{"mountLabel":"\u0000"}}"# => "linux.mountLabel: holds a NUL byte";
    a_class_of_service_is_a_directory_name:
        r#"{"linux":{"intelRdt":{"closID":"a/b"}}}"# => r#"linux.intelRdt.closID: "a/b" is not the name of a directory"#,
        r#"{"linux":{"intelRdt":{"closID":".."}}}"# => r#"linux.intelRdt.closID: ".." is not the name of a directory"#,
        r#"{"linux":{"intelRdt":{"schemata":["L3:0=f","\u0000"]}}}"# => "linux.intelRdt.schemata[1]: holds a NUL byte",
        r#"{"linux":{"intelRdt":{"closID":"/"}}}"# => "";
    a_memory_policy_has_the_nodes_that_its_mode_needs:
        r#"{"linux":{"memoryPolicy":{"mode":"MPOL_X"}}}"# => r#"linux.memoryPolicy.mode: expected one of MPOL_DEFAULT, MPOL_PREFERRED, MPOL_BIND, MPOL_INTERLEAVE, MPOL_LOCAL, MPOL_PREFERRED_MANY, MPOL_WEIGHTED_INTERLEAVE, not "MPOL_X""#,
        r#"{"linux":{"memoryPolicy":{"mode":"MPOL_BIND"}}}"# => "linux.memoryPolicy.nodes: MPOL_BIND needs at least one",
        r#"{"linux":{"memoryPolicy":{"mode":"MPOL_LOCAL","nodes":"0"}}}"# => "linux.memoryPolicy.nodes: MPOL_LOCAL takes no nodes",
        r#"{"linux":{"memoryPolicy":{"mode":"MPOL_BIND","nodes":"x"}}}"# => r#"linux.memoryPolicy.nodes: "x" is not a number or a range such as 0-3"#,
        r#"{"linux":{"memoryPolicy":{"mode":"MPOL_BIND","nodes":"0","flags":["F"]}}}"# => r#"linux.memoryPolicy.flags[0]: expected one of MPOL_F_NUMA_BALANCING, MPOL_F_RELATIVE_NODES, MPOL_F_STATIC_NODES, not "F""#,
        r#"{"linux":{"memoryPolicy":{"mode":"MPOL_PREFERRED"}}}"# => "";
    a_personality_is_one_of_two:
        r#"{"linux":{"personality":{"domain":"BSD"}}}"# => r#"linux.personality.domain: expected one of LINUX, LINUX32, not "BSD""#,
        r#"{"linux":{"personality":{"domain":"LINUX32","flags":["F"]}}}"# => "";
    clocks_are_set_in_a_new_time_namespace_only:
        r#"{"linux":{"timeOffsets":{"monotonic":{"secs":1}}}}"# => "linux.timeOffsets: needs a time namespace, and linux.namespaces has none",
        r#"{"linux":{"timeOffsets":{"monotonic":{"secs":1}},"namespaces":[{"type":"time","path":"/proc/1/ns/time"}]}}"# => "linux.timeOffsets: a time namespace that is joined keeps its own",
        r#"{"linux":{"timeOffsets":{"realtime":{"secs":1}},"namespaces":[{"type":"time"}]}}"# => "linux.timeOffsets.realtime: is no clock of a time namespace: monotonic and boottime are",
        r#"{"linux":{"timeOffsets":{"boottime":{"nanosecs":1000000000}},"namespaces":[{"type":"time"}]}}"# => "linux.timeOffsets.boottime.nanosecs: 1000000000 is a second or more";
    the_first_fault_in_the_document_wins:
        r#"{"root":null,"hostname":"\u0000","linux":{"namespaces":[{"type":"pid"},{"type":"pid"}]}}"# => "root: is missing";
}
