//! ttrpc from containerd's side, in as many words as a test needs: a line on which many questions are open at once, and the
//! frames that it is made of.
//!
//! The frames are made by hand. A test that used the library that the shim uses would share its mistakes.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::ttrpc::proto::{Request, Response};

use crate::{LIMIT, patience};

pub(crate) const REQUEST: u8 = 1;
pub(crate) const RESPONSE: u8 = 2;

/// One message as it goes over the line: its stream, its kind, its bytes.
pub(crate) struct Frame {
    pub(crate) stream: u32,
    pub(crate) kind: u8,
    pub(crate) body: Vec<u8>,
}

impl Frame {
    /// The next one; none at the end of the line.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut head = [0; 10];
        if from.read(&mut head[..1])? == 0 {
            return Ok(None);
        }
        from.read_exact(&mut head[1..])?;
        let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let mut body = vec![0; number(0) as usize];
        from.read_exact(&mut body)?;
        Ok(Some(Self { stream: number(4), kind: head[8], body }))
    }

    /// In one write: others write on the same line.
    pub(crate) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let length = u32::try_from(self.body.len()).expect("a message of a test is short");
        let mut bytes = Vec::with_capacity(10 + self.body.len());
        bytes.extend(length.to_be_bytes());
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend([self.kind, 0]);
        bytes.extend(&self.body);
        to.write_all(&bytes)
    }
}

/// An answer that is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The number of the gRPC code; 0 where the line broke.
    pub code: i32,
    /// What was said.
    pub message: String,
}

/// Who waits for which stream; none once the line is down.
type Waiting = Arc<Mutex<Option<HashMap<u32, Sender<Vec<u8>>>>>>;

/// A connection to a shim.
#[derive(Debug)]
pub struct Line {
    stream: UnixStream,
    waiting: Waiting,
    next: Mutex<u32>,
    /// Comes to its end when the reader does.
    down: Receiver<()>,
    reader: Option<JoinHandle<()>>,
}

impl Line {
    /// Calls whoever listens there.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let mut from = stream.try_clone()?;
        let told = Arc::clone(&waiting);
        let (up, down) = channel();
        let reader = thread::spawn(move || {
            // A line that breaks in the middle of a message is down as well.
            while let Ok(Some(frame)) = Frame::read(&mut from) {
                let mut waiting = told.lock().expect("nobody panics with it");
                let asked = waiting.as_mut().and_then(|waiting| waiting.remove(&frame.stream));
                // Whoever asked may have lost interest.
                let _gone = asked.map(|asked| asked.send(frame.body));
            }
            // Whoever still waits is told by the end of its channel.
            told.lock().expect("nobody panics with it").take();
            drop::<Sender<()>>(up);
        });
        Ok(Self { stream, waiting, next: Mutex::new(1), down, reader: Some(reader) })
    }

    /// Asks, and does not wait for the answer. `deadline` is told to the shim.
    pub fn ask<B: Message>(
        &self,
        service: &str,
        method: &str,
        words: Vec<u8>,
        deadline: Option<Duration>,
    ) -> Pending<B> {
        let mut request = Request::new();
        request.service = service.into();
        request.method = method.into();
        request.payload = words;
        request.timeout_nano =
            deadline.map_or(0, |limit| i64::try_from(limit.as_nanos()).expect("a limit of seconds"));
        let body = request.write_to_bytes().expect("a message has bytes");
        let (sender, answer) = channel();
        // One lock for number and write: the protocol wants the numbers to rise.
        let mut next = self.next.lock().expect("nobody panics with it");
        if let Some(waiting) = self.waiting.lock().expect("nobody panics with it").as_mut() {
            waiting.insert(*next, sender);
        }
        // That the line is down, the reader tells.
        let _down = Frame { stream: *next, kind: REQUEST, body }.write(&mut &self.stream);
        *next += 2;
        Pending { answer, told: format!("{method} of {service}"), kind: PhantomData }
    }

    /// Waits until the other side has closed the line; false if it did not within the usual limit.
    pub fn ended(&self) -> bool {
        matches!(self.down.recv_timeout(LIMIT * patience()), Err(RecvTimeoutError::Disconnected))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // It may be down already.
        let _down = self.stream.shutdown(Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let ended = reader.join();
            assert!(ended.is_ok() || thread::panicking(), "the reader panicked");
        }
    }
}

/// A question that is open.
#[derive(Debug)]
pub struct Pending<B> {
    answer: Receiver<Vec<u8>>,
    told: String,
    kind: PhantomData<B>,
}

impl<B: Message> Pending<B> {
    /// The answer, which must come within the usual limit.
    #[track_caller]
    pub fn get(self) -> Result<B, Refused> {
        self.within(LIMIT * 2)
    }

    /// The answer, which must come within this limit.
    #[track_caller]
    pub fn within(self, limit: Duration) -> Result<B, Refused> {
        self.poll(limit).unwrap_or_else(|| panic!("{}: no answer within {limit:?}", self.told))
    }

    /// The answer, if there is one within this limit.
    pub fn poll(&self, limit: Duration) -> Option<Result<B, Refused>> {
        match self.answer.recv_timeout(limit * patience()) {
            Ok(body) => Some(read(&body)),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                Some(Err(Refused { code: 0, message: "the line broke".into() }))
            }
        }
    }
}

fn read<B: Message>(body: &[u8]) -> Result<B, Refused> {
    let response = Response::parse_from_bytes(body).expect("an answer is a response");
    let status = response.status.get_or_default();
    match status.code.value() {
        0 => Ok(B::parse_from_bytes(&response.payload).expect("an answer of the right kind")),
        code => Err(Refused { code, message: status.message.clone() }),
    }
}
