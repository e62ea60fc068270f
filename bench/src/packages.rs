//! Packages: what it takes to make one of a directory, to install it, and to mount it, alone and many in a row.
//!
//! Files lie where temporary files lie on this machine, and not on a tmpfs: an installation is on disk when it is done.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use package::compose::{Format, Recipe, pack};
use package::mount::mount;
use package::repository::{Repository, Rules};
use package::squashfs::Compression;
use package::tree::Tree;
use package::{Manifest, Package, SecretKey, generate_pair};
use rustix::fs::CWD;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount};

use crate::report::Row;
use crate::{Arguments, Error, say};

/// As many as the reference was measured with when it was published.
const IN_A_ROW: usize = 18;
/// Packing takes seconds, and varies little.
const PACKED: u32 = 3;

/// Measures with the files of a directory; prints the tables.
pub(crate) fn measure(arguments: &Arguments, work: &Path) -> Result<ExitCode, Error> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let files = arguments.packages.as_deref().ok_or("--packages wants a directory")?;
    let outcome = Bench::new(work).and_then(|bench| bench.tables(files, arguments));
    for entry in fs::read_dir(work)? {
        let path = entry?.path();
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    io::stdout().write_all(outcome?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

struct Bench<'a> {
    work: &'a Path,
    key: SecretKey,
}

impl<'a> Bench<'a> {
    fn new(work: &'a Path) -> Result<Self, Error> {
        let (secret, _) = generate_pair(work, "k")?;
        Ok(Self { work, key: SecretKey::read(&secret)? })
    }

    fn tables(&self, files: &Path, arguments: &Arguments) -> Result<String, Error> {
        let tree = Tree::of_directory(files)?;
        let size = tree.size();
        let megabytes = mega(size);
        let mut text = format!("\n{} has {megabytes:.0} MB of contents\n", files.display());
        writeln!(
            text,
            "\n| made, {PACKED} rounds | seconds | MB/s of contents | MB made |\n|---|---|---|---|"
        )?;
        let mut made = PathBuf::new();
        for compression in [Compression::None, Compression::Gzip] {
            say(&format!("bench: packs by {compression:?}"));
            let (took, path) = fastest(|round| self.pack("made", round, &tree, compression))?;
            row(
                &mut text,
                &format!("cofferctl pack, {compression:?}"),
                took,
                megabytes,
                path.metadata()?.len(),
            )?;
            made = path;
        }
        for (told, flags) in PEERS {
            say(&format!("bench: mksquashfs, {told}"));
            let image = self.work.join("peer.img");
            match fastest(|_| mksquashfs(files, &image, flags)) {
                Ok((took, ())) => {
                    row(&mut text, &format!("mksquashfs, {told}"), took, megabytes, image.metadata()?.len())?;
                }
                Err(error) => say(&format!("bench: left out: mksquashfs, {told}: {error}")),
            }
        }
        self.installations(&mut text, &made)?;
        self.mounts(&mut text, arguments)?;
        Ok(text)
    }

    /// A signed package of a tree, on disk.
    fn pack(&self, name: &str, number: u32, tree: &Tree, compression: Compression) -> Result<PathBuf, Error> {
        let text = format!("name: {name}-{number}\nversion: 0.0.1\ninit: /floor\nuid: 1000\ngid: 1000\n");
        let manifest = Manifest::read("bench", text.as_bytes())?;
        let recipe = Recipe {
            manifest: &manifest,
            text: text.as_bytes(),
            tree: tree.clone(),
            format: Format::Squashfs(compression),
            key: Some(&self.key),
        };
        Ok(pack(&recipe, self.work, &mut |_| ())?)
    }

    /// Installing what was packed: received, verified whole, and on disk.
    fn installations(&self, text: &mut String, package: &Path) -> Result<(), Error> {
        let size = package.metadata()?.len();
        writeln!(
            text,
            "\n| installed, {PACKED} rounds | seconds | MB/s of the package | MB |\n|---|---|---|---|"
        )?;
        let rules = || Rules { key: Some(self.key.public()), ..Rules::default() };
        let place = self.work.join("repository");
        for is_kept in [true, false] {
            let told = if is_kept { "in a directory" } else { "in memory" };
            say(&format!("bench: installs {told}"));
            let (took, ()) = fastest(|_| {
                if place.exists() {
                    fs::remove_dir_all(&place)?;
                }
                fs::create_dir(&place)?;
                let mut repository = if is_kept {
                    Repository::open(&place, rules())?.0
                } else {
                    Repository::in_memory(rules())
                };
                install(&mut repository, package, size)
            })?;
            row(text, told, took, mega(size), size)?;
        }
        Ok(())
    }

    fn mounts(&self, text: &mut String, arguments: &Arguments) -> Result<(), Error> {
        let root = self.work.join("small");
        fs::create_dir(&root)?;
        fs::copy(&arguments.floor, root.join("floor"))?;
        let tree = Tree::of_directory(&root)?;
        let mut packages = Vec::new();
        for number in 0..IN_A_ROW {
            let number = u32::try_from(number)?;
            let path = self.pack("small", number, &tree, Compression::Gzip)?;
            let place = self.work.join(format!("mount-{number}"));
            fs::create_dir(&place)?;
            packages.push((path, place));
        }
        say(&format!("bench: mounts, {} rounds", arguments.rounds));
        let (mut alone, mut away, mut row) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..arguments.rounds {
            let (path, place) = &packages[round as usize % packages.len()];
            std::thread::sleep(Duration::from_millis(arguments.gap));
            alone.push(milliseconds(|| attach(path, place))?);
            away.push(milliseconds(|| detach(place))?);
        }
        for _ in 0..arguments.spaced {
            let all = milliseconds(|| packages.iter().try_for_each(|(path, place)| attach(path, place)))?;
            #[allow(clippy::cast_precision_loss, reason = "eighteen")]
            row.push(all / IN_A_ROW as f64);
            packages.iter().try_for_each(|(_, place)| detach(place))?;
        }
        let size = mega(packages[0].0.metadata()?.len());
        writeln!(text, "\n| a package of {size:.2} MB (ms) | median | min | p99 |\n|---|---|---|---|")?;
        let gap = arguments.gap;
        for (told, times) in [
            (
                format!("read, its loop device, its mount: {gap} ms apart, {} rounds", arguments.rounds),
                &alone,
            ),
            (format!("one of {IN_A_ROW} in a row, {} rounds", arguments.spaced), &row),
            ("unmounted".to_owned(), &away),
        ] {
            if let Some(Row { median, min, p99 }) = Row::of(times) {
                writeln!(text, "| {told} | {median:.2} | {min:.2} | {p99:.2} |")?;
            }
        }
        Ok(())
    }
}

/// The fastest of some rounds: packing is arithmetic, and everything else is another's doing.
fn fastest<T>(mut once: impl FnMut(u32) -> Result<T, Error>) -> Result<(Duration, T), Error> {
    let mut best = None;
    for round in 0..PACKED {
        let begin = Instant::now();
        let made = once(round)?;
        let took = begin.elapsed();
        if best.as_ref().is_none_or(|(fastest, _)| took < *fastest) {
            best = Some((took, made));
        }
    }
    best.ok_or_else(|| "no round at all".into())
}

/// What others make images with, where it is there.
const PEERS: [(&str, &[&str]); 4] = [
    ("not packed, one thread", &["-processors", "1", "-noI", "-noD", "-noF", "-noX"]),
    ("not packed, all processors", &["-noI", "-noD", "-noF", "-noX"]),
    ("gzip, one thread", &["-processors", "1", "-comp", "gzip"]),
    ("gzip, all processors", &["-comp", "gzip"]),
];

fn mksquashfs(files: &Path, image: &Path, flags: &[&str]) -> Result<(), Error> {
    let mut command = Command::new("mksquashfs");
    command.arg(files).arg(image).args(["-noappend", "-no-progress", "-quiet"]).args(flags);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if !status.success() {
        return Err(format!("{status}").into());
    }
    // As ours is.
    Ok(File::open(image)?.sync_all()?)
}

fn install(repository: &mut Repository, package: &Path, size: u64) -> Result<(), Error> {
    let mut install = repository.begin(size)?;
    let (mut file, mut piece) = (File::open(package)?, vec![0; 1 << 20]);
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            break;
        }
        install.write(&piece[..count])?;
    }
    let ready = install.close(|_| ())?;
    repository.accept(ready)?;
    Ok(())
}

/// From a file to a mount that can be seen. Nothing is verified: that is the kernel's, by dm-verity, where it has it.
fn attach(path: &Path, place: &Path) -> Result<(), Error> {
    let package = Package::read(File::open(path)?)?;
    let mounted = mount(&package, None)?;
    move_mount(&mounted.mount, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

fn detach(place: &Path) -> Result<(), Error> {
    Ok(unmount(place, UnmountFlags::empty())?)
}

fn milliseconds(once: impl FnOnce() -> Result<(), Error>) -> Result<f64, Error> {
    let begin = Instant::now();
    once()?;
    Ok(begin.elapsed().as_secs_f64() * 1000.0)
}

fn row(text: &mut String, told: &str, took: Duration, megabytes: f64, made: u64) -> Result<(), Error> {
    let seconds = took.as_secs_f64();
    Ok(writeln!(text, "| {told} | {seconds:.2} | {:.0} | {:.1} |", megabytes / seconds, mega(made))?)
}

#[allow(clippy::cast_precision_loss, reason = "a few digits are shown")]
fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
