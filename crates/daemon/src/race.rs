//! Two things at once.

use std::future::{Future, poll_fn};
use std::pin::Pin;
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
///
/// Both are pinned where the caller has them: to take them over would copy what they hold, at each level anew.
pub(crate) async fn first<A: Future, B: Future>(
    mut this: Pin<&mut A>,
    mut that: Pin<&mut B>,
) -> First<A::Output, B::Output> {
    poll_fn(|context| match this.as_mut().poll(context) {
        Poll::Ready(ended) => Poll::Ready(First::This(ended)),
        Poll::Pending => that.as_mut().poll(context).map(First::That),
    })
    .await
}
