//! Work that no signal may break off half-way.

use sys::{Mask, block_signals, restore_mask};

use crate::Error;

/// Does it with all signals blocked in the calling thread. What it is given is the mask from before, which holds again
/// afterwards.
pub fn undisturbed<T>(act: impl FnOnce(&Mask) -> Result<T, Error>) -> Result<T, Error> {
    let mask = block_signals()?;
    match (act(&mask), restore_mask(&mask)) {
        (Ok(_), Err(failed)) => Err(failed.into()),
        (Err(error), Err(failed)) => Err(error.and_left(&[failed])),
        (outcome, Ok(())) => outcome,
    }
}
