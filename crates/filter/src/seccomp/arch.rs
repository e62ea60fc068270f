//! Architectures: what they are called, how a filter recognises them, and how they number their calls.

use super::table::{NONE, ROWS};

/// An architecture, or the way in which a kernel of one runs programs of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub enum Arch {
    X86,
    X86_64,
    X32,
    Arm,
    Aarch64,
    Loongarch64,
    M68k,
    Mips,
    Mipsel,
    Mips64,
    Mipsel64,
    Mips64n32,
    Mipsel64n32,
    Parisc,
    Parisc64,
    Ppc,
    Ppc64,
    Ppc64le,
    Riscv64,
    S390,
    S390x,
    Sh,
    Sheb,
}

use Arch::{
    Aarch64, Arm, Loongarch64, M68k, Mips, Mips64, Mips64n32, Mipsel, Mipsel64, Mipsel64n32, Parisc,
    Parisc64, Ppc, Ppc64, Ppc64le, Riscv64, S390, S390x, Sh, Sheb, X32, X86, X86_64,
};

/// Set in the number of every x32 call, which is else one of x86-64.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// Bits of `AUDIT_ARCH_*` beside the machine's number in ELF.
const LITTLE: u32 = 0x4000_0000;
const WIDE: u32 = 0x8000_0000;
const N32: u32 = 0x2000_0000;

impl Arch {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 23] = [
        Aarch64,
        Arm,
        Loongarch64,
        M68k,
        Mips,
        Mips64,
        Mips64n32,
        Mipsel,
        Mipsel64,
        Mipsel64n32,
        Parisc,
        Parisc64,
        Ppc,
        Ppc64,
        Ppc64le,
        Riscv64,
        S390,
        S390x,
        Sh,
        Sheb,
        X32,
        X86,
        X86_64,
    ];

    /// What this program was built for, where it is known.
    pub const NATIVE: Option<Self> = if cfg!(target_arch = "x86_64") {
        Some(X86_64)
    } else if cfg!(target_arch = "aarch64") {
        Some(Aarch64)
    } else if cfg!(target_arch = "x86") {
        Some(X86)
    } else if cfg!(target_arch = "arm") {
        Some(Arm)
    } else if cfg!(target_arch = "riscv64") {
        Some(Riscv64)
    } else {
        None
    };

    /// By the specification's word.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.name() == name)
    }

    /// The specification's word.
    pub fn name(self) -> &'static str {
        match self {
            X86 => "SCMP_ARCH_X86",
            X86_64 => "SCMP_ARCH_X86_64",
            X32 => "SCMP_ARCH_X32",
            Arm => "SCMP_ARCH_ARM",
            Aarch64 => "SCMP_ARCH_AARCH64",
            Loongarch64 => "SCMP_ARCH_LOONGARCH64",
            M68k => "SCMP_ARCH_M68K",
            Mips => "SCMP_ARCH_MIPS",
            Mipsel => "SCMP_ARCH_MIPSEL",
            Mips64 => "SCMP_ARCH_MIPS64",
            Mipsel64 => "SCMP_ARCH_MIPSEL64",
            Mips64n32 => "SCMP_ARCH_MIPS64N32",
            Mipsel64n32 => "SCMP_ARCH_MIPSEL64N32",
            Parisc => "SCMP_ARCH_PARISC",
            Parisc64 => "SCMP_ARCH_PARISC64",
            Ppc => "SCMP_ARCH_PPC",
            Ppc64 => "SCMP_ARCH_PPC64",
            Ppc64le => "SCMP_ARCH_PPC64LE",
            Riscv64 => "SCMP_ARCH_RISCV64",
            S390 => "SCMP_ARCH_S390",
            S390x => "SCMP_ARCH_S390X",
            Sh => "SCMP_ARCH_SH",
            Sheb => "SCMP_ARCH_SHEB",
        }
    }

    /// What `seccomp_data.arch` says: `AUDIT_ARCH_*` of `linux/audit.h`. x32 is x86-64 by this.
    #[allow(clippy::decimal_bitwise_operands, reason = "elf.h has the machines in decimal")]
    pub fn audit(self) -> u32 {
        match self {
            X86 => 3 | LITTLE,
            X86_64 | X32 => 62 | WIDE | LITTLE,
            Arm => 40 | LITTLE,
            Aarch64 => 183 | WIDE | LITTLE,
            Loongarch64 => 258 | WIDE | LITTLE,
            M68k => 4,
            Mips => 8,
            Mipsel => 8 | LITTLE,
            Mips64 => 8 | WIDE,
            Mipsel64 => 8 | WIDE | LITTLE,
            Mips64n32 => 8 | WIDE | N32,
            Mipsel64n32 => 8 | WIDE | LITTLE | N32,
            Parisc => 15,
            Parisc64 => 15 | WIDE,
            Ppc => 20,
            Ppc64 => 21 | WIDE,
            Ppc64le => 21 | WIDE | LITTLE,
            Riscv64 => 243 | WIDE | LITTLE,
            S390 => 22,
            S390x => 22 | WIDE,
            Sh => 42 | LITTLE,
            Sheb => 42,
        }
    }

    /// The number of a call as a filter sees it, offsets included; nothing if the architecture does not have it.
    pub fn call(self, name: &str) -> Option<u32> {
        self.number(row(name)?)
    }

    /// Whether the first byte of a word is its highest.
    pub(super) fn is_big_endian(self) -> bool {
        self.audit() & LITTLE == 0
    }

    /// Whether conditions see all 64 bits of an argument.
    pub(super) fn is_wide(self) -> bool {
        self.audit() & WIDE != 0 && !matches!(self, X32 | Mips64n32 | Mipsel64n32)
    }

    /// Whether the kernel calls number 0 what it could not read: s390's way with large numbers.
    pub(super) fn has_multiplex(self) -> bool {
        matches!(self, S390 | S390x)
    }

    /// Whether `socketcall` and `ipc` carry other calls there.
    pub(super) fn has_carriers(self) -> bool {
        matches!(self, X86 | M68k | Mips | Mipsel | Ppc | Ppc64 | Ppc64le | S390 | S390x | Sh | Sheb)
    }

    /// The number of the call in a row of the table, as a filter sees it.
    pub(super) fn number(self, row: usize) -> Option<u32> {
        let (_, numbers) = ROWS.get(row)?;
        let number = numbers.get(self.column()).copied().filter(|number| *number != NONE)?;
        Some(number + self.base())
    }

    /// Added to each number of the table.
    fn base(self) -> u32 {
        match self {
            X32 => X32_BIT,
            Mips | Mipsel => 4000,
            Mips64 | Mipsel64 => 5000,
            Mips64n32 | Mipsel64n32 => 6000,
            _ => 0,
        }
    }

    fn column(self) -> usize {
        match self {
            X86 => 0,
            X86_64 => 1,
            X32 => 2,
            Arm => 3,
            Aarch64 => 4,
            Loongarch64 => 5,
            M68k => 6,
            Mips | Mipsel => 7,
            Mips64 | Mipsel64 => 8,
            Mips64n32 | Mipsel64n32 => 9,
            Parisc => 10,
            Parisc64 => 11,
            Ppc => 12,
            Ppc64 | Ppc64le => 13,
            Riscv64 => 14,
            S390 => 15,
            S390x => 16,
            Sh | Sheb => 17,
        }
    }
}

/// The row of a name in the table.
pub(super) fn row(name: &str) -> Option<usize> {
    ROWS.binary_search_by(|(known, _)| (*known).cmp(name)).ok()
}

#[cfg(test)]
mod tests {
    use super::super::table::COLUMNS;
    use super::*;

    #[test]
    fn columns_are_where_the_table_has_them() {
        for arch in Arch::ALL {
            let column = COLUMNS[arch.column()];
            let name = arch.name().trim_start_matches("SCMP_ARCH_").to_lowercase();
            let kin = name.replacen("mipsel", "mips", 1).replace("ppc64le", "ppc64").replace("sheb", "sh");
            assert_eq!(column, kin);
            assert_eq!(Arch::parse(arch.name()), Some(arch));
        }
    }

    #[test]
    fn names_are_sorted() {
        assert!(ROWS.is_sorted_by(|(one, _), (next, _)| one < next));
    }

    #[test]
    fn numbers_are_the_kernels() {
        assert_eq!(X86_64.call("clone3"), Some(435));
        assert_eq!(X86_64.call("execve"), Some(59));
        assert_eq!(X32.call("execve"), Some(X32_BIT + 520));
        assert_eq!(X86.call("execve"), Some(11));
        assert_eq!(Aarch64.call("execve"), Some(221));
        assert_eq!(Mips64n32.call("read"), Some(6000));
        assert_eq!(Arm.call("set_tls"), Some(0x0f_0005));
        assert_eq!(Aarch64.call("open"), None);
        assert_eq!(row("no_such_call"), None);
    }
}
