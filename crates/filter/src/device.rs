//! Which device nodes a container may open and make, as cgroup v1 has always understood it, and the same
//! list as a program for cgroup v2 (`BPF_PROG_TYPE_CGROUP_DEVICE`).
//!
//! v1 keeps one default and a list of exceptions from it. A rule for "all" sets the default and forgets the
//! exceptions; a rule that goes against the default adds one; a rule that goes along with it takes one away,
//! and that only where it is written the same. v2 has no list of its own, so the list is kept here for both.

use std::fmt;

/// Which device files a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Every device: such a rule sets the default, and the kernel ignores its numbers and letters.
    All,
    /// Block devices.
    Block,
    /// Character devices.
    Char,
}

/// What may be done with a device: a set of mknod, read and write, in the bits of `linux/bpf.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Access(u8);

impl Access {
    /// mknod(2).
    pub const MKNOD: Self = Self(1);
    /// open(2) for reading.
    pub const READ: Self = Self(2);
    /// open(2) for writing.
    pub const WRITE: Self = Self(4);
    /// All three.
    pub const ALL: Self = Self(7);
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// The letters of `rwm` in a word, other letters skipped; nothing where none of them is there.
    pub fn parse(letters: &str) -> Option<Self> {
        let mut all = Self::NONE;
        for letter in letters.chars() {
            all = all.with(match letter {
                'r' => Self::READ,
                'w' => Self::WRITE,
                'm' => Self::MKNOD,
                _ => continue,
            });
        }
        (all != Self::NONE).then_some(all)
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without the other.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the sets share anything.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl fmt::Display for Access {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [(Self::READ, "r"), (Self::WRITE, "w"), (Self::MKNOD, "m")] {
            if self.meets(bit) {
                to.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// Device files by kind and number; a number that is not given stands for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Devices {
    /// Their kind.
    pub kind: Kind,
    /// Their major number.
    pub major: Option<u32>,
    /// Their minor number.
    pub minor: Option<u32>,
}

impl Devices {
    fn covers(self, kind: Kind, major: u32, minor: u32) -> bool {
        self.kind == kind
            && self.major.is_none_or(|ours| ours == major)
            && self.minor.is_none_or(|ours| ours == minor)
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        let kind = match self.kind {
            Kind::All => 'a',
            Kind::Block => 'b',
            Kind::Char => 'c',
        };
        write!(to, "{kind} {}:{}", number(self.major), number(self.minor))
    }
}

/// One rule, in the order in which they are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Allowed or denied.
    pub allow: bool,
    /// What it is about.
    pub devices: Devices,
    /// Which uses of it.
    pub access: Access,
}

/// What goes against the default: written as v1 writes it, `c 1:3 rwm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Which devices.
    pub devices: Devices,
    /// Which uses.
    pub access: Access,
}

impl fmt::Display for Exception {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} {}", self.devices, self.access)
    }
}

/// A rule that would cut a hole into an earlier exception with a wildcard. v1 ignores such a rule without a
/// word, which leaves open what somebody believes to be shut; so it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Which rule, counted from 0.
    pub index: usize,
    /// What it says.
    pub rule: Exception,
    /// The exception that it cannot cut.
    pub wildcard: Exception,
}

impl fmt::Display for Hole {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "rule [{}] cannot cut a hole into the wildcard rule [{}]", self.rule, self.wildcard)
    }
}

impl std::error::Error for Hole {}

/// A default and what goes against it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// What holds for a device that no exception covers. Nothing, until a rule says otherwise.
    pub allow: bool,
    /// What goes against it, in the order of first mention.
    pub exceptions: Vec<Exception>,
}

impl List {
    /// The list that these rules, applied in order, leave behind.
    pub fn of(rules: &[Rule]) -> Result<Self, Hole> {
        let mut list = Self::default();
        for (index, rule) in rules.iter().enumerate() {
            list.apply(rule).map_err(|wildcard| Hole {
                index,
                rule: Exception { devices: rule.devices, access: rule.access },
                wildcard,
            })?;
        }
        Ok(list)
    }

    /// Whether nothing is denied.
    pub fn is_open(&self) -> bool {
        self.allow && self.exceptions.is_empty()
    }

    /// Whether the kernel would let this use of a device pass. An exception to "nothing" must cover the whole
    /// use; an exception to "everything" denies it as soon as they share one letter.
    pub fn permits(&self, kind: Kind, major: u32, minor: u32, access: Access) -> bool {
        let mut covering = self.exceptions.iter().filter(|one| one.devices.covers(kind, major, minor));
        if self.allow {
            !covering.any(|one| one.access.meets(access))
        } else {
            covering.any(|one| access.without(one.access) == Access::NONE)
        }
    }

    /// The rules that lead from this list to another in v1's files, one write each; what is allowed comes before what is
    /// denied, so that nothing that both lists allow is ever denied.
    ///
    /// Where both have the same default, what somebody else has added to this list meanwhile stays. Where they do not,
    /// the first rule is one for all devices: for a moment, its default holds without exceptions.
    pub fn steps_to(&self, other: &Self) -> Vec<Rule> {
        if self.allow != other.allow {
            let devices = Devices { kind: Kind::All, major: None, minor: None };
            let turn = Rule { allow: other.allow, devices, access: Access::ALL };
            let exception =
                |one: &Exception| Rule { allow: !other.allow, devices: one.devices, access: one.access };
            return std::iter::once(turn).chain(other.exceptions.iter().map(exception)).collect();
        }
        let mut steps = self.lacks(other, !self.allow);
        steps.extend(other.lacks(self, self.allow));
        steps.sort_by_key(|rule| !rule.allow);
        steps
    }

    /// What the other list excepts, and this one does not.
    fn lacks(&self, other: &Self, allow: bool) -> Vec<Rule> {
        let lacking = |one: &Exception| {
            let known = self.exceptions.iter().find(|known| known.devices == one.devices);
            let access = one.access.without(known.map_or(Access::NONE, |known| known.access));
            (access != Access::NONE).then_some(Rule { allow, devices: one.devices, access })
        };
        other.exceptions.iter().filter_map(lacking).collect()
    }

    fn apply(&mut self, rule: &Rule) -> Result<(), Exception> {
        if rule.devices.kind == Kind::All {
            self.allow = rule.allow;
            self.exceptions.clear();
            Ok(())
        } else if rule.allow == self.allow {
            self.take(rule.devices, rule.access)
        } else {
            self.add(rule.devices, rule.access);
            Ok(())
        }
    }

    fn add(&mut self, devices: Devices, access: Access) {
        match self.exceptions.iter_mut().find(|one| one.devices == devices) {
            Some(known) => known.access = known.access.with(access),
            None => self.exceptions.push(Exception { devices, access }),
        }
    }

    fn take(&mut self, devices: Devices, access: Access) -> Result<(), Exception> {
        let wider = |one: &&Exception| {
            let Devices { kind, major, minor } = one.devices;
            one.devices != devices
                && kind == devices.kind
                && (major.is_none() || major == devices.major)
                && (minor.is_none() || minor == devices.minor)
                && one.access.meets(access)
        };
        if let Some(wildcard) = self.exceptions.iter().find(wider) {
            return Err(*wildcard);
        }
        for known in self.exceptions.iter_mut().filter(|one| one.devices == devices) {
            known.access = known.access.without(access);
        }
        self.exceptions.retain(|one| one.access != Access::NONE);
        Ok(())
    }

    /// The list as a program. It gets the kind and the wish in one word (wish above, kind below), then the
    /// major and the minor number, and answers 1 or 0.
    pub fn compile(&self) -> Vec<Insn> {
        let mut program = vec![
            Insn::load(Register::Kind, 0),
            Insn::copy(Register::Access, Register::Kind),
            Insn::with(AND, Register::Kind, 0xffff),
            Insn::with(SHIFT_RIGHT, Register::Access, 16),
            Insn::load(Register::Major, 4),
            Insn::load(Register::Minor, 8),
        ];
        for exception in &self.exceptions {
            self.test(exception, &mut program);
        }
        program.extend([Insn::answer(self.allow), Insn::EXIT]);
        program
    }

    /// Every test that fails jumps to the end of the exception's block, which is where the next one begins.
    fn test(&self, exception: &Exception, program: &mut Vec<Insn>) {
        let Devices { kind, major, minor } = exception.devices;
        let mut block =
            vec![Insn::jump_unless_equal(Register::Kind, if kind == Kind::Block { 1 } else { 2 })];
        if let Some(major) = major {
            block.push(Insn::jump_unless_equal(Register::Major, major));
        }
        if let Some(minor) = minor {
            block.push(Insn::jump_unless_equal(Register::Minor, minor));
        }
        if self.allow {
            block.extend([
                Insn::copy(Register::Scratch, Register::Access),
                Insn::with(AND, Register::Scratch, u32::from(exception.access.0)),
                Insn::jump_if_zero(Register::Scratch),
            ]);
        } else if exception.access != Access::ALL {
            block.extend([
                Insn::copy(Register::Scratch, Register::Access),
                Insn::with(AND, Register::Scratch, u32::from(Access::ALL.without(exception.access).0)),
                Insn::jump_unless_equal(Register::Scratch, 0),
            ]);
        }
        block.extend([Insn::answer(!self.allow), Insn::EXIT]);
        for (insn, left) in block.iter_mut().rev().zip(0..) {
            if insn.is_jump() {
                insn.offset = left;
            }
        }
        program.append(&mut block);
    }
}

/// The kernel's own registers, by what this program keeps in them.
#[derive(Clone, Copy, Debug)]
enum Register {
    Answer = 0,
    /// The context pointer to begin with; it is not needed once everything is loaded.
    Context = 1,
    Kind = 2,
    Access = 3,
    Major = 4,
    Minor = 5,
    Scratch = 6,
}

/// One instruction, `struct bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Class, operation and source.
    pub code: u8,
    /// Destination register in the lower half, source in the upper.
    pub registers: u8,
    /// Jump distance, or place in the context.
    pub offset: i16,
    /// The constant.
    pub constant: i32,
}

// linux/bpf_common.h and linux/bpf.h. Jumps compare 32 bits (since Linux 5.1): a 64-bit comparison would
// extend the constant by its sign.
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const COPY: u8 = 0xbc;
const SET: u8 = 0xb4;
const JUMP_EQUAL: u8 = 0x16;
const JUMP_UNEQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

impl Insn {
    const EXIT: Self = Self { code: EXIT, registers: 0, offset: 0, constant: 0 };

    /// As the kernel reads it from memory, in this machine's byte order.
    pub fn encode(self) -> u64 {
        let [offset_0, offset_1] = self.offset.to_ne_bytes();
        let [constant_0, constant_1, constant_2, constant_3] = self.constant.to_ne_bytes();
        let registers =
            if cfg!(target_endian = "big") { self.registers.rotate_left(4) } else { self.registers };
        u64::from_ne_bytes([
            self.code, registers, offset_0, offset_1, constant_0, constant_1, constant_2, constant_3,
        ])
    }

    fn load(into: Register, offset: i16) -> Self {
        Self { code: LOAD_WORD, registers: into as u8 | (Register::Context as u8) << 4, offset, constant: 0 }
    }

    fn copy(into: Register, from: Register) -> Self {
        Self { code: COPY, registers: into as u8 | (from as u8) << 4, offset: 0, constant: 0 }
    }

    fn with(code: u8, register: Register, constant: u32) -> Self {
        Self { code, registers: register as u8, offset: 0, constant: constant.cast_signed() }
    }

    fn answer(allow: bool) -> Self {
        Self::with(SET, Register::Answer, u32::from(allow))
    }

    fn jump_unless_equal(register: Register, constant: u32) -> Self {
        Self::with(JUMP_UNEQUAL, register, constant)
    }

    fn jump_if_zero(register: Register) -> Self {
        Self::with(JUMP_EQUAL, register, 0)
    }

    fn is_jump(self) -> bool {
        matches!(self.code, JUMP_EQUAL | JUMP_UNEQUAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, text: &str) -> Rule {
        let words: Vec<&str> = text.split([' ', ':']).collect();
        let number = |text: &str| text.parse().ok();
        let kind = match words[0] {
            "a" => Kind::All,
            "b" => Kind::Block,
            _ => Kind::Char,
        };
        let devices = Devices { kind, major: number(words[1]), minor: number(words[2]) };
        Rule { allow, devices, access: Access::parse(words[3]).unwrap_or(Access::NONE) }
    }

    fn allow(text: &str) -> Rule {
        rule(true, text)
    }

    fn deny(text: &str) -> Rule {
        rule(false, text)
    }

    /// Runs the program as the kernel would; nothing where the kernel would refuse it.
    fn run(program: &[Insn], context: [u32; 3]) -> Option<u32> {
        let mut registers = [None; 11];
        let mut at = 0;
        loop {
            let insn = program.get(at)?;
            let (into, from) = (usize::from(insn.registers & 15), usize::from(insn.registers >> 4));
            let constant = insn.constant.cast_unsigned();
            let mut jump = false;
            match insn.code {
                LOAD_WORD if from == 1 => {
                    registers[into] = Some(context[usize::try_from(insn.offset).ok()? / 4]);
                }
                COPY => registers[into] = Some(registers[from]?),
                SET => registers[into] = Some(constant),
                AND => registers[into] = Some(registers[into]? & constant),
                SHIFT_RIGHT => registers[into] = Some(registers[into]? >> constant),
                JUMP_EQUAL => jump = registers[into]? == constant,
                JUMP_UNEQUAL => jump = registers[into]? != constant,
                EXIT => return registers[0],
                _ => continue,
            }
            at += 1;
            if jump {
                at += usize::try_from(insn.offset).ok()?;
            }
        }
    }

    fn agree(list: &List) {
        let program = list.compile();
        let numbers = [0, 1, 2, 3, 5, 8, 9, 10, 136, 200, 4095, u32::MAX];
        for (kind, code) in [(Kind::Block, 1), (Kind::Char, 2)] {
            for access in 0..8 {
                for major in numbers {
                    for minor in numbers {
                        assert_eq!(
                            run(&program, [u32::from(access) << 16 | code, major, minor]),
                            Some(u32::from(list.permits(kind, major, minor, Access(access)))),
                            "{kind:?} {major}:{minor} {} in {list:?}",
                            Access(access)
                        );
                    }
                }
            }
        }
    }

    fn texts(list: &List) -> Vec<String> {
        list.exceptions.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn program_and_list_agree() -> Result<(), Hole> {
        let lists: [&[Rule]; 8] = [
            &[],
            &[allow("a *:* rwm")],
            &[deny("a *:* rwm")],
            &[
                deny("a *:* rwm"),
                allow("c *:* m"),
                allow("b *:* m"),
                allow("c 1:3 rwm"),
                allow("c 136:* rwm"),
            ],
            &[allow("a *:* rwm"), deny("c 1:3 w"), deny("b *:* rwm"), deny("c *:8 r")],
            &[allow("c 1:3 r"), allow("c 1:3 w"), allow("b 8:* rw"), deny("b 8:* w")],
            &[allow("a *:* rwm"), deny("b 8:9 rwm"), allow("b 8:9 m")],
            &[allow("c 4294967295:4294967295 rwm"), allow("c 2147483648:1 rm")],
        ];
        for rules in lists {
            agree(&List::of(rules)?);
        }
        Ok(())
    }

    #[test]
    fn steps_lead_from_one_list_to_another() -> Result<(), Hole> {
        let lists = [
            List::of(&[])?,
            List::of(&[allow("a *:* rwm")])?,
            List::of(&[allow("c 1:3 rwm"), allow("c *:* m"), allow("b 8:0 r")])?,
            List::of(&[allow("c 1:3 r"), allow("c 1:5 rw"), allow("b 8:* r")])?,
            List::of(&[allow("a *:* rwm"), deny("b 8:0 w"), deny("c 1:3 rwm")])?,
            List::of(&[allow("a *:* rwm"), deny("b 8:0 rw"), deny("c 1:9 m")])?,
        ];
        for from in &lists {
            assert_eq!(from.steps_to(from), []);
            for to in &lists {
                let steps = from.steps_to(to);
                let (mut seen, mut written) = (from.clone(), 0);
                for rule in &steps {
                    // As the kernel does it, which takes away what is written the same and looks at nothing else.
                    match rule.devices.kind {
                        Kind::All => (seen.allow, seen.exceptions) = (rule.allow, Vec::new()),
                        _ if rule.allow != seen.allow => seen.add(rule.devices, rule.access),
                        _ => {
                            for known in seen.exceptions.iter_mut().filter(|one| one.devices == rule.devices)
                            {
                                known.access = known.access.without(rule.access);
                            }
                            seen.exceptions.retain(|one| one.access != Access::NONE);
                        }
                    }
                    written += 1;
                    // What both lists allow is allowed at every moment, where the default stays.
                    if from.allow == to.allow {
                        for (kind, major, minor) in
                            [(Kind::Char, 1, 3), (Kind::Block, 8, 0), (Kind::Char, 7, 7)]
                        {
                            for access in (1..8).map(Access) {
                                let both = from.permits(kind, major, minor, access)
                                    && to.permits(kind, major, minor, access);
                                assert!(
                                    !both || seen.permits(kind, major, minor, access),
                                    "{steps:?}, {written}"
                                );
                            }
                        }
                    }
                }
                let (mut seen_texts, mut to_texts) = (texts(&seen), texts(to));
                seen_texts.sort_unstable();
                to_texts.sort_unstable();
                assert_eq!((seen.allow, seen_texts), (to.allow, to_texts), "from {from:?} by {steps:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn program_and_list_agree_on_generated_rules() {
        // A linear congruential generator: the same rules on every run.
        let mut seed = 0x5eed_u64;
        let mut draw = move |below: u8| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed.to_le_bytes()[6] % below
        };
        let mut agreed = 0;
        for _ in 0..300 {
            let mut rules = Vec::new();
            for _ in 0..draw(8) {
                let mut number = || Some(u32::from(draw(5))).filter(|number| *number != 4);
                let (major, minor) = (number(), number());
                let kind =
                    [Kind::Char, Kind::Block, Kind::Char, Kind::Block, Kind::All][usize::from(draw(5))];
                let access = Access(draw(7) + 1);
                rules.push(Rule { allow: draw(2) == 0, devices: Devices { kind, major, minor }, access });
            }
            if let Ok(list) = List::of(&rules) {
                agree(&list);
                agreed += 1;
            }
        }
        assert!(agreed > 100, "{agreed}");
    }

    #[test]
    fn a_rule_for_all_forgets_what_was_said_before() -> Result<(), Hole> {
        let list = List::of(&[allow("c 1:3 rwm"), deny("a *:* rwm"), allow("c 1:5 r")])?;
        assert_eq!((list.allow, texts(&list)), (false, vec!["c 1:5 r".to_owned()]));
        assert!(List::of(&[deny("a *:* rwm"), allow("a 1:3 r"), allow("c 1:5 r")])?.is_open());
        Ok(())
    }

    #[test]
    fn letters_of_one_device_are_joined_and_taken_apart() -> Result<(), Hole> {
        let list = List::of(&[allow("c 1:3 r"), allow("c 1:3 wm"), allow("b 8:0 rw"), deny("c 1:3 m")])?;
        assert_eq!(texts(&list), ["c 1:3 rw", "b 8:0 rw"]);
        Ok(())
    }

    #[test]
    fn a_hole_in_a_wildcard_is_refused() {
        let hole = List::of(&[allow("c 1:* rw"), deny("c 1:3 w")]);
        assert_eq!(
            hole.map_err(|hole| (hole.index, hole.to_string())),
            Err((1, "rule [c 1:3 w] cannot cut a hole into the wildcard rule [c 1:* rw]".into()))
        );
        // Without a letter in common there is nothing to cut.
        assert!(List::of(&[allow("c *:* m"), deny("c 1:3 rw")]).is_ok());
    }

    #[test]
    fn a_denied_letter_denies_the_whole_use() -> Result<(), Hole> {
        let list = List::of(&[allow("a *:* rwm"), deny("c 1:5 w")])?;
        assert!(!list.permits(Kind::Char, 1, 5, Access::READ.with(Access::WRITE)));
        assert!(list.permits(Kind::Char, 1, 5, Access::READ));
        Ok(())
    }

    #[test]
    fn letters_other_than_rwm_are_no_access() {
        assert_eq!(Access::parse("rwm"), Some(Access::ALL));
        assert_eq!(Access::parse("rx"), Some(Access::READ));
        assert_eq!(Access::parse("x"), None);
        assert_eq!(Access::parse(""), None);
    }
}
