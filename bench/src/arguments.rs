//! The command line.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::Error;

pub(crate) const HELP: &str = "\
bench [--runtime NAME=PATH]... [--rounds N] [--spaced N] [--gap MS] [--hybrid] [--floor PATH] [--json]

  --runtime NAME=PATH  an OCI runtime; crun and runc are found by themselves, those of script/bench-peers first
  --only               none but those named by --runtime, and the floor
  --rounds N           rounds back to back (200)
  --spaced N           rounds with a pause before each command (60)
  --gap MS             that pause (50)
  --hybrid             leave the unified tree beside v1 hierarchies mounted; today's crun does not run then
  --floor PATH         the floor (beside this program)
  --shim NAME=PATH     a containerd shim beside containerd's own, and no runtimes; again for more
  --idle SECONDS       how long a shim is watched that has nothing to do (20)
  --json               print one JSON document
  --packages DIR       no runtime at all: packages of these files are made and installed, and small ones mounted, --rounds
                       times --gap apart, and --spaced times in a row
  --joins              no runtime at all: what each way into a control group takes, --spaced times, --gap apart
";

/// What the caller wants.
pub(crate) enum Wish {
    Measure(Arguments),
    /// Measure containerd shims.
    Shims(Arguments),
    /// Measure packages.
    Packages(Arguments),
    /// Measure the ways into a control group.
    Joins {
        rounds: u32,
        gap: u64,
    },
    /// Run this once and print the peak of its memory: what `bench` asks of a small copy of itself.
    Peak(Vec<OsString>),
    Help,
}

pub(crate) struct Arguments {
    pub(crate) runtimes: Vec<(String, PathBuf)>,
    pub(crate) shims: Vec<(String, PathBuf)>,
    pub(crate) packages: Option<PathBuf>,
    pub(crate) floor: PathBuf,
    pub(crate) rounds: u32,
    pub(crate) spaced: u32,
    pub(crate) gap: u64,
    pub(crate) idle: u64,
    pub(crate) hybrid: bool,
    pub(crate) json: bool,
}

impl Wish {
    pub(crate) fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Self, Error> {
        let floor = env::current_exe()?.with_file_name("floor");
        let mut asked = Arguments {
            runtimes: Vec::new(),
            shims: Vec::new(),
            packages: None,
            floor,
            rounds: 200,
            spaced: 60,
            gap: 50,
            idle: 20,
            hybrid: false,
            json: false,
        };
        let (mut only, mut joins) = (false, false);
        while let Some(word) = words.next() {
            let word = word.into_string().map_err(|word| format!("{}: not UTF-8", word.display()))?;
            let mut value = || -> Result<String, Error> {
                let value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
                Ok(value.into_string().map_err(|value| format!("{word} {}: not UTF-8", value.display()))?)
            };
            match word.as_str() {
                "--runtime" => {
                    let value = value()?;
                    let (name, path) = value.split_once('=').ok_or("--runtime wants NAME=PATH")?;
                    asked.runtimes.push((name.into(), path.into()));
                }
                "--shim" => {
                    let value = value()?;
                    let (name, path) = value.split_once('=').ok_or("--shim wants NAME=PATH")?;
                    asked.shims.push((name.into(), path.into()));
                }
                "--idle" => asked.idle = number(&word, &value()?)?.into(),
                "--packages" => asked.packages = Some(value()?.into()),
                "--floor" => asked.floor = value()?.into(),
                "--rounds" => asked.rounds = number(&word, &value()?)?,
                "--spaced" => asked.spaced = number(&word, &value()?)?,
                "--gap" => asked.gap = number(&word, &value()?)?.into(),
                "--only" => only = true,
                "--hybrid" => asked.hybrid = true,
                "--json" => asked.json = true,
                "--joins" => joins = true,
                "--peak" => return Ok(Self::Peak(words.collect())),
                "--help" | "-h" => return Ok(Self::Help),
                _ => return Err(format!("{word}: no such option\n{HELP}").into()),
            }
        }
        if joins {
            return Ok(Self::Joins { rounds: asked.spaced, gap: asked.gap });
        }
        if asked.packages.is_some() {
            if asked.json {
                return Err("--json: packages are told in tables".into());
            }
            return Ok(Self::Packages(asked));
        }
        if !asked.shims.is_empty() {
            const STOCK: &str = "containerd-shim-runc-v2";
            asked.shims.extend(find(STOCK).map(|path| ("containerd's".into(), path)));
            return Ok(Self::Shims(asked));
        }
        for name in ["crun", "runc"] {
            if !only && asked.runtimes.iter().all(|(named, _)| named != name) {
                asked.runtimes.extend(find(name).map(|path| (name.into(), path)));
            }
        }
        Ok(Self::Measure(asked))
    }
}

fn number(option: &str, value: &str) -> Result<u32, Error> {
    Ok(value.parse().map_err(|error| format!("{option} {value}: {error}"))?)
}

/// Where script/bench-peers put it, or else in PATH.
fn find(name: &str) -> Option<PathBuf> {
    let cache = env::var_os("COFFERDAM_CACHE").unwrap_or_else(|| "/var/cache/cofferdam".into());
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(Path::new(&cache).join("peers/bin")).chain(env::split_paths(&path));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}
