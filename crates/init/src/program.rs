//! The program: where it is, where it starts, and whose home is `HOME`.

use std::ffi::{CStr, CString};

use path::Root;
use rustix::fs::{Access, AtFlags, CWD, FileType, OFlags, access, accessat, stat};
use rustix::process::{chdir, getcwd};
use sys::{Called, Doing, Errno, Failed, Strings, read_whole};

/// Goes to the working directory as root; says whether it could. Where only the user may enter it, [`enter`] will.
pub(crate) fn approach(cwd: &str) -> Result<bool, Failed> {
    match chdir(cwd) {
        Ok(()) => Ok(true),
        Err(Errno::ACCESS | Errno::PERM) => Ok(false),
        Err(errno) => {
            Err(Failed::call(format!("chdir({cwd:?})"), errno)).doing(|| "go to the working directory")
        }
    }
}

/// Goes to the working directory as the user, unless that was done before, and makes sure that it lies inside
/// (CVE-2024-21626: a directory reached through a descriptor of the host's).
pub(crate) fn enter(cwd: &str, has_arrived: bool) -> Result<(), Failed> {
    let go = || {
        if !has_arrived {
            chdir(cwd).called(|| format!("chdir({cwd:?})"))?;
        }
        let here = getcwd(Vec::new()).called(|| "getcwd()")?;
        // getcwd(2): a directory that cannot be reached from this root is told as "(unreachable)/…".
        if here.to_bytes().first() == Some(&b'/') {
            Ok(())
        } else {
            Err(Failed::refused(format!("{cwd:?} is outside the container")))
        }
    };
    go().doing(|| "go to the working directory")
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Finds the first argument: as it stands where it holds a slash, in `PATH` of the program's own environment otherwise.
pub(crate) fn find(arguments: &Strings, environment: &Strings) -> Result<CString, Failed> {
    let Some(name) = arguments.iter().next() else {
        return Err(Failed::refused("no program is named"));
    };
    if name.to_bytes().contains(&b'/') {
        let why = match is_directory(name) {
            Ok(false) => return Ok(name.to_owned()),
            // What execve(2) would say. Older dockerd knows a program that cannot be executed by these words alone.
            Ok(true) => Failed::call("is a directory: execve()", Errno::ACCESS),
            Err(failed) => failed,
        };
        return Err(why.while_doing(&format!("exec: {name:?}")));
    }
    let path = environment.iter().find_map(|pair| pair.to_bytes().strip_prefix(b"PATH="));
    let path = path.unwrap_or(DEFAULT_PATH.as_bytes());
    let mut denied = None;
    for directory in path.split(|&byte| byte == b':').filter(|directory| !directory.is_empty()) {
        let Ok(candidate) = CString::new([directory, b"/", name.to_bytes()].concat()) else { continue };
        match is_directory(&candidate) {
            Ok(false) => return Ok(candidate),
            Err(failed) if failed.errno() == Some(Errno::ACCESS) => denied = Some(failed),
            Ok(true) | Err(_) => {}
        }
    }
    Err(match denied {
        Some(failed) => failed.while_doing(&format!("exec: {name:?}")),
        None => Failed::refused(format!("exec: {name:?}: executable file not found in $PATH")),
    })
}

/// Whether what may be executed there is a directory, of which that says something else.
fn is_directory(path: &CStr) -> Result<bool, Failed> {
    may_execute(path).map_err(|errno| words("access", path, errno))?;
    let mode = stat(path).called(|| format!("stat({path:?})"))?.st_mode;
    Ok(FileType::from_raw_mode(mode) == FileType::Directory)
}

/// As execve(2) will see it, with the capabilities that are effective now: access(2) alone leaves those of others than root
/// out, and would deny a program to a user with an ambient `CAP_DAC_OVERRIDE`.
fn may_execute(path: &CStr) -> Result<(), Errno> {
    match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // Linux before 5.8, or a filter of the document's that does not know the call.
        Err(Errno::NOSYS | Errno::PERM) => access(path, Access::EXEC_OK),
        told => told,
    }
}

fn words(call: &str, path: &CStr, errno: Errno) -> Failed {
    Failed::call(format!("{call}({path:?})"), errno)
}

/// Why execve(2) did not take the program.
pub(crate) fn not_executed(arguments: &Strings, errno: Errno) -> Failed {
    let name = arguments.iter().next().unwrap_or_default();
    let name = name.to_string_lossy();
    Failed::call(format!("exec {}", name.escape_debug()), errno)
}

/// `HOME=` and the home directory of this user in the container's /etc/passwd, or `/` where none is told.
pub(crate) fn home(root: &Root, uid: u32) -> Result<CString, Failed> {
    let found = match root.open("/etc/passwd", OFlags::RDONLY) {
        Ok(passwd) => {
            // A file that long is no passwd(5); whatever it is, it does not hold us up.
            let text = read_whole(&passwd, "/etc/passwd", 4096, 16 << 20)?;
            home_in(&text, uid)
        }
        Err(_) => None,
    };
    let home = found.as_deref().filter(|home| !home.is_empty()).unwrap_or(b"/");
    CString::new([b"HOME=", home].concat()).map_err(|_| Failed::refused("/etc/passwd holds a NUL byte"))
}

/// The sixth field of the first line whose third is this number, passwd(5).
fn home_in(passwd: &[u8], uid: u32) -> Option<Vec<u8>> {
    passwd.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b':');
        let number = std::str::from_utf8(fields.nth(2)?).ok()?.parse::<u32>().ok()?;
        if number == uid { fields.nth(2).map(<[u8]>::to_vec) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::home_in;

    #[test]
    fn the_home_is_the_sixth_field_of_the_users_line() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\n# a comment\nbroken:x\nweb:x:33:33::/var/www:\n";
        assert_eq!(home_in(passwd, 0).as_deref(), Some(&b"/root"[..]));
        assert_eq!(home_in(passwd, 33).as_deref(), Some(&b"/var/www"[..]));
        assert_eq!(home_in(passwd, 1), None);
    }
}
