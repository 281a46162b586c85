//! Drives a [`ClientCore`] over a real WebSocket.

use crate::auditor::{ClientHistory, Moment};
use crate::client::limits::{CONNECT_TIMEOUT_MS, ORDERS_MAX, TICK_MS};
use crate::client::{ClientCore, Effect, SendEnd};
use domain::{ChannelId, ClientMsgId};
use futures_util::future::BoxFuture;
use futures_util::{SinkExt, StreamExt};
use runtime::Tasks;
use schemas::frames::{ClientFrame, ServerFrame};
use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// Where the gateway listens for sockets.
const SOCKET_PATH: &str = "/api/v1/socket";

/// A two-way stream of bytes.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Opens connections: TCP, or pipes in a simulation.
pub trait Dial: Send + Sync + Debug + 'static {
    /// A new connection.
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn ByteStream>>>;
}

/// TCP to one of some addresses, one after the other with each dial.
#[derive(Debug)]
pub struct TcpDial {
    addresses: Mutex<Vec<SocketAddr>>,
}

impl TcpDial {
    /// The addresses may change while clients are connected: a restarted server has another port.
    pub fn new(addresses: Vec<SocketAddr>) -> Arc<Self> {
        Arc::new(Self { addresses: Mutex::new(addresses) })
    }

    /// The addresses from now on.
    pub fn redirect(&self, addresses: Vec<SocketAddr>) {
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    fn next_address(&self) -> Option<SocketAddr> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.is_empty() {
            return None;
        }
        addresses.rotate_left(1);
        addresses.last().copied()
    }
}

impl Dial for TcpDial {
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn ByteStream>>> {
        Box::pin(async move {
            let address = self.next_address().ok_or_else(|| io::Error::other("nobody listens"))?;
            let stream = tokio::net::TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    }
}

/// The one clock of all clients of a run.
#[derive(Clone, Copy, Debug)]
pub struct Recorder {
    origin: Instant,
}

impl Recorder {
    /// Zero is now.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Now.
    pub fn now(&self) -> Moment {
        Moment(self.origin.elapsed().as_micros() as u64)
    }
}

enum Order {
    Carry(Vec<Effect>),
    CutConnection,
    PauseReading(bool),
    Stop,
}

/// One device, online until it is stopped.
#[derive(Debug)]
pub struct Client {
    core: Arc<Mutex<ClientCore>>,
    recorder: Recorder,
    orders: mpsc::Sender<Order>,
    changes: watch::Receiver<u64>,
}

impl Client {
    /// Connects, and from then on stays connected.
    pub fn start(core: ClientCore, dial: Arc<dyn Dial>, recorder: Recorder, tasks: &Tasks) -> Self {
        let core = Arc::new(Mutex::new(core));
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        let (changed, changes) = watch::channel(0);
        let driver = Driver { core: Arc::clone(&core), recorder, dial, orders: inbox, changed, reading: true };
        tasks.spawn(driver.run());
        Self { core, recorder, orders, changes }
    }

    /// Looks at the state.
    pub fn look<T>(&self, look: impl FnOnce(&ClientCore) -> T) -> T {
        look(&lock(&self.core))
    }

    /// Waits until the state is as wished.
    pub async fn until(&self, wished: impl Fn(&ClientCore) -> bool) {
        let mut changes = self.changes.clone();
        // The driver only goes away with a stop: then the state no longer changes and waiting would be for ever.
        while !self.look(&wished) && changes.changed().await.is_ok() {}
    }

    /// Makes a new id in server time.
    pub fn new_id(&self) -> ClientMsgId {
        self.look(|core| core.new_id(self.recorder.now()))
    }

    /// Puts a message into the outbox and returns its id. The outbox sends it until it has an answer.
    pub async fn post(&self, channel: ChannelId, body: &str) -> ClientMsgId {
        let id = self.new_id();
        self.post_as(channel, id, body).await;
        id
    }

    /// The same, under a given id.
    pub async fn post_as(&self, channel: ChannelId, id: ClientMsgId, body: &str) {
        let effects = lock(&self.core).send(self.recorder.now(), channel, id, body);
        self.order(Order::Carry(effects)).await;
    }

    /// Sends a message and waits for its end.
    pub async fn say(&self, channel: ChannelId, body: &str) -> Option<SendEnd> {
        let id = self.post(channel, body).await;
        self.end_of(id).await
    }

    /// Waits for the end of a send. `None`: the client was stopped before.
    pub async fn end_of(&self, id: ClientMsgId) -> Option<SendEnd> {
        self.until(|core| core.end_of(id).is_some()).await;
        self.look(|core| core.end_of(id))
    }

    /// Asks for a page; its arrival is in the history.
    pub async fn read_page(&self, channel: ChannelId, first: Option<u64>, last: Option<u64>) {
        let ask = lock(&self.core).ask_page(self.recorder.now(), channel, first, last);
        self.order(Order::Carry(ask.into_iter().collect())).await;
    }

    /// Drops the connection without a word; the client connects again.
    pub async fn cut_connection(&self) {
        self.order(Order::CutConnection).await;
    }

    /// A slow reader: nothing is read from the socket until it is allowed again.
    pub async fn pause_reading(&self, paused: bool) {
        self.order(Order::PauseReading(paused)).await;
    }

    /// Says goodbye and returns what was recorded. `quiescent`: the caller waited as long as TAIL allows.
    pub async fn stop(self, quiescent: bool) -> ClientHistory {
        let history = self.look(|core| core.history(quiescent));
        self.order(Order::Stop).await;
        history
    }

    async fn order(&self, order: Order) {
        // A driver that is gone was cut off with its tasks: then nobody waits for the effect either.
        let _gone = self.orders.send(order).await;
    }
}

fn lock(core: &Mutex<ClientCore>) -> MutexGuard<'_, ClientCore> {
    core.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a connection ended.
enum Ended {
    Stopped,
    Again { after_ms: u64 },
}

struct Driver {
    core: Arc<Mutex<ClientCore>>,
    recorder: Recorder,
    dial: Arc<dyn Dial>,
    orders: mpsc::Receiver<Order>,
    changed: watch::Sender<u64>,
    reading: bool,
}

type Socket = WebSocketStream<Box<dyn ByteStream>>;

impl Driver {
    async fn run(mut self) {
        loop {
            let connect = tokio::time::timeout(Duration::from_millis(CONNECT_TIMEOUT_MS), self.connect()).await;
            let ended = match connect {
                Ok(Ok(socket)) => self.converse(socket).await,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "could not connect");
                    Ended::Again { after_ms: 0 }
                }
                Err(_) => Ended::Again { after_ms: 0 },
            };
            let back_off_ms = lock(&self.core).closed(self.recorder.now());
            self.tell_of_change();
            let Ended::Again { after_ms } = ended else { return };
            if !self.wait(Duration::from_millis(after_ms + back_off_ms)).await {
                return;
            }
        }
    }

    async fn connect(&self) -> Result<Socket, Box<dyn std::error::Error + Send + Sync>> {
        let stream = self.dial.dial().await?;
        let (socket, _response) = tokio_tungstenite::client_async(format!("ws://hubbub{SOCKET_PATH}"), stream).await?;
        Ok(socket)
    }

    /// Waits while disconnected. `false`: stopped.
    async fn wait(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    None | Some(Order::Stop) => return false,
                    Some(Order::PauseReading(paused)) => self.reading = !paused,
                    // What the outbox holds is sent after the next welcome.
                    Some(Order::Carry(_) | Order::CutConnection) => {}
                },
                () = tokio::time::sleep_until(until) => return true,
            }
        }
    }

    async fn converse(&mut self, mut socket: Socket) -> Ended {
        let hello = lock(&self.core).hello(self.recorder.now());
        if self.carry(&mut socket, vec![Effect::Transmit(hello)]).await.is_some() {
            return Ended::Again { after_ms: 0 };
        }
        let mut ticks = tokio::time::interval(Duration::from_millis(TICK_MS));
        loop {
            let effects = tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    None | Some(Order::Stop) => {
                        // The server may be gone already; there is nothing left to say then.
                        let _gone = socket.close(None).await;
                        return Ended::Stopped;
                    }
                    Some(Order::CutConnection) => return Ended::Again { after_ms: 0 },
                    Some(Order::PauseReading(paused)) => {
                        self.reading = !paused;
                        continue;
                    }
                    Some(Order::Carry(effects)) => effects,
                },
                message = socket.next(), if self.reading => match message {
                    Some(Ok(Message::Text(text))) => match serde_json::from_str::<ServerFrame>(&text) {
                        Ok(frame) => lock(&self.core).handle_frame(self.recorder.now(), frame),
                        Err(error) => {
                            tracing::error!(%error, "the server sent a frame that can't be read");
                            continue;
                        }
                    },
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Ended::Again { after_ms: 0 },
                    Some(Ok(_)) => continue,
                },
                _ = ticks.tick() => lock(&self.core).tick(self.recorder.now()),
            };
            self.tell_of_change();
            if let Some(ended) = self.carry(&mut socket, effects).await {
                return ended;
            }
        }
    }

    /// Carries effects out; `Some`: the connection is over.
    async fn carry(&self, socket: &mut Socket, effects: Vec<Effect>) -> Option<Ended> {
        for effect in effects {
            match effect {
                Effect::Transmit(frame) => {
                    if socket.feed(Message::text(encode(&frame))).await.is_err() {
                        return Some(Ended::Again { after_ms: 0 });
                    }
                }
                Effect::Reconnect { after_ms } => return Some(Ended::Again { after_ms }),
            }
        }
        socket.flush().await.err().map(|_gone| Ended::Again { after_ms: 0 })
    }

    fn tell_of_change(&self) {
        self.changed.send_modify(|changes| *changes += 1);
    }
}

fn encode(frame: &ClientFrame) -> String {
    serde_json::to_string(frame).expect("a client frame has only string keys and numbers")
}
