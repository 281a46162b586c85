//! One WebSocket: tungstenite reads and judges frames; everything that goes out, its pongs and close frames included, is
//! appended whole to one buffer, so frames never interleave and all that is ready leaves in one write.

use crate::limits::{FRAME_BYTES_MAX, READ_BUFFER_BYTES, WRITE_BYTES_MAX};
use schemas::error_codes::Code;
use std::cell::RefCell;
use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig, WebSocketContext};

/// Bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Where the bytes come from and go to.
pub(crate) enum Stream {
    /// The usual case, without indirection.
    Tcp(TcpStream),
    /// Tests, and listeners that wrap their streams.
    Other(Box<dyn Duplex>),
}

/// A WebSocket of the server's side, after its handshake.
pub(crate) struct Socket {
    stream: Stream,
    context: WebSocketContext,
    /// What the stream has not taken yet: whole frames, the first one cut at `sent`. Empty and without memory when idle.
    out: Vec<u8>,
    sent: usize,
    /// The peer's framing can no longer be followed: only discarding is left.
    lost: bool,
}

thread_local! {
    /// Where frames are gathered for one write. A connection keeps only what the socket did not take of it.
    static GATHERED: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(2 * WRITE_BYTES_MAX));
}

impl Socket {
    /// Over a stream of which these bytes were read already.
    pub(crate) fn new(stream: Stream, read: Vec<u8>) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        let context = if read.is_empty() {
            WebSocketContext::new(Role::Server, Some(config))
        } else {
            WebSocketContext::from_partially_read(read, Role::Server, Some(config))
        };
        Self { stream, context, out: Vec::new(), sent: 0, lost: false }
    }

    /// The next message. Pings are answered by themselves: the pong is in the buffer to write.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, WsError>> {
        if self.lost {
            return self.poll_discard(cx);
        }
        let mut pipe = Pipe { stream: &mut self.stream, out: &mut self.out, cx };
        match self.context.read(&mut pipe) {
            Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error @ (WsError::Capacity(_) | WsError::Protocol(_))) => {
                self.lost = true;
                Poll::Ready(Err(error))
            }
            outcome => Poll::Ready(outcome),
        }
    }

    /// Appends whole frames.
    pub(crate) fn queue(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Bytes that wait for the stream.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Appends the close frame. Nothing may be appended after it.
    pub(crate) fn close(&mut self, code: Code, cx: &mut Context<'_>) {
        let frame = CloseFrame { code: CloseCode::from(code.number()), reason: code.slug().into() };
        let mut pipe = Pipe { stream: &mut self.stream, out: &mut self.out, cx };
        if let Err(error) = self.context.close(&mut pipe, Some(frame)) {
            // It was closing already.
            tracing::trace!(%error, "close frame not written");
        }
    }

    /// Writes what waits, together with `frames`, in as few writes as the stream allows. Ready: all of it is with the kernel.
    pub(crate) fn poll_write<'a>(
        &mut self,
        frames: impl IntoIterator<Item = &'a [u8]>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut frames = frames.into_iter();
        if self.waiting_bytes() > 0 {
            frames.for_each(|frame| self.out.extend_from_slice(frame));
            return self.poll_flush(cx);
        }
        GATHERED.with_borrow_mut(|gathered| {
            gathered.clear();
            gathered.shrink_to(4 * WRITE_BYTES_MAX);
            frames.by_ref().for_each(|frame| gathered.extend_from_slice(frame));
            let mut sent = 0;
            while sent < gathered.len() {
                match self.stream.poll_write(cx, &gathered[sent..]) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(taken)) => sent += taken,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        self.out.extend_from_slice(&gathered[sent..]);
                        return Poll::Pending;
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            let taken = ready!(self.stream.poll_write(cx, &self.out[self.sent..]))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += taken;
        }
        self.out = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Reads and forgets until the peer is done, so that the kernel does not reset the connection before the peer has read why
    /// it was closed.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, WsError>> {
        let mut scratch = [0; 4_096];
        let mut pipe = Pipe { stream: &mut self.stream, out: &mut self.out, cx };
        loop {
            match pipe.read(&mut scratch) {
                Ok(0) => return Poll::Ready(Err(WsError::ConnectionClosed)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl Stream {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Other(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Other(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

/// The stream as tungstenite wants it: reads that would block, and writes that never do.
struct Pipe<'a, 'b> {
    stream: &'a mut Stream,
    out: &'a mut Vec<u8>,
    cx: &'a mut Context<'b>,
}

impl Read for Pipe<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        match self.stream.poll_read(self.cx, &mut buffer) {
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            Poll::Ready(outcome) => outcome.map(|()| buffer.filled().len()),
        }
    }
}

impl Write for Pipe<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("waiting_bytes", &self.waiting_bytes()).finish_non_exhaustive()
    }
}
