//! Our filters beside libseccomp's: every number, and arguments around every value that a condition names, through both.
//!
//! Where the two differ on purpose:
//! * Numbers above the largest one named fail with ENOSYS. libseccomp has no such thing; runc puts it before
//!   libseccomp's filter, and so does this comparison.
//! * Where rules that ask for different things hold for the same call, and none is unconditional, the answer follows from
//!   how libseccomp's tree came to be, 64-bit arguments half by half. Ours follows one order: see `Condition`. The profiles
//!   of Docker and Podman have no such calls.
//!
//! And where libseccomp (2.5.4 and 2.6.1 alike) goes wrong by its own lights, which a third opinion shows, `meaning`:
//! * Some of its small filters with several architectures do not load the number before they compare it, and compare the
//!   architecture instead.
//! * Where several alternatives for one call are merged into its tree and some of them are inequalities, it loses branches:
//!   one call in ten thousand of those asked about here.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and tells what it did"
)]
#![allow(clippy::cast_possible_truncation, reason = "halves of words")]

mod calls;
mod compare;
mod engine;
mod machine;
mod meaning;
mod peer;
mod property;

use std::fs;
use std::time::Instant;

use calls::Dice;
use compare::{Count, compare, known};
use filter::seccomp::{Action, Arch, Condition, Instruction, Operator, Profile, Rule, compile};
use machine::{Call, run};

/// Whether a container has a capability.
type Holds = fn(&str) -> bool;

#[test]
fn engines_profiles_mean_what_libseccomp_makes_of_them() {
    let mut total = Count::default();
    for (engine, published) in &engine::published() {
        for (native, goarch) in [(Arch::X86_64, "amd64"), (Arch::Aarch64, "arm64")] {
            let held: [(&str, Holds); 3] =
                [("none", |_| false), ("usual", |cap| engine::USUAL.contains(&cap)), ("all", |_| true)];
            for (capabilities, holds) in held {
                let what = format!("{engine} on {goarch} with {capabilities} capabilities");
                let profile = engine::profile(published, native, goarch, holds);
                let names =
                    |profile: &Profile| profile.rules.iter().map(|rule| rule.names.len()).sum::<usize>();
                let all = names(&profile);
                let profile = known(&profile);
                let lost = all - names(&profile);
                assert!(lost < 40, "libseccomp does not know {lost} of the names");
                tell(&what, &profile, native);
                let count = compare(&what, &profile, native).expect("libseccomp takes it");
                assert_eq!((count.otherwise, count.astray, count.lost), (0, 0, 0), "{what}");
                total.add(&count);
            }
        }
    }
    println!("engines: {total}");
    assert!(total.calls > 10_000);
}

/// How long libseccomp takes, and how far a call has to go in its filter, beside ours.
fn tell(what: &str, profile: &Profile, native: Arch) {
    let started = Instant::now();
    let theirs = peer::compile(profile, native).expect("libseccomp takes it");
    let took = started.elapsed();
    let ours = compile(profile, native).expect("a filter");
    let steps = |program: &[Instruction]| -> Vec<usize> {
        let frequent = ["read", "write", "futex", "recvfrom", "sendto", "openat", "close", "mmap", "ioctl"];
        let numbers = frequent.iter().filter_map(|name| native.call(name));
        let calls = numbers.map(|number| Call { number, audit: native.audit(), arguments: [0; 6] });
        calls.map(|call| run(program, &call).steps).collect()
    };
    println!(
        "{what}: {} instructions, libseccomp's {} in {took:?}; steps {:?}, {:?}",
        ours.len(),
        theirs.len(),
        steps(&ours),
        steps(&theirs)
    );
}

#[test]
fn tables_are_libseccomps() {
    for name in NAMES.iter().chain(&["clone3", "openat2", "epoll_pwait2", "memfd_secret", "arch_prctl"]) {
        for arch in Arch::ALL.into_iter().filter(|arch| peer_has(*arch)) {
            let theirs = peer::number(name, arch);
            // It hides the direct numbers of calls that another one carries.
            if theirs.is_some() {
                assert_eq!(arch.call(name), theirs, "{name} on {}", arch.name());
            }
        }
    }
}

fn peer_has(arch: Arch) -> bool {
    !matches!(arch, Arch::Loongarch64 | Arch::M68k | Arch::Sh | Arch::Sheb)
}

const NAMES: [&str; 16] = [
    "read",
    "write",
    "openat",
    "personality",
    "clone",
    "socket",
    "socketcall",
    "accept4",
    "semop",
    "ipc",
    "prctl",
    "ioctl",
    "mmap",
    "fcntl",
    "execve",
    "futex",
];

fn any_action(dice: &mut Dice) -> Action {
    *dice.pick(&[
        Action::Allow,
        Action::Errno(1),
        Action::Errno(38),
        Action::Trap,
        Action::KillProcess,
        Action::KillThread,
        Action::Log,
        Action::Trace(7),
    ])
}

fn any_condition(dice: &mut Dice) -> Condition {
    const VALUES: [u64; 12] = [
        0,
        1,
        2,
        5,
        0xff,
        0x8000_0000,
        0xffff_ffff,
        0x1_0000_0000,
        0x1_0000_0005,
        0x7e02_0000,
        1 << 63,
        u64::MAX,
    ];
    let operators = [
        Operator::Ne,
        Operator::Lt,
        Operator::Le,
        Operator::Eq,
        Operator::Ge,
        Operator::Gt,
        Operator::MaskedEq,
    ];
    Condition {
        index: dice.below(4) as u8,
        operator: *dice.pick(&operators),
        value: *dice.pick(&VALUES),
        second: *dice.pick(&VALUES),
    }
}

fn any_profile(dice: &mut Dice, conditions: usize) -> Profile<'static> {
    let default = any_action(dice);
    let sets: [&[Arch]; 6] = [
        &[],
        &[Arch::X86_64],
        &[Arch::X86_64, Arch::X86],
        &[Arch::X86, Arch::X32],
        &[Arch::X32, Arch::X86_64, Arch::X86],
        &[Arch::Aarch64, Arch::Arm],
    ];
    let arches = dice.pick(&sets).to_vec();
    let rules = (0..=dice.below(6)).map(|_| Rule {
        names: (0..=dice.below(4)).map(|_| *dice.pick(&NAMES)).collect(),
        action: any_action(dice),
        conditions: (0..dice.below(conditions + 1)).map(|_| any_condition(dice)).collect(),
    });
    Profile { default, arches, rules: rules.collect() }
}

#[test]
fn any_profile_means_what_libseccomp_makes_of_it() {
    let mut total = Count::default();
    for seed in 0..400 {
        let mut dice = Dice::new(seed + 1);
        let conditions = dice.below(4);
        let profile = any_profile(&mut dice, conditions);
        // No kernel but that of x86-64 runs programs of x32.
        let natives = if profile.arches.contains(&Arch::X32) { 1 } else { 2 };
        let native = [Arch::X86_64, Arch::Aarch64][dice.below(natives)];
        if let Some(count) = compare(&format!("seed {seed}"), &profile, native) {
            total.add(&count);
        }
    }
    println!("generated: {total}");
    assert!(total.profiles > 350);
    assert!(total.otherwise * 20 < total.disputed, "our order of rules is not libseccomp's: {total:?}");
    assert!(
        (total.astray + total.lost) * 1000 < total.calls,
        "libseccomp is not as wrong as this: {total:?}"
    );
}

/// What the fuzz target `libseccomp` begins with, and what it found.
#[test]
fn the_corpus_holds() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/libseccomp");
    let mut total = Count::default();
    for entry in fs::read_dir(corpus).expect("the corpus") {
        let bytes = fs::read(entry.expect("an entry").path()).expect("a case");
        let (profile, native) = property::make(&bytes);
        if let Some(count) = compare("of the corpus", &known(&profile), native) {
            total.add(&count);
        }
    }
    println!("corpus: {total}");
    assert!(total.profiles > 20, "{total}");
}
