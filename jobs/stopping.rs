//! How a job is told to stop, and how long it may take.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::app::App;

/// How long a stopped job may take to finish its epoch.
const STOP_BOUND: Duration = Duration::from_secs(60);

impl App {
    /// Makes SIGTERM and Ctrl-C finish the epoch and end the job; a second signal, or a bound of time, ends it at once.
    pub fn stop_on_signals(&self) {
        let stop = Arc::clone(&self.stop);
        self.handle.spawn(async move {
            told_to_stop().await;
            stop.store(true, Ordering::Relaxed);
            tracing::info!("stopping: what is under way is being finished");
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                () = wait(STOP_BOUND) => {}
            }
            eprintln!("assay: stopped before the epoch was finished; the next start completes it");
            #[expect(clippy::disallowed_methods, reason = "the bound of a shutdown: main waits for the epoch")]
            std::process::exit(1);
        });
    }

    /// Makes SIGTERM and Ctrl-C end a job that has no state to finish, and say what that leaves.
    pub fn end_on_signals(&self, left: &'static str) {
        self.handle.spawn(async move {
            told_to_stop().await;
            eprintln!("\nassay: stopped; {left}");
            #[expect(clippy::disallowed_methods, reason = "what is under way has no effect before its end")]
            std::process::exit(1);
        });
    }
}

/// Resolves at the first SIGTERM or Ctrl-C.
async fn told_to_stop() {
    let terminated = async {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            match signal(SignalKind::terminate()) {
                Ok(mut signal) => signal.recv().await,
                Err(_) => std::future::pending().await,
            };
        }
        #[cfg(not(unix))]
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

#[allow(clippy::disallowed_methods, reason = "the bound of a shutdown is real time")]
async fn wait(time: Duration) {
    tokio::time::sleep(time).await;
}
