//! Labels of security modules, written by the process about itself (proc_pid_attr(5)).

use path::Procfs;
use plan::Label;
use rustix::fs::OFlags;
use rustix::io::write;
use sys::{Called, Doing, Errno, Failed};

/// Writes a label through a procfs that nobody inside can redirect (CVE-2019-16884): a label that lands in another file
/// confines nobody.
pub fn label(proc: &Procfs, label: &Label) -> Result<(), Failed> {
    match label {
        Label::Profile(name) => profile(proc, name).doing(|| format!("apply AppArmor profile {name}")),
        Label::Program(label) => {
            proc.write("self/attr/exec", label).doing(|| format!("apply SELinux label {label}"))
        }
        // Nothing at all is written for the usual label, which is a write too.
        Label::Keys(label) => {
            let file = proc.open("self/attr/keycreate", OFlags::WRONLY)?;
            write(&file, label.as_bytes())
                .map(drop)
                .called(|| format!("write(\"/proc/self/attr/keycreate\", {label:?})"))
                .doing(|| "label new keys")
        }
    }
}

/// Since Linux 5.8 each module has a directory of its own; before, the file was whose module came first.
fn profile(proc: &Procfs, name: &str) -> Result<(), Failed> {
    let value = format!("exec {name}");
    match proc.write("self/attr/apparmor/exec", &value) {
        Err(failed) if failed.errno() == Some(Errno::NOENT) => proc.write("self/attr/exec", &value),
        written => written,
    }
}
