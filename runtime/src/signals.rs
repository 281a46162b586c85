//! SIGTERM and SIGINT: the first asks for a shutdown, the second ends the process at once.

use crate::{Shutdown, Tasks};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the process ends with after a second signal: 128 + SIGINT, as shells expect.
const IMPATIENT: i32 = 130;

/// From now on a signal begins `shutdown`. The task that listens never ends: give it `tasks` that nobody waits for.
pub fn listen(shutdown: &Shutdown, tasks: &Tasks) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = shutdown.clone();
    tasks.spawn(async move {
        let name = either(&mut terminate, &mut interrupt).await;
        tracing::info!(signal = name, "shutting down; a second signal ends at once");
        shutdown.begin();
        let name = either(&mut terminate, &mut interrupt).await;
        tracing::warn!(signal = name, "ended by a second signal");
        std::process::exit(IMPATIENT);
    });
    Ok(())
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        biased;
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
