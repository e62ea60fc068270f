//! From rules about names to decisions about numbers.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::arch::{Arch, row};
use super::condition::{Condition, Operator};
use super::{Action, Profile, Refused};

/// What a profile says about one call: one alternative of one rule.
#[derive(Clone, Debug)]
pub(super) struct Said {
    row: usize,
    /// For the carrier: which of the calls that it carries this is.
    call: &'static str,
    action: Action,
    /// All of them are to hold.
    conditions: Vec<Condition>,
}

/// The profile in rows of the table.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// The rows that any rule names, skipped ones too.
    rows: Vec<usize>,
    said: Vec<Said>,
}

/// What happens to the calls of one number, in order: the first branch whose conditions all hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Case {
    /// The number.
    pub(super) number: u32,
    /// Conditions and actions; an empty list of conditions is the last branch. The default action comes after all.
    pub(super) branches: Vec<(Vec<Condition>, Action)>,
}

/// Looks the names up, and refuses rules that contradict each other.
pub(super) fn resolve(profile: &Profile) -> Result<Named, Refused> {
    let mut named = Named::default();
    let mut known = HashMap::new();
    for (at, rule) in profile.rules.iter().enumerate() {
        for (index, name) in rule.names.iter().enumerate() {
            if name.is_empty() {
                return Err(Refused::new(format!("syscalls[{at}].names[{index}]"), "is empty"));
            }
        }
        let rows: Vec<_> = rule.names.iter().filter_map(|name| row(name)).collect();
        named.rows.extend(&rows);
        if rule.action == profile.default {
            continue;
        }
        for conditions in alternatives(&rule.conditions) {
            for row in rows.iter().copied() {
                if !conditions.is_empty() {
                    match known.entry((row, conditions.clone())) {
                        Entry::Vacant(place) => drop(place.insert((rule.action, at))),
                        Entry::Occupied(place) if place.get().0 != rule.action => {
                            let (name, first) = (call(row), place.get().1);
                            let reason = format!("contradicts syscalls[{first}] about {name}");
                            return Err(Refused::new(format!("syscalls[{at}]"), reason));
                        }
                        Entry::Occupied(_) => continue,
                    }
                }
                let conditions = conditions.clone();
                named.said.push(Said { row, call: call(row), action: rule.action, conditions });
            }
        }
    }
    Ok(named)
}

fn call(row: usize) -> &'static str {
    super::table::ROWS.get(row).map_or("", |(name, _)| name)
}

/// The lists of which each is to hold whole: one, or as many as there are conditions where two share an argument.
fn alternatives(conditions: &[Condition]) -> Vec<Vec<Condition>> {
    let mut sorted: Vec<_> = conditions.iter().map(|one| one.plain()).collect();
    sorted.sort_by_key(|one| one.index);
    if sorted.windows(2).any(|pair| matches!(pair, [one, next] if one.index == next.index)) {
        conditions.iter().map(|one| vec![one.plain()]).collect()
    } else {
        vec![sorted]
    }
}

impl Named {
    /// The largest number that the profile names on an architecture, by itself or through what it is carried by; nothing
    /// where it names none but number 0.
    pub(super) fn largest(&self, arch: Arch) -> Option<u32> {
        let carried = |row| carrier(arch, call(row)).map(|(number, _)| number);
        let numbers = self.rows.iter().map(|row| arch.number(*row).max(carried(*row)));
        numbers.max().flatten().filter(|number| *number > 0)
    }

    /// The decisions for an architecture, by number.
    pub(super) fn cases(&self, arch: Arch) -> Vec<Case> {
        let mut spread = Vec::with_capacity(self.said.len());
        for said in &self.said {
            let seen = |list: &[Condition]| -> Vec<_> {
                list.iter().map(|one| one.seen(arch)).filter(|one| !one.is_empty()).collect()
            };
            if let Some(number) = arch.number(said.row) {
                spread.push((number, seen(&said.conditions), said.action));
            }
            if let Some((number, which)) = carrier(arch, said.call) {
                let mut conditions =
                    vec![Condition { index: 0, operator: Operator::Eq, value: which, second: 0 }];
                conditions.extend(seen(&said.conditions).into_iter().filter(|one| one.index != 0));
                spread.push((number, conditions, said.action));
            }
        }
        // Stable: what is listed first stays first.
        spread.sort_by_key(|(number, ..)| *number);
        spread.chunk_by(|(one, ..), (next, ..)| one == next).map(case).collect()
    }
}

/// All that is said about one number.
fn case(said: &[(u32, Vec<Condition>, Action)]) -> Case {
    let number = said.first().map_or(0, |(number, ..)| *number);
    if let Some((.., action)) = said.iter().find(|(_, conditions, _)| conditions.is_empty()) {
        return Case { number, branches: vec![(Vec::new(), *action)] };
    }
    let mut branches: Vec<_> =
        said.iter().map(|(_, conditions, action)| (conditions.clone(), *action)).collect();
    branches.sort_by(|(one, _), (other, _)| particular(one, other));
    branches.dedup();
    Case { number, branches }
}

/// Which of two lists comes first; see [`Condition`].
fn particular(one: &[Condition], other: &[Condition]) -> Ordering {
    let pairs = one.iter().zip(other).map(|(one, other)| one.order(*other));
    pairs.fold(Ordering::Equal, Ordering::then).then(one.len().cmp(&other.len()))
}

/// The carrier of a call, and by which first argument it knows it: `linux/net.h` and `linux/ipc.h`.
fn carrier(arch: Arch, call: &str) -> Option<(u32, u64)> {
    if !arch.has_carriers() {
        return None;
    }
    let (carrier, which) = match call {
        "socket" => ("socketcall", 1),
        "bind" => ("socketcall", 2),
        "connect" => ("socketcall", 3),
        "listen" => ("socketcall", 4),
        "accept" => ("socketcall", 5),
        "getsockname" => ("socketcall", 6),
        "getpeername" => ("socketcall", 7),
        "socketpair" => ("socketcall", 8),
        "send" => ("socketcall", 9),
        "recv" => ("socketcall", 10),
        "sendto" => ("socketcall", 11),
        "recvfrom" => ("socketcall", 12),
        "shutdown" => ("socketcall", 13),
        "setsockopt" => ("socketcall", 14),
        "getsockopt" => ("socketcall", 15),
        "sendmsg" => ("socketcall", 16),
        "recvmsg" => ("socketcall", 17),
        "accept4" => ("socketcall", 18),
        "recvmmsg" => ("socketcall", 19),
        "sendmmsg" => ("socketcall", 20),
        "semop" => ("ipc", 1),
        "semget" => ("ipc", 2),
        "semctl" => ("ipc", 3),
        "semtimedop" => ("ipc", 4),
        "msgsnd" => ("ipc", 11),
        "msgrcv" => ("ipc", 12),
        "msgget" => ("ipc", 13),
        "msgctl" => ("ipc", 14),
        "shmat" => ("ipc", 21),
        "shmdt" => ("ipc", 22),
        "shmget" => ("ipc", 23),
        "shmctl" => ("ipc", 24),
        _ => return None,
    };
    Some((arch.number(row(carrier)?)?, which))
}
