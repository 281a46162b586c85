//! One person's socket: connects, says hello, reads frames, writes what gathered in one piece, and connects again if told to.
//!
//! All links of a thread share one read buffer, so an idle link holds a task and little else. A link's writes gather until its
//! task has read all that came, or until somebody calls [`Link::flush`].

use crate::limits::{HANDSHAKE_TIMEOUT, READ_BUFFER_BYTES, RECONNECT_PAUSE};
use crate::wire::{CLOSE, Frames, PING, Side, TEXT, write_frame};
use anyhow::{Context as _, Result, bail, ensure};
use schemas::frames::{ClientFrame, CursorFrame, VERSION};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use uuid::Uuid;

/// A server's address.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// `http://host:port`, as given, without a slash at the end.
    pub(crate) url: String,
    /// `host:port`.
    pub(crate) host: String,
    pub(crate) address: SocketAddr,
}

impl Target {
    /// Reads and resolves `http://host:port`.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let url = url.trim_end_matches('/');
        let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("ws://"));
        let host = host.with_context(|| format!("`{url}` does not start with http://"))?;
        let mut addresses =
            std::net::ToSocketAddrs::to_socket_addrs(host).with_context(|| format!("resolving `{host}`"))?;
        let address = addresses.next().with_context(|| format!("`{host}` has no address"))?;
        Ok(Self { url: format!("http://{host}"), host: host.to_owned(), address })
    }
}

/// What a scenario does with the sockets of its people. Called on the links' own thread.
pub(crate) trait Handler {
    /// The session is open; sent from now on. Called at each `welcome`.
    fn opened(&self, link: &Rc<Link>, server_time_ms: u64);
    /// A text frame came that is not `welcome`.
    fn received(&self, link: &Rc<Link>, text: &[u8]);
    /// The socket is gone.
    fn closed(&self, link: &Rc<Link>, why: &anyhow::Error);
    /// Up to where this person knows each channel.
    fn cursors(&self, link: &Rc<Link>) -> Vec<(Uuid, u64)>;
}

/// One person's socket.
pub(crate) struct Link {
    /// The scenario's number for this person.
    pub(crate) who: usize,
    token: String,
    target: Arc<Target>,
    stream: RefCell<Option<Rc<TcpStream>>>,
    out: RefCell<Vec<u8>>,
    wake: Notify,
    /// Nothing was sent since the last heartbeat.
    quiet: Cell<bool>,
    /// `welcome` was read on this connection.
    open: Cell<bool>,
    generation: Cell<u64>,
    /// Connections so far.
    connections: Cell<u32>,
}

/// What all links of a thread share.
pub(crate) struct Shared {
    buffer: RefCell<Vec<u8>>,
    handshakes: Semaphore,
    /// Connect again when a socket ends.
    pub(crate) reconnect: bool,
}

impl Shared {
    pub(crate) fn new(handshakes: usize, reconnect: bool) -> Rc<Self> {
        let handshakes = Semaphore::new(handshakes.max(1));
        Rc::new(Self { buffer: RefCell::new(vec![0; READ_BUFFER_BYTES]), handshakes, reconnect })
    }
}

impl Link {
    pub(crate) fn new(who: usize, token: String, target: Arc<Target>) -> Rc<Self> {
        Rc::new(Self {
            who,
            token,
            target,
            stream: RefCell::new(None),
            out: RefCell::new(Vec::new()),
            wake: Notify::new(),
            quiet: Cell::new(true),
            open: Cell::new(false),
            generation: Cell::new(0),
            connections: Cell::new(0),
        })
    }

    /// Whether frames can be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.open.get()
    }

    /// How often it has connected.
    pub(crate) fn connections(&self) -> u32 {
        self.connections.get()
    }

    /// Puts a text frame behind what waits to be written.
    pub(crate) fn push(&self, text: &[u8]) {
        self.quiet.set(false);
        write_frame(&mut self.out.borrow_mut(), Side::Client, TEXT, text);
    }

    /// Sends a ping if nothing was sent since the last call.
    pub(crate) fn heartbeat(&self) {
        if self.is_open() && self.quiet.replace(true) {
            self.push(br#"{"t":"ping"}"#);
            self.quiet.set(true);
            self.flush();
        }
    }

    /// Ends the connection; the link connects again if the scenario does.
    pub(crate) fn cut(&self) {
        self.open.set(false);
        self.stream.borrow_mut().take();
        self.wake.notify_one();
    }

    /// Writes what waits. What the socket does not take now, its task writes later.
    pub(crate) fn flush(&self) {
        if let Some(stream) = self.stream.borrow().as_ref()
            && !self.write_some(stream)
        {
            self.wake.notify_one();
        }
    }

    /// Whether all is written. Errors show when the task reads.
    fn write_some(&self, stream: &TcpStream) -> bool {
        let mut out = self.out.borrow_mut();
        let mut written = 0;
        while written < out.len() {
            match stream.try_write(&out[written..]) {
                Ok(count) => written += count,
                Err(_) => break,
            }
        }
        if written == out.len() {
            out.clear();
            // A burst's room is not kept by ten thousand idle sockets.
            if out.capacity() > 4_096 {
                out.shrink_to(0);
            }
            true
        } else {
            out.drain(..written);
            false
        }
    }

    /// Keeps the link connected until the task is dropped; without `reconnect`, until the socket ends.
    pub(crate) async fn run(self: Rc<Self>, handler: Rc<dyn Handler>, shared: Rc<Shared>) {
        loop {
            let ended = self.connection(&*handler, &shared).await;
            self.open.set(false);
            self.stream.borrow_mut().take();
            self.out.borrow_mut().clear();
            if let Err(why) = ended {
                handler.closed(&self, &why);
            }
            if !shared.reconnect {
                return;
            }
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    async fn connection(self: &Rc<Self>, handler: &dyn Handler, shared: &Shared) -> Result<()> {
        let permit = shared.handshakes.acquire().await?;
        let mut frames = Frames::default();
        let opened = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.shake_hands(handler, &mut frames)).await;
        let stream = Rc::new(opened.context("no handshake in time")??);
        *self.stream.borrow_mut() = Some(Rc::clone(&stream));
        self.connections.set(self.connections.get() + 1);
        let mut permit = Some(permit);
        loop {
            let interest =
                if self.write_some(&stream) { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
            tokio::select! {
                biased;
                ready = stream.ready(interest) => { ready?; }
                () = self.wake.notified() => {}
            }
            if self.stream.borrow().is_none() {
                bail!("cut");
            }
            self.read(handler, shared, &stream, &mut frames)?;
            if self.is_open() {
                permit.take();
            }
        }
    }

    fn read(
        self: &Rc<Self>,
        handler: &dyn Handler,
        shared: &Shared,
        stream: &TcpStream,
        frames: &mut Frames,
    ) -> Result<()> {
        let mut buffer = shared.buffer.borrow_mut();
        loop {
            match stream.try_read(&mut buffer) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(count) => {
                    let mut closed = None;
                    frames.feed(&buffer[..count], |opcode, payload| match opcode {
                        TEXT => self.text(handler, payload),
                        PING => write_frame(&mut self.out.borrow_mut(), Side::Client, 0xa, payload),
                        CLOSE => closed = Some(close_reason(payload)),
                        _ => {}
                    })?;
                    if let Some(reason) = closed {
                        bail!("closed: {reason}");
                    }
                    // A short read emptied the socket.
                    if count < buffer.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn text(self: &Rc<Self>, handler: &dyn Handler, text: &[u8]) {
        if self.is_open() {
            handler.received(self, text);
        } else if let Ok(schemas::frames::ServerFrame::Welcome { server_time, generation, .. }) =
            serde_json::from_slice(text)
        {
            self.generation.set(generation);
            self.open.set(true);
            handler.opened(self, server_time);
        } else {
            handler.received(self, text);
        }
    }

    async fn shake_hands(self: &Rc<Self>, handler: &dyn Handler, frames: &mut Frames) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(self.target.address).await?;
        stream.set_nodelay(true)?;
        let mut first = format!(
            "GET /api/v1/socket HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.target.host
        )
        .into_bytes();
        stream.write_all(&first).await?;
        let generation = self.generation.get();
        let cursors: BTreeMap<_, _> = handler
            .cursors(self)
            .into_iter()
            .map(|(channel, seq)| (channel.to_string(), CursorFrame { generation, seq }))
            .collect();
        let hello = ClientFrame::Hello { v: VERSION, token: Some(self.token.clone()), cursors };
        let hello = serde_json::to_vec(&hello)?;
        let mut head = Vec::with_capacity(512);
        let end = loop {
            if let Some(at) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            ensure!(head.len() < 8_192, "an endless answer to the handshake");
            let read = stream.read_buf(&mut head).await?;
            ensure!(read > 0, "the server closed the connection during the handshake");
        };
        let status = String::from_utf8_lossy(&head[..end]);
        ensure!(
            status.starts_with("HTTP/1.1 101"),
            "the handshake was refused: {}",
            status.lines().next().unwrap_or_default()
        );
        first.clear();
        write_frame(&mut first, Side::Client, TEXT, &hello);
        stream.write_all(&first).await?;
        frames.feed(&head[end..], |_, payload| self.text(handler, payload))?;
        Ok(stream)
    }
}

/// Pings every link that was quiet, spread evenly over the heartbeat.
pub(crate) async fn heartbeats(links: Rc<[Rc<Link>]>, every: Duration) {
    const STEPS: usize = 50;
    let mut tick = tokio::time::interval(every / STEPS as u32);
    let mut step = 0;
    loop {
        tick.tick().await;
        for link in links.iter().skip(step).step_by(STEPS) {
            link.heartbeat();
        }
        step = (step + 1) % STEPS;
    }
}

fn close_reason(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            format!("{} {}", u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason))
        }
        _ => "without a code".to_owned(),
    }
}
