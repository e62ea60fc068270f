//! What the console hands over: requests that were allowed.

use std::fmt;

use tokio::sync::{mpsc, oneshot};
use wire::{Container, Request, Response};

/// A request, and where its response goes. One peer's requests come one at a time: the next when this is answered.
#[derive(Debug)]
pub struct Call {
    /// Who asks, and was allowed to.
    pub peer: Peer,
    /// What: never `ident` or what has to do with tokens, which the console answers itself.
    pub request: Request,
    /// With `install`, the package; none with any other request.
    pub body: Option<Body>,
    /// Where the response goes, whose kind is that of the request. Dropped without one, it ends the connection.
    pub answer: oneshot::Sender<Response>,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A client that came by a listener.
    Outside,
    /// A container, by its own line.
    Container(Container),
}

/// A package on its way in, piece by piece. Whoever drops it need not have read it: what is left is read and forgotten,
/// so that the client's next request is found behind it.
#[derive(Debug)]
pub struct Body {
    left: u64,
    chunks: mpsc::Receiver<Vec<u8>>,
}

/// A package that ended before its end: the client is gone, or was too slow. Nobody waits for the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// How many bytes are missing.
    pub missing: u64,
}

impl Peer {
    /// What it is called.
    pub fn ident(&self) -> Container {
        match self {
            Self::Outside => Container::outside(),
            Self::Container(container) => container.clone(),
        }
    }
}

impl Body {
    /// A package of `size` bytes, and where its pieces are put: no more than `ahead` that nobody has taken.
    pub fn new(size: u64, ahead: usize) -> (mpsc::Sender<Vec<u8>>, Self) {
        let (sender, chunks) = mpsc::channel(ahead);
        (sender, Self { left: size, chunks })
    }

    /// How many bytes are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next piece, which is never empty; none after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Cut> {
        if self.left == 0 {
            return Ok(None);
        }
        let chunk = self.chunks.recv().await.ok_or(Cut { missing: self.left })?;
        self.left = self.left.saturating_sub(chunk.len() as u64);
        Ok(Some(chunk))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside => to.write_str("a client"),
            Self::Container(container) => container.fmt(to),
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "the client ended {} bytes before the package's end", self.missing)
    }
}

impl std::error::Error for Cut {}
