//! The socket of the terminal client: connects, connects again with growing jittered delays, passes frames on.

use futures_util::{SinkExt as _, StreamExt as _};
use runtime::{SharedEntropy, Shutdown, Tasks};
use schemas::frames::{ClientFrame, ServerFrame};
use std::time::Duration;
use timeline::Backoff;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

/// Frames between the socket and the person; a person reads slower than a socket brings, so the socket waits.
const FRAMES_QUEUED_MAX: usize = 256;
const RECONNECT_FIRST: Duration = Duration::from_millis(500);
const RECONNECT_MOST: Duration = Duration::from_secs(15);
const CONNECT_WAIT: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Without a word for so long the server is taken for gone; it answers every heartbeat.
const SILENCE_MOST: Duration = Duration::from_secs(20);

/// What the socket tells.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Connected; what is to be said goes here, `hello` first.
    Up(mpsc::Sender<ClientFrame>),
    /// A frame.
    Frame(ServerFrame),
    /// Not connected; trying again after so long.
    Down(String, Duration),
}

/// Keeps a socket to a server until the shutdown.
pub(crate) fn start(
    authority: String,
    entropy: SharedEntropy,
    tasks: &Tasks,
    shutdown: Shutdown,
) -> mpsc::Receiver<Heard> {
    let (tell, heard) = mpsc::channel(FRAMES_QUEUED_MAX);
    tasks.spawn(async move {
        let mut backoff = Backoff::new(entropy, RECONNECT_FIRST, RECONNECT_MOST);
        loop {
            let mut wished = None;
            let connected = shutdown.or_until(tokio::time::timeout(CONNECT_WAIT, connect(&authority))).await;
            let reason = match connected {
                None => return,
                Some(Err(_)) => "the server does not answer".to_owned(),
                Some(Ok(Err(error))) => error,
                Some(Ok(Ok(socket))) => {
                    let (say, said) = mpsc::channel(FRAMES_QUEUED_MAX);
                    if tell.send(Heard::Up(say)).await.is_err() {
                        return;
                    }
                    let Some(end) = shutdown.or_until(pass(socket, &tell, said, &mut backoff)).await else { return };
                    wished = end.delay;
                    end.reason
                }
            };
            let delay = wished.unwrap_or_else(|| backoff.next_delay());
            if tell.send(Heard::Down(reason, delay)).await.is_err() {
                return;
            }
            if shutdown.or_until(tokio::time::sleep(delay)).await.is_none() {
                return;
            }
        }
    });
    heard
}

async fn connect(authority: &str) -> Result<WebSocketStream<TcpStream>, String> {
    let stream = TcpStream::connect(authority).await.map_err(|error| format!("can't reach {authority}: {error}"))?;
    stream.set_nodelay(true).ok();
    let (socket, _) = client_async(format!("ws://{authority}/api/v1/socket"), stream)
        .await
        .map_err(|error| format!("{authority} refuses a socket: {error}"))?;
    Ok(socket)
}

/// Why a connection ended.
struct End {
    reason: String,
    /// When the server wants to see us again, if it said.
    delay: Option<Duration>,
}

impl From<String> for End {
    fn from(reason: String) -> Self {
        Self { reason, delay: None }
    }
}

/// Passes frames in both directions until the connection ends.
async fn pass(
    mut socket: WebSocketStream<TcpStream>,
    tell: &mpsc::Sender<Heard>,
    mut said: mpsc::Receiver<ClientFrame>,
    backoff: &mut Backoff,
) -> End {
    let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    let mut last_word = Instant::now();
    loop {
        tokio::select! {
            biased;
            message = socket.next() => {
                last_word = Instant::now();
                match message {
                    Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                        Ok(frame) => {
                            if matches!(frame, ServerFrame::Welcome { .. }) {
                                backoff.reset();
                            }
                            match frame {
                                ServerFrame::Goaway { reconnect_after_ms } => {
                                    let delay = Some(Duration::from_millis(reconnect_after_ms));
                                    return End { reason: "the server is going away".to_owned(), delay };
                                }
                                ServerFrame::Resync { reason } => return reason.into(),
                                frame => {
                                    if tell.send(Heard::Frame(frame)).await.is_err() {
                                        return String::new().into();
                                    }
                                }
                            }
                        }
                        // A newer server says more than this client knows; the protocol lets it pass over that.
                        Err(error) => tracing::debug!(%error, "passed over a frame"),
                    },
                    Some(Ok(Message::Close(Some(close)))) if !close.reason.is_empty() => return close.reason.to_string().into(),
                    Some(Ok(Message::Close(_))) | None => return "the server closed the connection".to_owned().into(),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return error.to_string().into(),
                }
            }
            frame = said.recv() => {
                let Some(frame) = frame else {
                    // The person ends.
                    socket.close(None).await.ok();
                    return String::new().into();
                };
                let Ok(text) = serde_json::to_string(&frame) else { continue };
                if let Err(error) = socket.send(Message::text(text)).await {
                    return error.to_string().into();
                }
            }
            _ = heartbeat.tick() => {
                if last_word.elapsed() > SILENCE_MOST {
                    return "the server fell silent".to_owned().into();
                }
                let ping = serde_json::to_string(&ClientFrame::Ping {}).unwrap_or_default();
                if let Err(error) = socket.send(Message::text(ping)).await {
                    return error.to_string().into();
                }
            }
        }
    }
}
