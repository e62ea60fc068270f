//! How many of something are under way, for who waits until none is.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

/// The count.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    count: Cell<usize>,
    none: Notify,
}

/// One of them. It counts until it is dropped, also where it was cut off.
#[derive(Debug)]
pub(crate) struct One(Rc<Pending>);

impl Pending {
    /// One more.
    pub(crate) fn one(self: &Rc<Self>) -> One {
        self.count.set(self.count.get() + 1);
        One(Rc::clone(self))
    }

    /// Waits until there is none.
    pub(crate) async fn over(&self) {
        while self.count.get() > 0 {
            self.none.notified().await;
        }
    }
}

impl Drop for One {
    fn drop(&mut self) {
        let count = &self.0.count;
        count.set(count.get().saturating_sub(1));
        if count.get() == 0 {
            self.0.none.notify_waiters();
        }
    }
}
