//! Descriptors that have done their work, closed together.

use std::os::fd::{IntoRawFd, OwnedFd};

/// Descriptors kept open a little longer than needed, so that neighbours go by one close_range(2) instead of one
/// close(2) each: a container in the making uses a hundred of them, one after the other.
#[derive(Debug, Default)]
pub struct Spent(Vec<OwnedFd>);

/// As many are kept at most: a small part of the 1024 that a process may usually have.
const MOST: usize = 96;

impl Spent {
    /// Keeps a descriptor that is not needed any more.
    pub fn push(&mut self, fd: OwnedFd) {
        self.0.push(fd);
        if self.0.len() >= MOST {
            self.close();
        }
    }

    /// Closes them all.
    pub fn close(&mut self) {
        let mut numbers: Vec<u32> = self.0.drain(..).map(|fd| fd.into_raw_fd().cast_unsigned()).collect();
        numbers.sort_unstable();
        let mut rest = numbers.as_slice();
        while let Some(&first) = rest.first() {
            let run = rest.iter().zip(first..).take_while(|(number, expected)| **number == *expected).count();
            close_run(first, run);
            rest = rest.get(run..).unwrap_or_default();
        }
    }
}

/// Closes `count` descriptors from `first` on, all of which are ours: their owners gave them up to us.
fn close_run(first: u32, count: usize) {
    let last = first + u32::try_from(count).unwrap_or(1) - 1;
    // SAFETY: every number from first to last came out of an OwnedFd by into_raw_fd, so nobody else closes or uses it.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0 {
        return;
    }
    // Before Linux 5.9, or denied; what close(2) answers changes nothing, the descriptor is gone either way.
    for number in first..=last {
        // SAFETY: as above.
        unsafe { libc::close(number.cast_signed()) };
    }
}

impl Drop for Spent {
    fn drop(&mut self) {
        self.close();
    }
}

impl Extend<OwnedFd> for Spent {
    fn extend<I: IntoIterator<Item = OwnedFd>>(&mut self, fds: I) {
        fds.into_iter().for_each(|fd| self.push(fd));
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn all_are_closed_whatever_their_order() -> Result<(), std::io::Error> {
        let mut pipes = Vec::new();
        for _ in 0..5 {
            let (read, write) = std::io::pipe()?;
            pipes.push((OwnedFd::from(read), OwnedFd::from(write)));
        }
        let numbers: Vec<i32> =
            pipes.iter().flat_map(|(read, write)| [read.as_raw_fd(), write.as_raw_fd()]).collect();
        let mut spent = Spent::default();
        let mut kept = Vec::new();
        for (index, (read, write)) in pipes.into_iter().enumerate() {
            spent.push(write);
            if index == 2 { kept.push(read) } else { spent.push(read) }
        }
        drop(spent);
        // Other tests open descriptors meanwhile, but a pipe's other end tells whether this one lives.
        let mut byte = [0];
        assert_eq!(rustix::io::read(&kept[0], &mut byte)?, 0, "the write end of {numbers:?} is closed");
        Ok(())
    }
}
