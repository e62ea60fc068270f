//! The terminal: whether there is one, and who gets its master end.

use spec::Process;

use crate::Refused;
use crate::step::{Console, Master, Step};

/// Who gets the master end; none where there is no terminal.
///
/// A terminal needs somebody who stays with it: us in the foreground, whoever listens at the socket, or whoever brought a
/// line.
pub(crate) fn master(
    process: &Process,
    is_detached: bool,
    socket: Option<&String>,
    has_line: bool,
) -> Result<Option<Master>, Refused> {
    match (process.terminal, is_detached, socket) {
        (true, _, None) if has_line => Ok(Some(Master::Line)),
        (true, true, None) => {
            let why = "cannot allocate tty if cofferdam will detach without setting console socket";
            Err(Refused::asked(why))
        }
        (true, true, Some(path)) => Ok(Some(Master::Socket(path.clone()))),
        (_, _, Some(_)) => {
            Err(Refused::asked("cannot use console socket if cofferdam will not detach or allocate tty"))
        }
        (true, false, None) => Ok(Some(Master::Us)),
        (false, _, None) => Ok(None),
    }
}

/// The child's step. A size with a zero in it says nothing, as with runc.
pub(crate) fn step(process: &Process, mounted: bool) -> Option<Step> {
    let size = process.console_size.as_ref().map(|size| (size.height, size.width));
    let size = size.filter(|&(rows, columns)| rows != 0 && columns != 0);
    process.terminal.then_some(Step::Console(Console { size, mounted }))
}
