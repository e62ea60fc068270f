//! Profiles that are wrong, or odd: what comes of each here, and with Debian's runc beside it.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Bundle, Output, Runtime, Snapshot, needs};

/// What comes of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The program runs, and mkdir(2) ends so.
    Runs(&'static str),
    /// There is no container.
    Refused,
}
use Outcome::{Refused, Runs};

const MADE: Outcome = Runs("0\n");
const DENIED: Outcome = Runs("1\n");

/// How long any of them may take, runc's tree of ten thousand rules among them.
const PATIENCE: Duration = Duration::from_secs(25);

struct Case {
    what: &'static str,
    seccomp: Value,
    outcome: Outcome,
    /// Why, for one that is refused: after `config.json: linux.seccomp`; `…` stands for the rest.
    reason: &'static str,
    /// What comes of it with runc, where that is something else; docs/leniency.md says why.
    runc: Outcome,
}

/// A rule about mkdir(2), which denies it unless it says otherwise.
fn rule(with: Value) -> Value {
    extended(json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}), with)
}

/// A rule with one condition, which holds for what busybox asks of mkdir(2) unless it says otherwise.
fn when(with: Value) -> Value {
    let condition = extended(json!({"index": 1, "value": 0o777, "op": "SCMP_CMP_EQ"}), with);
    rule(json!({"args": [condition]}))
}

fn extended(mut object: Value, with: Value) -> Value {
    let Value::Object(more) = with else { panic!("an object") };
    object.as_object_mut().expect("an object").extend(more);
    object
}

/// These rules, and all else is allowed.
fn rules(rules: &[Value]) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
}

fn with(mut seccomp: Value, field: &str, value: Value) -> Value {
    seccomp[field] = value;
    seccomp
}

fn runs(what: &'static str, outcome: Outcome, seccomp: Value) -> Case {
    Case { what, seccomp, outcome, reason: "", runc: outcome }
}

fn refused(what: &'static str, reason: &'static str, seccomp: Value) -> Case {
    Case { what, seccomp, outcome: Refused, reason, runc: Refused }
}

/// The same, where runc goes on.
fn stricter(what: &'static str, reason: &'static str, runc: Outcome, seccomp: Value) -> Case {
    Case { runc, ..refused(what, reason, seccomp) }
}

fn names() -> Vec<Case> {
    vec![
        runs("one unknown name", DENIED, rules(&[rule(json!({"names": ["no_such_call", "mkdir"]}))])),
        runs("unknown names only", MADE, rules(&[rule(json!({"names": ["no_such_call", "Mkdir"]}))])),
        runs("no names", MADE, rules(&[rule(json!({"names": []}))])),
        refused(
            "an empty name",
            ".syscalls[0].names[1]: is empty",
            rules(&[rule(json!({"names": ["mkdir", ""]}))]),
        ),
        refused(
            "an empty name in a rule that is skipped",
            ".syscalls[1].names[0]: is empty",
            rules(&[rule(json!({})), rule(json!({"names": [""], "action": "SCMP_ACT_ALLOW"}))]),
        ),
        refused(
            "a number for a name",
            ".syscalls[0].names[0]: expected a string, not 83",
            rules(&[rule(json!({"names": [83]}))]),
        ),
    ]
}

const ACTIONS: &str = "expected one of SCMP_ACT_ALLOW, SCMP_ACT_ERRNO, SCMP_ACT_KILL, SCMP_ACT_KILL_PROCESS, \
                       SCMP_ACT_KILL_THREAD, SCMP_ACT_LOG, SCMP_ACT_NOTIFY, SCMP_ACT_TRACE, SCMP_ACT_TRAP, not ";

fn actions() -> Vec<Case> {
    let errno = |number: Value| rules(&[rule(json!({"errnoRet": number}))]);
    let trace = |number: u32| rules(&[rule(json!({"action": "SCMP_ACT_TRACE", "errnoRet": number}))]);
    vec![
        refused(
            "an unknown action",
            ".syscalls[0].action: A \"SCMP_ACT_NO\"",
            rules(&[rule(json!({"action": "SCMP_ACT_NO"}))]),
        ),
        refused("an empty action", ".syscalls[0].action: A \"\"", rules(&[rule(json!({"action": ""}))])),
        refused(
            "an unknown default action",
            ".defaultAction: A \"ALLOW\"",
            json!({"defaultAction": "ALLOW"}),
        ),
        refused("no default action", ".defaultAction: A \"\"", json!({"syscalls": [rule(json!({}))]})),
        runs("an error that is none", MADE, errno(json!(0))),
        runs("the largest number of runc's", DENIED, errno(json!(4094))),
        Case { runc: Refused, ..runs("the largest number of the kernel's", DENIED, errno(json!(4095))) },
        refused(
            "a larger number",
            ".syscalls[0].errnoRet: 4096 is more than 4095, the largest error number",
            errno(json!(4096)),
        ),
        stricter(
            "a number that would be cut",
            ".syscalls[0].errnoRet: 65537 is more than 4095, the largest error number",
            DENIED,
            errno(json!(65537)),
        ),
        refused(
            "a number below all",
            ".syscalls[0].errnoRet: expected a whole number from 0 to 4294967295, not -1",
            errno(json!(-1)),
        ),
        refused(
            "a larger number by default",
            ".defaultErrnoRet: 4096 is more than 4095, the largest error number",
            json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}),
        ),
        runs("a message to nobody", DENIED, trace(65535)),
        stricter(
            "a message that would be cut",
            ".syscalls[0].errnoRet: 65536 is more than 65535, and a filter's answer holds no more",
            DENIED,
            trace(65536),
        ),
        runs(
            "a number beside an action that has none",
            MADE,
            rules(&[rule(json!({"action": "SCMP_ACT_LOG", "errnoRet": 65536}))]),
        ),
        runs(
            "a number beside a default action that has none",
            DENIED,
            with(errno(json!(1)), "defaultErrnoRet", json!(5)),
        ),
        runs(
            "a section that asks for nothing",
            MADE,
            json!({"defaultAction": "", "architectures": ["SCMP_ARCH_X86"], "syscalls": []}),
        ),
    ]
}

fn conditions() -> Vec<Case> {
    const INDEX: &str = ".syscalls[0].args[0].index: 6 is not from 0 to 5";
    let one = |field: &str, value: Value| rules(&[when(json!({field: value}))]);
    let beyond = |with: Value| rules(&[extended(when(json!({"index": 6})), with)]);
    let many: Vec<_> = (0..7).map(|at| json!({"index": at % 6, "value": 0, "op": "SCMP_CMP_GE"})).collect();
    let either = json!([{"index": 1, "value": 5, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 0o777, "op": "SCMP_CMP_EQ"}]);
    vec![
        refused("a seventh argument", INDEX, beyond(json!({}))),
        stricter(
            "a seventh argument of an unknown call",
            INDEX,
            MADE,
            beyond(json!({"names": ["no_such_call"]})),
        ),
        stricter(
            "a seventh argument in a rule that is skipped",
            INDEX,
            MADE,
            beyond(json!({"action": "SCMP_ACT_ALLOW"})),
        ),
        refused(
            "an argument before the first",
            ".syscalls[0].args[0].index: expected a whole number from 0 to 4294967295, not -1",
            one("index", json!(-1)),
        ),
        refused(
            "an argument far away",
            ".syscalls[0].args[0].index: expected a whole number from 0 to 4294967295, not 4294967296",
            one("index", json!(4_294_967_296_u64)),
        ),
        refused(
            "an unknown operator",
            ".syscalls[0].args[0].op: expected one of SCMP_CMP_EQ, SCMP_CMP_GE, SCMP_CMP_GT, SCMP_CMP_LE, SCMP_CMP_LT, \
             SCMP_CMP_MASKED_EQ, SCMP_CMP_NE, not \"EQ\"",
            one("op", json!("EQ")),
        ),
        refused(
            "a value below all",
            ".syscalls[0].args[0].value: expected a whole number from 0 to 18446744073709551615, not -1",
            one("value", json!(-1)),
        ),
        refused(
            "half a value",
            ".syscalls[0].args[0].value: expected a whole number from 0 to 18446744073709551615, not 1.5",
            one("value", json!(1.5)),
        ),
        runs("a second value that nothing asks for", DENIED, one("valueTwo", json!(5))),
        runs(
            "a mask without a second value",
            DENIED,
            rules(&[when(json!({"op": "SCMP_CMP_MASKED_EQ", "value": 0o1000}))]),
        ),
        runs("more conditions than arguments", DENIED, rules(&[rule(json!({"args": many}))])),
        runs("two conditions on one argument", DENIED, rules(&[rule(json!({"args": either}))])),
    ]
}

fn contradictions() -> Vec<Case> {
    let log = || rule(json!({"action": "SCMP_ACT_LOG"}));
    let mut logged = when(json!({}));
    logged["action"] = json!("SCMP_ACT_LOG");
    vec![
        runs("denied, then logged", DENIED, rules(&[rule(json!({})), log()])),
        runs("logged, then denied", MADE, rules(&[log(), rule(json!({}))])),
        runs("logged, then denied sometimes", MADE, rules(&[log(), when(json!({}))])),
        runs("denied sometimes, then logged", MADE, rules(&[when(json!({})), log()])),
        runs("the same twice", DENIED, rules(&[when(json!({})), when(json!({}))])),
        refused(
            "denied and logged on one condition",
            ".syscalls[1]: contradicts syscalls[0] about mkdir",
            rules(&[when(json!({})), logged]),
        ),
    ]
}

fn arches_and_flags() -> Vec<Case> {
    let arches = |names: &[&str]| with(rules(&[rule(json!({}))]), "architectures", json!(names));
    let x86_twice = ["SCMP_ARCH_X86", "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"];
    vec![
        runs("architectures twice", DENIED, arches(&x86_twice)),
        runs("another machine's architecture", DENIED, arches(&["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"])),
        refused(
            "an unknown architecture",
            ".architectures[1]: expected one of SCMP_ARCH_AARCH64, …",
            arches(&["SCMP_ARCH_X86", "SCMP_ARCH_VAX"]),
        ),
        refused(
            "another order of bytes",
            ".architectures[0]: SCMP_ARCH_S390X has another order of bytes than this kernel",
            arches(&["SCMP_ARCH_S390X"]),
        ),
        refused(
            "an unknown flag",
            ".flags[0]: expected one of SECCOMP_FILTER_FLAG_TSYNC, SECCOMP_FILTER_FLAG_SPEC_ALLOW, \
             SECCOMP_FILTER_FLAG_LOG, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, not \"F\"",
            with(rules(&[]), "flags", json!(["F"])),
        ),
    ]
}

fn crowds() -> Vec<Case> {
    let ioctl = |count: u64| -> Vec<Value> {
        let mut list: Vec<_> = (0..count)
            .map(|at| {
                let mut rule = when(json!({"value": at}));
                rule["names"] = json!(["ioctl"]);
                rule
            })
            .collect();
        list.push(rule(json!({})));
        list
    };
    let unknown: Vec<_> =
        (0..10_000).map(|at| format!("no_such_call_{at}")).chain(["mkdir".into()]).collect();
    vec![
        runs("jumps over more than 255 instructions", DENIED, rules(&ioctl(900))),
        refused("ten thousand different rules", ".syscalls: make a filter of 40…", rules(&ioctl(10_000))),
        runs("ten thousand equal rules", DENIED, rules(&vec![rule(json!({})); 10_000])),
        runs("ten thousand unknown names", DENIED, rules(&[rule(json!({"names": unknown}))])),
    ]
}

fn tried(bundle: &Bundle, runtime: &Runtime, what: &str) -> Output {
    let started = Instant::now();
    let output = bundle.container(runtime).run();
    let took = started.elapsed();
    assert!(took < PATIENCE, "{}: {what} took {took:?}", runtime.program().display());
    output
}

fn outcome(output: &Output) -> String {
    if output.stdout.is_empty() { "refused".into() } else { format!("runs {}", output.stdout) }
}

fn hold(cases: &[Case]) {
    let (ours, runc) = (Runtime::under_test(), Runtime::find("runc"));
    for Case { what, seccomp, outcome: expected, reason, runc: theirs } in cases {
        let bundle = Bundle::new("bad-filter").shell("mkdir /tmp/made 2> /dev/null; echo $?");
        let bundle = bundle.mount("/tmp", "tmpfs", "tmpfs", &[]);
        let bundle = bundle.edit(|config| config["linux"]["seccomp"] = seccomp.clone());
        let before = Snapshot::take(&bundle);
        let told = |expected: &Outcome| match expected {
            Runs(shown) => format!("runs {shown}"),
            Refused => "refused".to_owned(),
        };
        let output = tried(&bundle, &ours, what);
        assert_eq!(outcome(&output), told(expected), "{what}: {output}");
        if *expected == Refused {
            let reason = reason.replace(": A ", &format!(": {ACTIONS}"));
            let line = format!("cofferdam: run {}: config.json: linux.seccomp{reason}", bundle.id());
            match line.strip_suffix('…') {
                Some(start) => assert!(output.stderr.starts_with(start), "{what}: {output}"),
                None => assert_eq!(output.stderr, format!("{line}\n"), "{what}"),
            }
            output.code(1);
            assert_eq!(output.stderr.lines().count(), 1, "{what}: {output}");
        }
        before.assert_same();
        if let Some(runc) = &runc {
            let output = tried(&bundle, runc, what);
            assert_eq!(outcome(&output), told(theirs), "runc: {what}: {output}");
        }
    }
}

#[test]
fn root_names_of_calls() {
    needs!(Root, Busybox);
    hold(&names());
}

#[test]
fn root_actions_and_their_numbers() {
    needs!(Root, Busybox);
    hold(&actions());
}

#[test]
fn root_conditions() {
    needs!(Root, Busybox);
    hold(&conditions());
}

#[test]
fn root_rules_that_contradict_each_other() {
    needs!(Root, Busybox);
    hold(&contradictions());
}

#[test]
fn root_architectures_and_flags() {
    needs!(Root, Busybox);
    hold(&arches_and_flags());
}

#[test]
fn root_more_rules_than_anybody_needs() {
    needs!(Root, Busybox);
    hold(&crowds());
}
