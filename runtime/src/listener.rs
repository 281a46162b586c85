//! Listening for connections and serving HTTP on them.
//!
//! Promises: the addresses told are those really bound (port 0 becomes a port); an exhausted file table delays connections
//! instead of ending the process; a shutdown stops accepting at once and lets requests in hand finish.

use crate::limits::{ACCEPT_BACK_OFF, LISTEN_BACKLOG_CONNECTIONS, REQUEST_HEAD_BYTES_MAX, REQUEST_HEAD_WAIT};
use crate::{Shutdown, Tasks};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Who sent a request: an extension of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// A bound address.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds an address; port 0 takes any free one.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart must not wait for the connections of its predecessor to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let socket = socket.listen(LISTEN_BACKLOG_CONNECTIONS)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// What is really bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection, without Nagle's delay. Waits out an exhausted file table; cancel-safe.
    pub async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    // Fails only for a connection that is already gone, which its first read will tell.
                    stream.set_nodelay(true).ok();
                    return (stream, peer);
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, address = %self.address, "can't accept; trying again");
                    tokio::time::sleep(ACCEPT_BACK_OFF).await;
                }
            }
        }
    }

    /// Answers every request with `answer` until the shutdown; connections may be upgraded. Returns when it stopped
    /// accepting: requests in hand finish as tasks of `tasks`.
    pub async fn serve<A, F>(self, answer: A, tasks: Tasks, shutdown: Shutdown)
    where
        A: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let answer = Arc::new(answer);
        while let Some((stream, peer)) = shutdown.or_until(self.accept()).await {
            let (answer, shutdown) = (Arc::clone(&answer), shutdown.clone());
            tasks.spawn_light(serve_connection(stream, peer, answer, shutdown));
        }
    }
}

async fn serve_connection<A, F>(stream: TcpStream, peer: SocketAddr, answer: Arc<A>, shutdown: Shutdown)
where
    A: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(REQUEST_HEAD_WAIT).max_buf_size(REQUEST_HEAD_BYTES_MAX);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = shutdown.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // A client that goes away in the middle is its own business.
        tracing::debug!(%error, %peer, "connection ended early");
    }
}

/// Whether an error of accept is about the connection that was to be accepted, not about us.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt as _, Full};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn port_0_becomes_a_port_and_a_shutdown_ends_idle_connections() {
        let listener = Listener::bind("127.0.0.1:0".parse().expect("an address")).expect("any port is free");
        let address = listener.address();
        assert_ne!(address.port(), 0);
        let (tasks, shutdown) = (Tasks::new(), Shutdown::new());
        let answer = |request: Request<Incoming>| async move {
            let peer = request.extensions().get::<Peer>().expect("every request has one").0;
            let body = Full::new(Bytes::from(peer.to_string())).map_err(|never| match never {}).boxed_unsync();
            Response::new(body)
        };
        tasks.spawn(listener.serve(answer, tasks.clone(), shutdown.clone()));
        let mut client = TcpStream::connect(address).await.expect("it listens");
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it is open");
        let mut head = vec![0; 12];
        client.read_exact(&mut head).await.expect("it answers");
        assert_eq!(head, b"HTTP/1.1 200");
        shutdown.begin();
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.expect("it closes");
        assert!(rest.ends_with(&client.local_addr().expect("it has one").to_string()), "{rest}");
        assert_eq!(tasks.finish(std::time::Duration::from_secs(5)).await, 0);
    }
}
