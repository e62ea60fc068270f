//! One peer, from its greeting to its end.

use std::convert::Infallible;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::timeout;
use wire::{
    Connect, Installed, Maker, Malformed, Message, Nack, Notification, Permission, Request, Response,
};

use super::call::{Body, Call, Peer};
use super::lines::{Lines, NoLine};
use super::throttle::Throttle;
use super::{Rules, Shared};
use crate::race::{First, first};

/// How long a client that came by a listener may take to say who it is.
const GREETING: Duration = Duration::from_secs(10);
/// How long a peer may take to read a message. Whoever does not read is not answered, and not waited for either.
const PATIENCE: Duration = Duration::from_secs(10);
/// Messages on their way out, and pieces of a package on their way in, that nobody has taken yet.
const AHEAD: usize = 4;

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum End {
    /// The peer has closed it.
    Gone,
    /// The console closes.
    Closing,
    /// The peer is not welcome: it was told why.
    Unwelcome,
    /// It did not say who it is.
    Silent,
    /// It said something that is no message.
    Malformed(Malformed),
    /// It said something that is not its to say.
    OutOfTurn,
    /// It sent a line that is too long.
    TooLong,
    /// It wanted to bring a package that is too large: it was told.
    TooLarge,
    /// A package did not come.
    Stalled,
    /// It hears of what happens more slowly than it happens: so many notifications are lost.
    Lagging(u64),
    /// It does not read what it is told.
    Deaf,
    /// Nobody was there to answer.
    Unanswered,
    /// The stream is broken.
    Broken(std::io::Error),
}

/// Attends to a peer until it goes, or must.
pub(super) async fn attend<S>(stream: S, shared: Arc<Shared>, peer: Peer, rules: Rules) -> End
where
    S: AsyncRead + AsyncWrite,
{
    let mut closing = shared.closing.subscribe();
    let (from, to) = tokio::io::split(stream);
    let (out, lines) = mpsc::channel(AHEAD);
    let mut writing = pin!(write(to, lines));
    let reading = async {
        let connection = Connection {
            lines: Lines::new(from, rules.options.max_request_size),
            throttle: Throttle::new(rules.options.max_requests_per_sec),
            out,
            shared: &shared,
            peer,
            rules,
        };
        // It ends with an error always: there is no other way out of it.
        match first(pin!(connection.run()), pin!(closing.wait_for(|closing| *closing))).await {
            First::This(Err(end)) => end,
            First::This(Ok(never)) => match never {},
            First::That(_) => End::Closing,
        }
    };
    // Whoever reads is gone at the end of this line, and says nothing more.
    let ended = first(writing.as_mut(), pin!(reading)).await;
    match ended {
        First::This(Err(end)) => end,
        // As long as there is somebody who reads, there may be something to write.
        First::This(Ok(())) => End::Closing,
        // What was said before the end is still written.
        First::That(end) => match writing.await {
            Ok(()) => end,
            Err(deaf) => deaf,
        },
    }
}

/// Writes what comes, until nobody has anything to say any more.
async fn write(mut to: impl AsyncWrite + Unpin, mut lines: mpsc::Receiver<Vec<u8>>) -> Result<(), End> {
    while let Some(line) = lines.recv().await {
        match timeout(PATIENCE, to.write_all(&line)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(End::Broken(error)),
            Err(_) => return Err(End::Deaf),
        }
    }
    // The peer may be gone already, and is then not to be told that we are.
    to.shutdown().await.or(Ok(()))
}

struct Connection<'a, R> {
    lines: Lines<R>,
    throttle: Throttle,
    out: mpsc::Sender<Vec<u8>>,
    shared: &'a Shared,
    peer: Peer,
    rules: Rules,
}

impl<R: AsyncRead + Unpin> Connection<'_, R> {
    async fn run(mut self) -> Result<Infallible, End> {
        let connect = match &self.peer {
            Peer::Outside => timeout(GREETING, self.hear()).await.map_err(|_| End::Silent)??,
            Peer::Container(_) => self.hear().await?,
        };
        let Message::Connect(connect) = connect else { return Err(End::OutOfTurn) };
        match self.welcome(&connect).await? {
            None => self.requests().await,
            Some(news) => {
                let out = self.out.clone();
                match first(pin!(self.requests()), pin!(forward(news, out))).await {
                    First::This(end) | First::That(end) => end,
                }
            }
        }
    }

    /// The next message.
    async fn hear(&mut self) -> Result<Message, End> {
        self.throttle.pass().await;
        let line = self.lines.next().await?;
        self.throttle.count();
        Message::read(&line).map_err(End::Malformed)
    }

    async fn say(&mut self, message: Message) -> Result<(), End> {
        say(&self.out, message).await
    }

    /// Lets a client in, or says why not; the notifications, if it wants them.
    async fn welcome(&mut self, connect: &Connect) -> Result<Option<broadcast::Receiver<Notification>>, End> {
        let nack = if !wire::is_understood(&connect.version) {
            Some(Nack::InvalidProtocolVersion { version: wire::VERSION })
        } else if connect.subscribe_notifications && !self.rules.permissions.allow(Permission::Notifications)
        {
            Some(Nack::PermissionDenied)
        } else {
            None
        };
        if let Some(nack) = nack {
            self.say(Message::ConnectNack(nack)).await?;
            return Err(End::Unwelcome);
        }
        // Whatever happens from now on is heard, and nothing is heard before the welcome.
        let news = connect.subscribe_notifications.then(|| self.shared.news.subscribe());
        self.say(Message::ConnectAck(())).await?;
        Ok(news)
    }

    async fn requests(&mut self) -> Result<Infallible, End> {
        loop {
            let Message::Request(request) = self.hear().await? else { return Err(End::OutOfTurn) };
            let response = self.answer(request).await?;
            self.say(Message::Response(response)).await?;
        }
    }

    async fn answer(&mut self, request: Request) -> Result<Response, End> {
        let may = self.rules.permissions.allow(request.permission());
        if let Request::Install { size, .. } = request
            && size > self.rules.options.max_npk_install_size
        {
            // The client may be writing still, and learn no more than that nobody reads.
            let response = if may { too_large(size) } else { Response::PermissionDenied(request) };
            self.say(Message::Response(response)).await?;
            return Err(End::TooLarge);
        }
        if !may {
            if let Request::Install { size, .. } = request {
                self.pump(size, None).await?;
            }
            return Ok(Response::PermissionDenied(request));
        }
        match request {
            Request::Ident => Ok(Response::Ident(self.peer.ident())),
            Request::TokenCreate { target, shared } => {
                let user = self.peer.ident().name;
                let maker = Maker { user: &user, target: &target, shared: &shared.0 };
                Ok(Response::Token(self.shared.key.create(self.shared.began.elapsed(), &maker)))
            }
            Request::TokenVerify { token, user, shared } => {
                let target = self.peer.ident().name;
                let maker = Maker { user: &user, target: &target, shared: &shared.0 };
                let (now, validity) = (self.shared.began.elapsed(), self.rules.options.token_validity);
                Ok(Response::TokenVerification(self.shared.key.verify(now, validity, &token, &maker)))
            }
            Request::Install { size, .. } => {
                let (chunks, body) = Body::new(size, AHEAD);
                let answer = self.call(request, Some(body)).await?;
                self.pump(size, Some(chunks)).await?;
                answer.await.map_err(|_| End::Unanswered)
            }
            request => self.call(request, None).await?.await.map_err(|_| End::Unanswered),
        }
    }

    async fn call(
        &mut self,
        request: Request,
        body: Option<Body>,
    ) -> Result<oneshot::Receiver<Response>, End> {
        let (answer, answered) = oneshot::channel();
        let call = Call { peer: self.peer.clone(), request, body, answer };
        self.shared.calls.send(call).await.map_err(|_| End::Closing)?;
        Ok(answered)
    }

    /// Takes a package of `size` bytes out of the stream, and hands it on as long as anybody wants it. Only the client's
    /// own slowness counts as such.
    async fn pump(&mut self, mut size: u64, mut to: Option<mpsc::Sender<Vec<u8>>>) -> Result<(), End> {
        while size > 0 {
            let bytes = timeout(self.rules.options.npk_stream_timeout, self.lines.bytes(size)).await;
            let bytes = bytes.map_err(|_| End::Stalled)?.map_err(End::Broken)?;
            if bytes.is_empty() {
                return Err(End::Gone);
            }
            size -= bytes.len() as u64;
            if let Some(wanted) = &to
                && wanted.send(bytes).await.is_err()
            {
                to = None;
            }
        }
        Ok(())
    }
}

fn too_large(size: u64) -> Response {
    let error = wire::Error::unexpected(format!("a package of {size} bytes is larger than is allowed"));
    Response::Install(Installed::Error { error })
}

/// Tells what happens.
async fn forward(
    mut news: broadcast::Receiver<Notification>,
    out: mpsc::Sender<Vec<u8>>,
) -> Result<Infallible, End> {
    loop {
        match news.recv().await {
            Ok(notification) => say(&out, Message::Notification(notification)).await?,
            Err(broadcast::error::RecvError::Lagged(lost)) => return Err(End::Lagging(lost)),
            Err(broadcast::error::RecvError::Closed) => return Err(End::Closing),
        }
    }
}

async fn say(out: &mpsc::Sender<Vec<u8>>, message: Message) -> Result<(), End> {
    let line = message.line().map_err(End::Malformed)?;
    out.send(line).await.map_err(|_| End::Deaf)
}

impl From<NoLine> for End {
    fn from(none: NoLine) -> Self {
        match none {
            NoLine::Ended => Self::Gone,
            NoLine::TooLong => Self::TooLong,
            NoLine::Broken(error) => Self::Broken(error),
        }
    }
}

impl End {
    /// Whether nobody is to blame for it.
    pub(super) fn is_in_order(&self) -> bool {
        matches!(self, Self::Gone | Self::Closing)
    }
}

impl fmt::Display for End {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => to.write_str("it is gone"),
            Self::Closing => to.write_str("the console closes"),
            Self::Unwelcome => to.write_str("it is not welcome"),
            Self::Silent => write!(to, "it said nothing for {} s", GREETING.as_secs()),
            Self::Malformed(why) => write!(to, "it sent no message: {why}"),
            Self::OutOfTurn => to.write_str("it sent a message that is not its to send"),
            Self::TooLong => to.write_str("it sent a line that is too long"),
            Self::TooLarge => to.write_str("it announced a package that is too large"),
            Self::Stalled => to.write_str("it began a package and did not go on with it"),
            Self::Lagging(lost) => write!(to, "it is {lost} notifications behind"),
            Self::Deaf => to.write_str("it does not read"),
            Self::Unanswered => to.write_str("nobody answered it"),
            Self::Broken(error) => write!(to, "{error}"),
        }
    }
}
