//! Filters by themselves: what is cheap stays cheap, what is long stays right, and what cannot be done is refused.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and tells what it did"
)]
#![allow(clippy::cast_possible_truncation, reason = "halves of words")]

mod calls;
mod engine;
mod machine;
mod meaning;
mod property;

use std::fs;
use std::time::Instant;

use filter::seccomp::{Action, Arch, Condition, Instruction, MOST, Operator, Profile, Rule, compile};
use machine::{Call, check, run};
use meaning::Reader;
use sha2::{Digest as _, Sha256};

fn rule(names: &[&'static str], action: Action, conditions: &[Condition]) -> Rule<'static> {
    Rule { names: names.to_vec(), action, conditions: conditions.to_vec() }
}

fn profile(default: Action, rules: Vec<Rule<'static>>) -> Profile<'static> {
    Profile { default, arches: Vec::new(), rules }
}

fn condition(index: u8, operator: Operator, value: u64, second: u64) -> Condition {
    Condition { index, operator, value, second }
}

fn answer(program: &[Instruction], name: &str, arguments: [u64; 6]) -> u32 {
    let number = Arch::X86_64.call(name).expect("a call");
    run(program, &Call { number, audit: Arch::X86_64.audit(), arguments }).answer
}

#[test]
fn calls_without_conditions_are_decided_by_their_number() {
    for (engine, published) in &engine::published() {
        let usual = |cap: &str| engine::USUAL.contains(&cap);
        let profile = engine::profile(published, Arch::X86_64, "amd64", usual);
        let program = compile(&profile, Arch::X86_64).expect("a filter");
        let took = (0..20).map(|_| {
            let started = Instant::now();
            assert_eq!(compile(&profile, Arch::X86_64).as_ref(), Ok(&program));
            started.elapsed()
        });
        let took = took.min().unwrap_or_default();
        check(&program);
        let conditional: Vec<_> = profile.rules.iter().filter(|rule| !rule.conditions.is_empty()).collect();
        let mut most = 0;
        for rule in &profile.rules {
            for name in &rule.names {
                let Some(number) = Arch::X86_64.call(name) else { continue };
                let told = run(&program, &Call { number, audit: Arch::X86_64.audit(), arguments: [0; 6] });
                let named = conditional.iter().any(|rule| rule.names.contains(name));
                assert!(!told.curious || named, "{engine}: {name} has its arguments looked at");
                most = most.max(told.steps);
            }
        }
        let steps = |name: &&str| {
            let number = Arch::X86_64.call(name).expect("a call");
            run(&program, &Call { number, audit: Arch::X86_64.audit(), arguments: [0; 6] }).steps
        };
        let frequent = [
            "read",
            "write",
            "futex",
            "epoll_wait",
            "recvfrom",
            "sendto",
            "openat",
            "close",
            "mmap",
            "ioctl",
        ];
        let steps: Vec<_> = frequent.iter().map(steps).collect();
        println!("{engine}: {} instructions in {took:?}, steps {steps:?}, at most {most}", program.len());
        assert!(program.len() < 700, "{engine}: {} instructions", program.len());
        assert!(steps.iter().all(|steps| *steps <= 14), "{engine}: {steps:?}");
    }
}

#[test]
fn the_most_particular_rule_wins() {
    let least = condition(0, Operator::Ge, 5, 0);
    let more = condition(0, Operator::Ge, 9, 0);
    let most = condition(0, Operator::Eq, 9, 0);
    let other = condition(1, Operator::Ge, 1, 0);
    let rules = vec![
        rule(&["personality"], Action::Errno(5), &[least]),
        rule(&["personality"], Action::Errno(9), &[more]),
        rule(&["personality"], Action::Log, &[most]),
        rule(&["personality"], Action::Trap, &[other]),
        rule(&["read"], Action::Allow, &[]),
        rule(&["read"], Action::Trap, &[]),
        rule(&["read"], Action::Errno(5), &[least]),
    ];
    let program = compile(&profile(Action::KillProcess, rules), Arch::X86_64).expect("a filter");
    let personality = |first, second| answer(&program, "personality", [first, second, 0, 0, 0, 0]);
    assert_eq!(personality(4, 0), Action::KillProcess.value());
    assert_eq!(personality(5, 0), Action::Errno(5).value());
    assert_eq!(personality(9, 0), Action::Log.value());
    assert_eq!(personality(1 << 40, 0), Action::Errno(9).value());
    assert_eq!(personality(9, 1), Action::Trap.value());
    // An unconditional rule wins over any other, and the first one over the next.
    assert_eq!(answer(&program, "read", [9; 6]), Action::Allow.value());
}

#[test]
fn calls_newer_than_the_profile_are_unknown() {
    let ask = |default, number| {
        let rules = vec![rule(&["openat2", "read"], Action::Log, &[]), rule(&["faccessat2"], default, &[])];
        let program = compile(&profile(default, rules), Arch::X86_64).expect("a filter");
        run(&program, &Call { number, audit: Arch::X86_64.audit(), arguments: [0; 6] }).answer
    };
    let denied = Action::Errno(1);
    // faccessat2 is 439: its rule says what is said anyway, but the profile knows it.
    assert_eq!(ask(denied, 437), Action::Log.value());
    assert_eq!(ask(denied, 439), denied.value());
    assert_eq!(ask(denied, 440), Action::Errno(38).value());
    assert_eq!(ask(Action::KillProcess, 440), Action::Errno(38).value());
    for open in [Action::Allow, Action::Log, Action::Trace(3)] {
        assert_eq!(ask(open, 440), open.value());
    }
    // x32 is not asked for: its calls are those of another architecture.
    assert_eq!(ask(denied, 0x4000_0000), Action::KillThread.value());
}

#[test]
fn contradictions_are_refused_by_name() {
    let equal = condition(1, Operator::MaskedEq, 0xff, 0x101);
    let same = condition(1, Operator::MaskedEq, 0xff, 1);
    let rules =
        |action| vec![rule(&["read"], Action::Allow, &[equal]), rule(&["write", "read"], action, &[same])];
    let refused =
        compile(&profile(Action::Trap, rules(Action::Log)), Arch::X86_64).expect_err("a contradiction");
    assert_eq!(refused.to_string(), "syscalls[1]: contradicts syscalls[0] about read");
    assert!(compile(&profile(Action::Trap, rules(Action::Allow)), Arch::X86_64).is_ok());
}

#[test]
fn what_no_kernel_can_run_is_refused() {
    let mut mips = profile(Action::Allow, Vec::new());
    mips.arches = vec![Arch::X86, Arch::Mips];
    let refused = compile(&mips, Arch::X86_64).expect_err("another order of bytes");
    assert_eq!(
        refused.to_string(),
        "architectures[1]: SCMP_ARCH_MIPS has another order of bytes than this kernel"
    );
    let nameless = profile(Action::Allow, vec![rule(&["read", ""], Action::Trap, &[])]);
    let refused = compile(&nameless, Arch::X86_64).expect_err("a call without a name");
    assert_eq!(refused.to_string(), "syscalls[0].names[1]: is empty");
}

#[test]
fn a_long_program_jumps_far() {
    let many = |count: u64| {
        let rules = (0..count).map(|at| {
            let action = Action::Errno((at % 3000) as u16);
            rule(&["ioctl", "prctl"], action, &[condition(1, Operator::Eq, at << 20, 0)])
        });
        let mut profile = profile(Action::Allow, rules.collect());
        profile.rules.push(rule(&["read"], Action::Trap, &[]));
        profile
    };
    let long = many(600);
    let program = compile(&long, Arch::X86_64).expect("a long filter");
    check(&program);
    assert!(program.len() > 2000);
    let mut reader = Reader::new(&long, Arch::X86_64);
    for at in 0..600 {
        for name in ["ioctl", "prctl", "read", "write"] {
            let number = Arch::X86_64.call(name).expect("a call");
            let call = Call { number, audit: Arch::X86_64.audit(), arguments: [1, at << 20, 3, 4, 5, 6] };
            assert_eq!(vec![run(&program, &call).answer], reader.meaning(&call).answers, "{call:?}");
        }
    }

    let started = Instant::now();
    let refused = compile(&many(10_000), Arch::X86_64).expect_err("too long a filter");
    println!("10000 rules are refused after {:?}: {refused}", started.elapsed());
    assert_eq!(refused.field, "syscalls");
    assert!(refused.reason.ends_with(&format!("the kernel takes {MOST}")), "{refused}");
}

#[test]
fn the_corpus_holds() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/seccomp");
    let mut count = 0;
    for entry in fs::read_dir(corpus).expect("the corpus") {
        property::hold(&fs::read(entry.expect("an entry").path()).expect("a case"));
        count += 1;
    }
    assert!(count > 20, "the corpus has {count} cases");
    // What a fuzzer would try first.
    for seed in 0..60 {
        let mut dice = calls::Dice::new(seed);
        let bytes: Vec<u8> = (0..dice.below(120)).map(|_| dice.roll() as u8).collect();
        property::hold(&bytes);
    }
}

/// What is kept of filters is found by their key, which holds the compiler's version. Whoever changes what it answers sees
/// another digest here, raises `VERSION` beside [`filter::seccomp::key`], and writes the digest down.
#[test]
fn programs_have_not_changed_behind_the_version() {
    let mut digest = Sha256::new();
    let mut add = |profile: &Profile, native| {
        for one in compile(profile, native).unwrap_or_default() {
            digest.update(one.code.to_le_bytes());
            digest.update([one.jt, one.jf]);
            digest.update(one.k.to_le_bytes());
        }
    };
    for (_, published) in &engine::published() {
        for (native, goarch) in [(Arch::X86_64, "amd64"), (Arch::Aarch64, "arm64")] {
            add(&engine::profile(published, native, goarch, |_| true), native);
        }
    }
    let mut dice = calls::Dice::new(1);
    for _ in 0..300 {
        let bytes: Vec<u8> = (0..96).map(|_| dice.roll() as u8).collect();
        let (profile, native) = property::make(&bytes);
        add(&profile, native);
    }
    let digest: [u8; 32] = digest.finalize().into();
    assert_eq!(digest.first_chunk().map(|first| u64::from_be_bytes(*first)), Some(0x2145_7ee8_6256_d608));
}
