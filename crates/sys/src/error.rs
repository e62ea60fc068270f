//! The failed call as an error.

use std::fmt;

use rustix::io::Errno;

/// What was wished, link by link, and the kernel's answer (or our own refusal) at its end:
/// `mount proc on /proc: fsopen("proc"): operation not permitted (os error 1)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    wish: String,
    errno: Option<Errno>,
}

impl Failed {
    /// A system call, written as the call that was made, and the kernel's answer to it.
    pub fn call(call: impl Into<String>, errno: Errno) -> Self {
        Self { wish: call.into(), errno: Some(errno) }
    }

    /// The same where the standard library made the call. It fails now and then without asking the kernel.
    pub fn io(call: impl Into<String>, error: &std::io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(errno) => Self::call(call, errno),
            None => Self::refused(format!("{}: {error}", call.into())),
        }
    }

    /// Something that we refuse ourselves: what was seen, and why that is not taken.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self { wish: reason.into(), errno: None }
    }

    /// The same failure, as one step of something larger.
    #[must_use]
    pub fn while_doing(mut self, what: &str) -> Self {
        self.wish.insert_str(0, ": ");
        self.wish.insert_str(0, what);
        self
    }

    /// The kernel's answer; none where we refused.
    pub fn errno(&self) -> Option<Errno> {
        self.errno
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errno {
            Some(errno) => write!(to, "{}: {}", self.wish, in_gos_words(errno)),
            None => to.write_str(&self.wish),
        }
    }
}

/// The C library's words begin with a capital, Go's with a small letter; and docker's client and CRI-O look for
/// `permission denied` or `no such process` in what they were told letter by letter (docs/errors.md).
fn in_gos_words(errno: Errno) -> String {
    let mut words = errno.to_string();
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    words
}

impl std::error::Error for Failed {}

/// Names the call that an error number came from.
pub trait Called<T> {
    /// `call` is written as the call that was made: `fsopen("proc")`.
    fn called<S: Into<String>>(self, call: impl FnOnce() -> S) -> Result<T, Failed>;
}

impl<T> Called<T> for Result<T, Errno> {
    fn called<S: Into<String>>(self, call: impl FnOnce() -> S) -> Result<T, Failed> {
        self.map_err(|errno| Failed::call(call(), errno))
    }
}

/// Names what a failed call was made for.
pub trait Doing<T> {
    /// `what` is the step that this call was part of: `mount proc on /proc`.
    fn doing<S: AsRef<str>>(self, what: impl FnOnce() -> S) -> Result<T, Failed>;
}

impl<T> Doing<T> for Result<T, Failed> {
    fn doing<S: AsRef<str>>(self, what: impl FnOnce() -> S) -> Result<T, Failed> {
        self.map_err(|failed| failed.while_doing(what().as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_reads_as_the_path_from_wish_to_call() {
        let call: Result<(), Errno> = Err(Errno::PERM);
        let told = call
            .called(|| "fsopen(\"proc\")")
            .doing(|| "mount proc on /proc")
            .map_err(|failed| failed.to_string());
        assert_eq!(
            told,
            Err("mount proc on /proc: fsopen(\"proc\"): operation not permitted (os error 1)".into())
        );
    }

    #[test]
    fn a_refusal_has_no_error_number() {
        let refused =
            Failed::refused("/dev/null is not character device 1:3").while_doing("mask /proc/kcore");
        assert_eq!(refused.to_string(), "mask /proc/kcore: /dev/null is not character device 1:3");
        assert_eq!(refused.errno(), None);
    }
}
