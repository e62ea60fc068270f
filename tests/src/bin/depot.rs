//! `depot DIRECTORY KEY WORDS`: a repository in a process of its own, that can be killed, starved and raced. A directory
//! or key of `-` is none: a repository in memory, packages of anybody.
//!
//! | words | does | prints |
//! |---|---|---|
//! | `scan` | opens the repository | `removed FILE`, `skipped FILE: REASON`, `entry NAME:VERSION` |
//! | `install FILE PIECE` | installs a file in pieces of so many bytes; before the last step it waits for the end of its input | `written`, `installed NAME:VERSION` |
//! | `uninstall NAME:VERSION [DATA]` | uninstalls, and wipes | `uninstalled` |
//! | `mount FILE` | installs a file, and mounts it where nobody else sees it | the names in it |
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it answers whoever tells it what to do")]

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::ExitCode;

use package::repository::{Ready, Repository, Rules, Scan};
use package::{Error, PublicKey};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match does(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("depot: {error}");
            ExitCode::FAILURE
        }
    }
}

fn does(words: &[&str]) -> Result<(), Error> {
    let [directory, key, words @ ..] = words else { return usage() };
    let key = if *key == "-" { None } else { Some(PublicKey::read(Path::new(key))?) };
    let rules = Rules { key, ..Rules::default() };
    let (mut repository, scan) = match *directory {
        "-" => (Repository::in_memory(rules), Scan::default()),
        directory => Repository::open(Path::new(directory), rules)?,
    };
    match words {
        ["scan"] => tell(&repository, &scan),
        ["install", file, piece] => {
            let Ok(piece) = piece.parse() else { return usage() };
            let ready = write(&mut repository, file, piece)?;
            println!("written");
            std::io::stdin().read_to_end(&mut Vec::new()).map_err(|error| Error::io("read(0)", &error))?;
            println!("installed {}", repository.accept(ready)?);
        }
        ["uninstall", container, data @ ..] => {
            repository.uninstall(container, data.first().map(Path::new))?;
            println!("uninstalled");
        }
        ["mount", file] => {
            let ready = write(&mut repository, file, 1 << 20)?;
            let container = repository.accept(ready)?;
            let opened = repository.package(&container)?;
            let mounted = package::mount::mount(&opened.package, opened.verity.as_ref())?;
            let path = format!("/proc/self/fd/{}", mounted.mount.as_raw_fd());
            let listed = |error| Error::on_path("readdir", Path::new(&path), &error);
            for entry in fs::read_dir(&path).map_err(listed)? {
                println!("{}", entry.map_err(listed)?.file_name().display());
            }
        }
        _ => return usage(),
    }
    Ok(())
}

fn usage() -> Result<(), Error> {
    let words = "depot DIRECTORY|- KEY|- scan|install FILE PIECE|uninstall NAME:VERSION [DATA]|mount FILE";
    Err(Error::new(package::Kind::Invalid, words))
}

fn write(repository: &mut Repository, file: &str, piece: usize) -> Result<Ready, Error> {
    let read = |error| Error::on_path("read", Path::new(file), &error);
    let mut source = File::open(file).map_err(read)?;
    let mut install = repository.begin(source.metadata().map_err(read)?.len())?;
    let mut buffer = vec![0; piece];
    loop {
        match source.read(&mut buffer).map_err(read)? {
            0 => return install.close(|_| ()),
            count => install.write(&buffer[..count])?,
        }
    }
}

fn tell(repository: &Repository, scan: &Scan) {
    for file in &scan.removed {
        println!("removed {}", file.display());
    }
    for skipped in &scan.skipped {
        println!("skipped {}: {}", skipped.file.display(), skipped.reason);
    }
    for container in repository.entries().keys() {
        println!("entry {container}");
    }
}
