//! A program that takes the output: `binary:///path?name=value`.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use containerd_shim_protos::ttrpc::proto::Code;
use rustix::io::read;
use rustix::pipe::{PipeFlags, pipe_with};
use sys::{Called, Doing, Errno, Failed, Pidfd, SIGKILL, SIGTERM, Side, Strings};
use tokio::time::timeout;

use super::Owner;
use crate::ready::to_read;
use crate::wire::Refusal;

/// A logger that runs. It reads both outputs by itself, and ends when they do.
#[derive(Clone, Debug)]
pub(super) struct Logger(Rc<Running>);

#[derive(Debug)]
struct Running {
    process: Pidfd,
    /// Where it says that it is ready.
    ready: OwnedFd,
}

/// How long it may take to write down what it has read.
const WRITING: Duration = Duration::from_secs(12);

impl Logger {
    /// Starts one, and says what to write to: standard output, and standard error.
    pub(super) fn begin(named: &str, owner: Owner<'_>) -> Result<(Self, OwnedFd, OwnedFd), Failed> {
        let words = words(named)?;
        let program = words.first().cloned().unwrap_or_default();
        let doing = || format!("start the logger {}", program.to_string_lossy());
        let environment = Strings::new(&[
            format!("CONTAINER_ID={}", owner.id),
            format!("CONTAINER_NAMESPACE={}", owner.namespace),
        ]);
        let environment = environment.map_err(|_| Failed::refused("an id holds a NUL byte"))?;
        let arguments = Strings::from(words);
        let pipe = || pipe_with(PipeFlags::CLOEXEC).called(|| "pipe2()");
        let ((stdout, to_stdout), (stderr, to_stderr)) = (pipe()?, pipe()?);
        let ((ready, say_ready), (why, say_why)) = (pipe()?, pipe()?);
        match sys::fork().doing(doing)? {
            Side::Child(newborn) => {
                let fds = [stdout.as_fd(), stderr.as_fd(), say_ready.as_fd()];
                // Where the reason goes comes last, and is closed once the program runs.
                let failed = match newborn.place(3, &fds, &say_why) {
                    Ok(()) => sys::unblock_signals().err().unwrap_or_else(|| {
                        Failed::call("execve()", sys::execute(&program, &arguments, &environment))
                    }),
                    Err(failed) => failed,
                };
                let _unheard = rustix::io::write(&say_why, failed.to_string().as_bytes());
                sys::leave(1)
            }
            Side::Parent(_, process) => {
                drop((stdout, stderr, say_ready, say_why));
                let mut text = [0; 512];
                let length = read(&why, &mut text).called(|| "read(logger)")?;
                if length > 0 {
                    let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned();
                    return Err(Failed::refused(text)).doing(doing);
                }
                rustix::io::ioctl_fionbio(&ready, true).called(|| "ioctl(FIONBIO)")?;
                Ok((Self(Rc::new(Running { process, ready })), to_stdout, to_stderr))
            }
        }
    }

    /// Waits until it is ready. `strictly`: one that ends without saying so is not.
    pub(super) async fn ready(&self, strictly: bool) -> Result<(), Refusal> {
        let lost = |why: String| Refusal::new(Code::UNKNOWN, why);
        let ready = to_read(self.0.ready.as_fd());
        let ready = ready.map_err(|why| lost(format!("wait for the logger: {why}")))?;
        loop {
            let mut readable =
                ready.readable().await.map_err(|why| lost(format!("wait for the logger: {why}")))?;
            match read(&self.0.ready, &mut [0; 1]) {
                Ok(0) if strictly => return Err(lost("logging binary did not call ready".to_owned())),
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN) => readable.clear_ready(),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(lost(format!("read(logger): {errno}"))),
            }
        }
    }

    /// Asks it to end, and ends it if it does not. Whoever has ended was reaped with everybody else.
    pub(super) async fn end(&self) {
        let process = &self.0.process;
        if process.signal(SIGTERM).is_err() {
            return;
        }
        let Ok(exit) = to_read(process.as_fd()) else { return };
        if timeout(WRITING, exit.readable()).await.is_err() {
            // It may have ended just now.
            let _gone = process.signal(SIGKILL);
        }
    }
}

/// The program and its arguments: the path, and each name and value of the query, in their order.
fn words(named: &str) -> Result<Vec<CString>, Failed> {
    let (path, query) = named.split_once('?').unwrap_or((named, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let words = pairs.flat_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        [name, value].map(|word| unescaped(&word.replace('+', " ")))
    });
    let words = [unescaped(path)].into_iter().chain(words).map(CString::new).collect::<Result<Vec<_>, _>>();
    words.map_err(|_| Failed::refused("the name of a logger holds a NUL byte"))
}

/// `%41` is `A`.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend(before.as_bytes());
        let escaped = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(b'%'));
        rest = after.get(if escaped.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    bytes.extend(rest.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_arguments_in_their_order() -> Result<(), Failed> {
        let told = words("/usr/bin/log%20it?id=a%2Fb&level=&x=1+2")?;
        let told: Vec<_> = told.iter().map(|word| word.to_string_lossy()).collect();
        assert_eq!(told, ["/usr/bin/log it", "id", "a/b", "level", "", "x", "1 2"]);
        assert_eq!(words("/bin/cat")?.len(), 1);
        assert_eq!(unescaped("100%"), b"100%");
        Ok(())
    }
}
