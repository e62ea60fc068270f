//! A compiled filter as bytes that may lie in a file, and back: if nothing has happened to them.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `cofferF1`, which names this layout |
//! | 32 | the key |
//! | 8 each | the instructions: code in 2 bytes, jt, jf, k in 4, little-endian |
//! | 32 | SHA-256 over all before |

use sha2::{Digest as _, Sha256};

use super::assemble::{AND, GOTO, Jump, LOAD, RETURN};
use super::{Instruction, Key, MOST};

const LAYOUT: &[u8; 8] = b"cofferF1";
const DIGEST: usize = 32;

/// A filter to be kept under a key.
pub fn pack(key: &Key, program: &[Instruction]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LAYOUT.len() + 2 * DIGEST + 8 * program.len());
    bytes.extend(LAYOUT);
    bytes.extend(key.0);
    for Instruction { code, jt, jf, k } in program {
        bytes.extend(code.to_le_bytes());
        bytes.extend([*jt, *jf]);
        bytes.extend(k.to_le_bytes());
    }
    let digest = Sha256::digest(&bytes);
    bytes.extend(digest);
    bytes
}

/// The filter that was kept under a key; nothing where the bytes are another's, or damaged, or hold what no kernel loads.
pub fn unpack(key: &Key, bytes: &[u8]) -> Option<Vec<Instruction>> {
    let (whole, digest) = bytes.split_last_chunk::<DIGEST>()?;
    let code = whole.strip_prefix(LAYOUT)?.strip_prefix(&key.0)?;
    let (instructions, rest) = code.as_chunks::<8>();
    if !rest.is_empty() || <[u8; DIGEST]>::from(Sha256::digest(whole)) != *digest {
        return None;
    }
    let program: Vec<_> = instructions
        .iter()
        .map(|[low, high, jt, jf, k @ ..]| {
            let code = u16::from_le_bytes([*low, *high]);
            Instruction { code, jt: *jt, jf: *jf, k: u32::from_le_bytes(*k) }
        })
        .collect();
    is_loadable(&program).then_some(program)
}

/// Whether a kernel takes it, as far as [`compile`](super::compile) needs the machine: known instructions, loads within
/// `struct seccomp_data`, jumps within the program, an answer at its end.
fn is_loadable(program: &[Instruction]) -> bool {
    let lands = |at: usize, skip: u64| at as u64 + 1 + skip < program.len() as u64;
    let fits = |(at, one): (usize, &Instruction)| match one.code {
        LOAD => one.k < 64 && one.k.is_multiple_of(4) && lands(at, 0),
        AND => lands(at, 0),
        GOTO => lands(at, one.k.into()),
        RETURN => true,
        code => Jump::ALL.iter().any(|jump| *jump as u16 == code) && lands(at, one.jt.max(one.jf).into()),
    };
    !program.is_empty() && program.len() <= MOST && program.iter().enumerate().all(fits)
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test states what it expects")]
mod tests {
    use super::super::{Action, Arch, Condition, Operator, Profile, Rule, compile, key};
    use super::*;

    fn profile() -> Profile<'static> {
        let condition = Condition { index: 1, operator: Operator::MaskedEq, value: 0x7e02_0000, second: 4 };
        Profile {
            default: Action::Errno(1),
            arches: vec![Arch::X86],
            rules: vec![Rule {
                names: vec!["clone", "read"],
                action: Action::Allow,
                conditions: vec![condition],
            }],
        }
    }

    #[test]
    fn what_was_packed_comes_back_to_its_own_key_only() {
        let profile = profile();
        let (one, other) = (key(&profile, Arch::X86_64), key(&profile, Arch::Aarch64));
        let program = compile(&profile, Arch::X86_64).expect("a filter");
        let bytes = pack(&one, &program);
        assert_eq!(unpack(&one, &bytes), Some(program));
        assert_eq!(unpack(&other, &bytes), None);
    }

    #[test]
    fn damage_is_seen_wherever_it_is() {
        let profile = profile();
        let key = key(&profile, Arch::X86_64);
        let bytes = pack(&key, &compile(&profile, Arch::X86_64).expect("a filter"));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(unpack(&key, &damaged), None, "byte {at}");
            assert_eq!(unpack(&key, &bytes[..at]), None, "cut at {at}");
        }
        assert_eq!(unpack(&key, &[bytes.as_slice(), &[0]].concat()), None);
    }

    /// A digest may be right and the program none: who can write there can count, too.
    #[test]
    fn what_no_kernel_loads_is_nothing() {
        let one = |code, jt, jf, k| Instruction { code, jt, jf, k };
        let end = one(RETURN, 0, 0, 0);
        let key = key(&profile(), Arch::X86_64);
        let bad: [&[Instruction]; 11] = [
            &[],
            &[one(LOAD, 0, 0, 4)],
            &[one(LOAD, 0, 0, 2), end],
            &[one(LOAD, 0, 0, 64), end],
            &[one(AND, 0, 0, 1)],
            &[one(GOTO, 0, 0, 1), end],
            &[one(GOTO, 0, 0, u32::MAX), end],
            &[one(Jump::Equal as u16, 0, 1, 1), end],
            &[one(Jump::AnyBit as u16, 1, 0, 1), end],
            &[one(0x16, 0, 0, 0), end],
            &vec![end; MOST + 1],
        ];
        for program in bad {
            assert_eq!(unpack(&key, &pack(&key, program)), None, "{program:?}");
        }
        let longest = vec![end; MOST];
        assert_eq!(unpack(&key, &pack(&key, &longest)), Some(longest));
    }
}
