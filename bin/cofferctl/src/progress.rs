//! How far long work is: a bar on a terminal, nothing anywhere else.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// A bar on standard error.
#[derive(Debug)]
pub(crate) struct Bar {
    what: &'static str,
    whole: u64,
    done: u64,
    drawn: Option<Instant>,
    is_terminal: bool,
}

const WIDTH: u64 = 30;
/// Oftener nobody sees it.
const PAUSE: Duration = Duration::from_millis(80);

impl Bar {
    /// For so many bytes.
    pub(crate) fn new(what: &'static str, whole: u64) -> Self {
        Self { what, whole, done: 0, drawn: None, is_terminal: std::io::stderr().is_terminal() }
    }

    /// So many bytes more are done.
    pub(crate) fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        if !self.is_terminal || self.drawn.is_some_and(|drawn| drawn.elapsed() < PAUSE) {
            return;
        }
        self.drawn = Some(Instant::now());
        let whole = self.whole.max(self.done).max(1);
        let full = usize::try_from(WIDTH * self.done / whole).unwrap_or_default();
        let (bar, percent) = ("#".repeat(full), 100 * self.done / whole);
        say(&format!("\r{:<8} [{bar:<30}] {percent:>3}% of {} MB", self.what, whole.div_ceil(1_000_000)));
    }
}

impl Drop for Bar {
    /// A bar is gone when its work is.
    fn drop(&mut self) {
        if self.drawn.is_some() {
            say("\r\x1b[K");
        }
    }
}

/// A bar that cannot be drawn is no reason to fail.
fn say(text: &str) {
    let mut stream = std::io::stderr();
    stream.write_all(text.as_bytes()).and_then(|()| stream.flush()).unwrap_or_default();
}
