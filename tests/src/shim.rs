//! The containerd shim under test, as a program.

use std::fs;
use std::path::{Path, PathBuf};

use crate::runtime::newest_build;
use crate::{Age, copy_program};

/// A program that speaks containerd's shim contract.
#[derive(Clone, Debug)]
pub struct Shim {
    program: PathBuf,
}

const OURS: &str = "containerd-shim-cofferdam-v2";
const STOCK: &str = "containerd-shim-runc-v2";

impl Shim {
    /// The shim that the tests are about: what `COFFERDAM_SHIM` names, or the newest release build of the workspace.
    /// A test that calls this begins with `needs!(Shim)`.
    pub fn under_test() -> Self {
        Self { program: find().expect("there is one, as needs!(Shim) has seen") }
    }

    /// containerd's own, to compare with.
    pub fn stock() -> Self {
        Self::stock_of(Age::Bookworm)
    }

    /// The one of that age's containerd.
    pub fn stock_of(age: Age) -> Self {
        Self { program: age.bin().join(STOCK) }
    }

    /// A copy of its own, which takes the place of whatever has its name in `dir`, as a package manager's does.
    #[must_use]
    pub fn installed_in(&self, dir: &Path) -> Self {
        let (program, draft) = (dir.join(self.file_name()), dir.join(".draft"));
        copy_program(&self.program, &draft);
        fs::rename(&draft, &program).expect("put it into its place");
        Self { program }
    }

    /// Why there is none to test.
    pub(crate) fn lacking() -> Option<String> {
        find().err()
    }

    /// The program's path.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The program's file name, by which containerd looks for it.
    pub fn file_name(&self) -> &str {
        self.program.file_name().and_then(|name| name.to_str()).expect("a shim has a name")
    }

    /// How containerd calls it: the last two words of the file's name are the last two of this.
    pub fn runtime(&self) -> String {
        let name = self.file_name().trim_start_matches("containerd-shim-");
        format!("io.containerd.{}", name.replacen('-', ".", 1))
    }

    /// Whether it is containerd's own. What we promise beyond the contract is not asked of it.
    pub fn is_stock(&self) -> bool {
        self.file_name() == STOCK
    }

    /// Whether it is that of 1.6, which tells an exec's end after init's where both end at once.
    pub fn is_of_16(&self) -> bool {
        self.is_stock() && self.program.parent() == Some(&Age::Bookworm.bin())
    }
}

fn find() -> Result<PathBuf, String> {
    let Some(program) = std::env::var_os("COFFERDAM_SHIM").map(PathBuf::from) else {
        return newest_build(OURS).ok_or_else(|| format!("no {OURS} (`make build`)"));
    };
    assert!(
        program.is_absolute() && program.exists(),
        "COFFERDAM_SHIM={}: no such program",
        program.display()
    );
    Ok(program)
}
