//! Two things at once.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// What came first of two things, of which the other is given up.
#[derive(Debug)]
pub(crate) enum First<A, B> {
    /// The one.
    This(A),
    /// The other.
    That(B),
}

/// Waits for whichever ends first. Where both have, it is the one.
pub(crate) async fn first<A, B>(this: impl Future<Output = A>, that: impl Future<Output = B>) -> First<A, B> {
    let (mut this, mut that) = (pin!(this), pin!(that));
    poll_fn(|context| match this.as_mut().poll(context) {
        Poll::Ready(ended) => Poll::Ready(First::This(ended)),
        Poll::Pending => that.as_mut().poll(context).map(First::That),
    })
    .await
}
