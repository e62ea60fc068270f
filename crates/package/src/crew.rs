//! Long arithmetic, done by as many threads as there are processors.
//!
//! Touches: threads, which are gone when a call returns.
//! Never:   lets it be seen how many there were: what comes of the work comes in the order of the work.
//! Begin with [`in_order`].

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::error::{Error, Kind};

/// As many threads as this process may have processors.
pub(crate) fn hands() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Does `work` on each job by so many threads, and hands what comes of it to `each`, here, in the order of the jobs. The
/// first failure, in that order, ends it. Where no thread is to be had this one does it all.
pub(crate) fn in_order<J: Send, R: Send>(
    hands: usize,
    mut jobs: impl Iterator<Item = J> + Clone,
    work: impl Fn(J) -> Result<R, Error> + Sync,
    mut each: impl FnMut(R) -> Result<(), Error>,
) -> Result<(), Error> {
    let (give, take) = sync_channel::<Order<J, R>>(hands);
    let take = Mutex::new(take);
    let labour = || {
        while let Some((job, done)) = next(&take) {
            // Nobody waits for it any more where another has failed.
            let _unwanted = done.send(work(job));
        }
    };
    thread::scope(|scope| {
        // No more than have something to do; and one alone would only pass things on.
        let wanted = Some(jobs.clone().take(hands).count()).filter(|wanted| *wanted > 1).unwrap_or_default();
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, labour).ok();
        let threads: Vec<_> = (0..wanted).map_while(spawn).collect();
        if threads.is_empty() {
            return jobs.try_for_each(|job| each(work(job)?));
        }
        let done = hand_out(give, threads.len() * AHEAD, jobs, &mut each);
        // A scope awaits the end of their work. They are to be gone: a signal that we hold off might find one of them.
        let ended = threads.into_iter().map(|thread| thread.join().map_err(|_| gone()));
        done.and(ended.fold(Ok(()), Result::and))
    })
}

/// Gives jobs to whoever takes them, so many before the first result is awaited; in the end there is nothing to be taken.
fn hand_out<J, R>(
    give: SyncSender<Order<J, R>>,
    ahead: usize,
    jobs: impl Iterator<Item = J>,
    each: &mut impl FnMut(R) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut given = VecDeque::new();
    for job in jobs {
        if given.len() >= ahead {
            receive(&mut given, each)?;
        }
        let (done, result) = sync_channel(1);
        give.send((job, done)).map_err(|_| gone())?;
        given.push_back(result);
    }
    while !given.is_empty() {
        receive(&mut given, each)?;
    }
    drop(give);
    Ok(())
}

/// Buffers that are used again: memory that is fresh each time is work for the kernel, and for all threads at once.
#[derive(Debug, Default)]
pub(crate) struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    /// One of so many bytes, whatever they are.
    pub(crate) fn take(&self, size: usize) -> Vec<u8> {
        let mut buffer = self.0.lock().ok().and_then(|mut all| all.pop()).unwrap_or_default();
        buffer.resize(size, 0);
        buffer
    }

    pub(crate) fn give(&self, buffer: Vec<u8>) {
        // Where somebody has panicked nothing is used again.
        if let Ok(mut all) = self.0.lock() {
            all.push(buffer);
        }
    }
}

/// A job, and where its result is awaited.
type Order<J, R> = (J, SyncSender<Result<R, Error>>);
type Given<R> = VecDeque<Receiver<Result<R, Error>>>;

/// Jobs for each thread that are begun before the first of them is waited for.
const AHEAD: usize = 2;

fn next<J, R>(orders: &Mutex<Receiver<Order<J, R>>>) -> Option<Order<J, R>> {
    orders.lock().ok()?.recv().ok()
}

fn receive<R>(given: &mut Given<R>, each: &mut impl FnMut(R) -> Result<(), Error>) -> Result<(), Error> {
    let Some(first) = given.pop_front() else { return Ok(()) };
    each(first.recv().map_err(|_| gone())??)
}

/// It has panicked, and has said why.
fn gone() -> Error {
    Error::new(Kind::Kernel(None), "a thread has ended before its work")
}

#[cfg(test)]
#[allow(
    clippy::expect_used,
    clippy::unnecessary_wraps,
    reason = "a test states what it expects, and some work never fails"
)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use super::*;

    /// Jobs that take the longer the sooner they come.
    fn slow(job: usize) -> Result<usize, Error> {
        let until = Instant::now() + Duration::from_micros(200 - job as u64);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        Ok(job * 3)
    }

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        for hands in 0..8 {
            let mut all = Vec::new();
            in_order(hands, 0..200, slow, |result| {
                all.push(result);
                Ok(())
            })
            .expect("nothing fails");
            assert_eq!(all, (0..200).map(|job| job * 3).collect::<Vec<_>>(), "{hands}");
        }
    }

    #[test]
    fn the_first_failure_ends_it() {
        let fails =
            |job: usize| if job % 10 == 7 { Err(Error::invalid(format!("job {job}"))) } else { Ok(job) };
        for hands in 0..8 {
            let (count, begun) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let jobs = (0..1000).inspect(|_| {
                begun.fetch_add(1, Ordering::Relaxed);
            });
            let told = in_order(hands, jobs, fails, |_| {
                count.fetch_add(1, Ordering::Relaxed);
                Ok(())
            });
            assert_eq!(told.expect_err("it fails").to_string(), "job 7", "{hands}");
            assert_eq!(count.into_inner(), 7, "{hands}");
            assert!(begun.into_inner() < 60, "{hands}");
            // So does whoever hears of the results.
            let told = in_order(hands, 0..200, slow, |result| {
                if result == 15 { Err(Error::invalid("enough")) } else { Ok(()) }
            });
            assert_eq!(told.expect_err("it fails").to_string(), "enough", "{hands}");
        }
    }
}
