//! Where the state of containers is kept, from what was typed and who asks.

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use sys::{Called as _, Doing as _, Errno, Failed};

const DEFAULT: &str = "/run/cofferdam";

/// The directory that holds the state of containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRoot {
    /// Where it is; absolute, and not `/`.
    pub directory: PathBuf,
    /// How it came to be this one.
    pub origin: Origin,
}

/// How the directory was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// By nobody: the host's own.
    Host,
    /// By `--root`: to list what is in it is an error if it is not there.
    Typed,
    /// By `$XDG_RUNTIME_DIR`: it needs the sticky bit, or what cleans that directory removes it.
    User,
}

impl StateRoot {
    /// The directory for this process, which typed `root` or nothing.
    pub fn find(root: Option<&Path>) -> Result<Self, Failed> {
        if let Some(typed) = root {
            let directory = absolute(typed, || {
                std::env::current_dir().map_err(|error| errno(&error)).called(|| "getcwd()")
            })
            .doing(|| format!("--root {}", typed.display()))?;
            return Ok(Self { directory, origin: Origin::Typed });
        }
        let euid = rustix::process::geteuid().as_raw();
        let runtime = std::env::var_os("XDG_RUNTIME_DIR");
        let user = std::env::var_os("USER");
        match of_user(euid, runtime, user.as_deref(), sys::is_mapped)? {
            Some(directory) => Ok(Self { directory, origin: Origin::User }),
            None => Ok(Self { directory: DEFAULT.into(), origin: Origin::Host }),
        }
    }
}

/// As runc: no link is followed, `..` takes a name away, and `/` itself, however it was written, is refused.
fn absolute(typed: &Path, here: impl FnOnce() -> Result<PathBuf, Failed>) -> Result<PathBuf, Failed> {
    let mut directory = PathBuf::from("/");
    let whole = if typed.is_absolute() { typed.to_owned() } else { here()?.join(typed) };
    for component in whole.components() {
        match component {
            Component::Normal(name) => directory.push(name),
            // At `/` there is nothing to take away, and that is the answer.
            Component::ParentDir => _ = directory.pop(),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    if typed.as_os_str().is_empty() || directory == Path::new("/") {
        return Err(Failed::refused("state cannot be kept in /, nor in a directory without a name"));
    }
    Ok(directory)
}

/// The user's own directory: for everybody but root, and for root of a user namespace who does not say that
/// this is the name he goes by.
fn of_user(
    euid: u32,
    runtime: Option<OsString>,
    user: Option<&OsStr>,
    is_mapped: impl FnOnce() -> Result<bool, Failed>,
) -> Result<Option<PathBuf>, Failed> {
    let Some(runtime) = runtime.filter(|runtime| !runtime.is_empty()) else { return Ok(None) };
    if euid == 0 && (user == Some(OsStr::new("root")) || !is_mapped()?) {
        return Ok(None);
    }
    Ok(Some(PathBuf::from(runtime).join("cofferdam")))
}

fn errno(error: &std::io::Error) -> Errno {
    // The call here fails with the kernel's numbers alone; what else std could say is bad data.
    Errno::from_raw_os_error(error.raw_os_error().unwrap_or(Errno::INVAL.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(path: &str) -> Result<PathBuf, Failed> {
        absolute(Path::new(path), || Ok("/home/u".into()))
    }

    #[test]
    fn a_typed_root_is_made_absolute() {
        for (path, whole) in
            [("/a", "/a"), ("/a//b/./c/", "/a/b/c"), ("a/../b", "/home/u/b"), ("..", "/home")]
        {
            assert_eq!(typed(path), Ok(whole.into()), "{path}");
        }
    }

    #[test]
    fn the_root_directory_holds_no_state() {
        for path in ["", "/", "//", "/.", "/a/..", "../..", "../../../.."] {
            assert!(typed(path).is_err(), "{path}");
        }
    }

    #[test]
    fn an_ordinary_user_keeps_state_in_the_runtime_directory() {
        let asked = |euid, runtime: Option<&str>, user: Option<&str>, mapped| {
            of_user(euid, runtime.map(Into::into), user.map(OsStr::new), || Ok(mapped))
        };
        let own = Ok(Some(PathBuf::from("/run/user/1/cofferdam")));
        let runtime = Some("/run/user/1");
        assert_eq!(asked(1, runtime, Some("root"), false), own);
        assert_eq!(asked(0, runtime, Some("u"), true), own);
        assert_eq!(asked(0, runtime, None, true), own);
        assert_eq!(asked(0, runtime, Some("root"), true), Ok(None));
        assert_eq!(asked(0, runtime, Some("u"), false), Ok(None));
        assert_eq!(asked(1, None, None, true), Ok(None));
        assert_eq!(asked(1, Some(""), None, true), Ok(None));
    }
}
