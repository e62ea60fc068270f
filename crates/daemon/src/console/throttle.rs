//! How fast a peer may ask.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

const WINDOW: Duration = Duration::from_secs(1);

/// So many messages within any second; whoever sends more is read later, and loses none.
#[derive(Debug)]
pub(super) struct Throttle {
    most: usize,
    taken: VecDeque<Instant>,
}

impl Throttle {
    /// No more than `most`, which is at least 1, within a second.
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: VecDeque::new() }
    }

    /// Returns when one more may be read.
    pub(super) async fn pass(&mut self) {
        if self.taken.len() >= self.most
            && let Some(oldest) = self.taken.pop_front()
        {
            sleep_until(oldest + WINDOW).await;
        }
    }

    /// One was read.
    pub(super) fn count(&mut self) {
        self.taken.push_back(Instant::now());
    }
}
