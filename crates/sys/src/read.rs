//! Files read whole.

use std::os::fd::AsFd;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::read;

use crate::{Called, Failed};

/// Everything from here to the end of a file, or a little more than `most` bytes of it: a file longer than that is not
/// what the caller takes it for, and is his to refuse.
///
/// `room` is what is read at once at first: a small file of the kernel's must come in one piece to be of one moment.
/// `name` tells the file in an error.
pub fn read_whole(file: impl AsFd, name: &str, room: usize, most: usize) -> Result<Vec<u8>, Failed> {
    let mut text = vec![0; room.max(1)];
    let mut length = 0;
    loop {
        if length == text.len() {
            text.resize(length * 2, 0);
        }
        let more =
            read(&file, text.get_mut(length..).unwrap_or_default()).called(|| format!("read({name:?})"))?;
        length += more;
        if more == 0 || length > most {
            text.truncate(length);
            return Ok(text);
        }
    }
}

/// The same of a file by its path: one of the kernel's own, that nobody but the kernel can put a link in the place of.
pub fn read_path(path: &str, room: usize, most: usize) -> Result<Vec<u8>, Failed> {
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .called(|| format!("open({path:?})"))?;
    read_whole(&file, path, room, most)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn pipe_with(text: &[u8]) -> std::io::Result<std::io::PipeReader> {
        let (reader, mut writer) = std::io::pipe()?;
        writer.write_all(text)?;
        Ok(reader)
    }

    #[test]
    fn a_file_is_read_to_its_end_whatever_the_room() -> Result<(), Box<dyn std::error::Error>> {
        for room in [0, 1, 3, 9, 100] {
            assert_eq!(read_whole(pipe_with(b"cofferdam")?, "pipe", room, 100)?, b"cofferdam", "{room}");
        }
        Ok(())
    }

    #[test]
    fn reading_stops_beyond_the_most() -> Result<(), Box<dyn std::error::Error>> {
        let read = read_whole(pipe_with(&[b'x'; 4096])?, "pipe", 16, 64)?;
        assert!((65..4096).contains(&read.len()), "{}", read.len());
        Ok(())
    }
}
