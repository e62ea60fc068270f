//! ttrpc, the server's side: requests in, answers out, several at a time on each connection.
//!
//! The messages are the library's; the loop is ours. The library's own server drops a handler when its deadline passes or its
//! caller hangs up, in the middle of what it does; it takes calls from anybody; and it answers for a service that it does not
//! know with another code than containerd understands. It also demands what may be sent between threads, of which there is one
//! here.

use std::future::Future;
use std::os::fd::AsFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use containerd_shim_protos::protobuf::{EnumOrUnknown, Message, MessageField};
use containerd_shim_protos::ttrpc::proto::{
    Code, MESSAGE_HEADER_LENGTH, MESSAGE_LENGTH_MAX, MESSAGE_TYPE_REQUEST, MESSAGE_TYPE_RESPONSE,
    MessageHeader, Request, Response, Status,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::spawn_local;

use crate::log::Log;
use crate::pending::{One, Pending};

/// Why a request is not answered: a code for the caller, a text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) text: String,
}

impl Refusal {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// Who answers.
pub(crate) trait Service {
    /// The answer to one request, as bytes. Whoever asked may be gone before it is there: it is never dropped for that.
    fn answer(&self, request: &Request) -> impl Future<Output = Result<Vec<u8>, Refusal>>;

    /// Whether the request only waits for something, and need not be gone on with for somebody who has gone.
    fn only_waits(&self, request: &Request) -> bool;
}

/// One to ask at most who may: those of our own user.
fn is_ours(stream: &UnixStream) -> bool {
    sys::peer_user(stream.as_fd()).is_ok_and(|user| user == rustix::process::geteuid().as_raw())
}

/// Takes calls for ever. `owed` counts the answers that were not sent yet.
pub(crate) async fn listen<S: Service + 'static>(
    listener: UnixListener,
    service: Rc<S>,
    owed: Rc<Pending>,
    log: Rc<Log>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) if is_ours(&stream) => {
                drop(spawn_local(converse(stream, Rc::clone(&service), Rc::clone(&owed))));
            }
            Ok(_) => log.warning("refused a caller who is another user"),
            Err(why) => {
                log.error(&format!("accept(): {why}"));
                // No descriptor is free, mostly. Nothing tells when one is; the caller waits meanwhile.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// One connection, until its other end is gone.
async fn converse<S: Service + 'static>(stream: UnixStream, service: Rc<S>, owed: Rc<Pending>) {
    let (mut reader, writer) = stream.into_split();
    let (sender, queue) = unbounded_channel();
    let writing = spawn_local(write_all(writer, queue));
    while let Some((header, payload)) = read_frame(&mut reader).await {
        if header.type_ != MESSAGE_TYPE_REQUEST {
            // Data of a stream: there are none here.
            continue;
        }
        let answers = Answers { to: sender.clone(), stream_id: header.stream_id };
        let Some(payload) = payload else {
            let why = format!("a message has {} bytes, more than {MESSAGE_LENGTH_MAX}", header.length);
            answers.reply(Err(Refusal::new(Code::RESOURCE_EXHAUSTED, why)), owed.one());
            continue;
        };
        let request = match Request::parse_from_bytes(&payload) {
            Ok(request) => request,
            Err(why) => {
                answers.reply(Err(Refusal::new(Code::INVALID_ARGUMENT, why.to_string())), owed.one());
                continue;
            }
        };
        let (service, owed) = (Rc::clone(&service), Rc::clone(&owed));
        spawn_local(async move {
            if service.only_waits(&request) {
                if let First::One(answer) = first(service.answer(&request), answers.to.closed()).await {
                    answers.reply(answer, owed.one());
                }
                return;
            }
            let one = owed.one();
            let answer = service.answer(&request).await;
            answers.reply(answer, one);
        });
    }
    // Nobody reads any more: who waits for an answer to give is told so.
    writing.abort();
}

/// A header and what follows it; none of that where it is too long. Nothing once the other end is gone.
pub(crate) async fn read_frame(reader: &mut OwnedReadHalf) -> Option<(MessageHeader, Option<Vec<u8>>)> {
    let mut header = [0; MESSAGE_HEADER_LENGTH];
    reader.read_exact(&mut header).await.ok()?;
    let header = MessageHeader::from(header);
    let length = usize::try_from(header.length).ok()?;
    if length > MESSAGE_LENGTH_MAX {
        let mut rest = reader.take(u64::from(header.length));
        let mut page = [0; 4096];
        while rest.read(&mut page).await.ok()? > 0 {}
        return Some((header, None));
    }
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload).await.ok()?;
    Some((header, Some(payload)))
}

/// A message as it goes over the wire.
pub(crate) fn frame(stream_id: u32, kind: u8, message: &impl Message) -> Option<Vec<u8>> {
    let payload = message.write_to_bytes().ok()?;
    let length = u32::try_from(payload.len()).ok()?;
    let header = MessageHeader { length, stream_id, type_: kind, flags: 0 };
    let mut frame = Vec::<u8>::from(header);
    frame.extend(payload);
    Some(frame)
}

/// Where the answer to a request goes.
struct Answers {
    to: UnboundedSender<(Vec<u8>, One)>,
    stream_id: u32,
}

impl Answers {
    fn reply(&self, answer: Result<Vec<u8>, Refusal>, one: One) {
        let status = |code: Code, message: String| {
            MessageField::some(Status { code: EnumOrUnknown::new(code), message, ..Status::default() })
        };
        let response = match answer {
            Ok(payload) => {
                Response { status: status(Code::OK, String::new()), payload, ..Response::default() }
            }
            Err(Refusal { code, text }) => Response { status: status(code, text), ..Response::default() },
        };
        if let Some(frame) = frame(self.stream_id, MESSAGE_TYPE_RESPONSE, &response) {
            // Who has gone needs no answer.
            let _gone = self.to.send((frame, one));
        }
    }
}

async fn write_all(mut writer: OwnedWriteHalf, mut queue: UnboundedReceiver<(Vec<u8>, One)>) {
    while let Some((frame, _one)) = queue.recv().await {
        if writer.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// What comes first of two; the other one is dropped.
pub(crate) async fn first<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> First<A, B> {
    let (mut one, mut other) = (pin!(one), pin!(other));
    std::future::poll_fn(|context| {
        if let Poll::Ready(done) = one.as_mut().poll(context) {
            return Poll::Ready(First::One(done));
        }
        other.as_mut().poll(context).map(First::Other)
    })
    .await
}

/// Which came first.
pub(crate) enum First<A, B> {
    One(A),
    Other(B),
}
