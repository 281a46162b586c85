//! The network of a simulation: pipes in memory between clients and whoever listens.

use crate::client::{ByteStream, Dial};
use crate::sim::limits::{ACCEPT_QUEUE_MAX, PIPE_BYTES};
use futures_util::future::BoxFuture;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

/// A server's end: new connections.
pub type Accept = mpsc::Receiver<DuplexStream>;

/// Which servers there are. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Net {
    servers: Arc<Mutex<Vec<Option<mpsc::Sender<DuplexStream>>>>>,
}

impl Net {
    /// Server `index` listens; whoever listened there before no longer does.
    pub fn listen(&self, index: usize) -> Accept {
        let (connections, accept) = mpsc::channel(ACCEPT_QUEUE_MAX);
        let mut servers = self.lock();
        if servers.len() <= index {
            servers.resize(index + 1, None);
        }
        servers[index] = Some(connections);
        accept
    }

    /// Server `index` is gone.
    pub fn unlisten(&self, index: usize) {
        if let Some(server) = self.lock().get_mut(index) {
            *server = None;
        }
    }

    /// A client's way in: to the servers that listen, one after the other, starting with `first`.
    pub fn dial_from(&self, first: usize) -> Arc<dyn Dial> {
        Arc::new(PipeDial { net: self.clone(), next: Mutex::new(first) })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Option<mpsc::Sender<DuplexStream>>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct PipeDial {
    net: Net,
    next: Mutex<usize>,
}

impl PipeDial {
    fn server(&self) -> Option<mpsc::Sender<DuplexStream>> {
        let servers = self.net.lock();
        if servers.is_empty() {
            return None;
        }
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let index = *next % servers.len();
        *next = index + 1;
        servers[index].clone()
    }
}

impl Dial for PipeDial {
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn ByteStream>>> {
        Box::pin(async move {
            let server = self.server().ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            let (mine, theirs) = tokio::io::duplex(PIPE_BYTES);
            server.try_send(theirs).map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            Ok(Box::new(mine) as Box<dyn ByteStream>)
        })
    }
}
