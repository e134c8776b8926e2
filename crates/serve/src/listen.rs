//! Connections: accepting, timeouts, draining.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::ServeError;

/// A connection that sends no request for so long is closed.
const IDLE: Duration = Duration::from_secs(75);

/// Connections at once; others wait to be accepted.
const CONNECTIONS: usize = 1024;

/// After an error that concerns the whole process, such as too many open files.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// SIGTERM and Ctrl-C.
pub(crate) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?,
        })
    }

    /// Waits for one of them.
    async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// Serves connections until a signal comes or loading fails, then waits for the requests that run. A second signal does not
/// wait.
pub(crate) async fn accept(
    listener: TcpListener,
    router: Router,
    mut loading: JoinHandle<Result<(), Box<dyn Error + Send + Sync>>>,
    signals: &mut Signals,
) -> Result<(), ServeError> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(IDLE);
    let (graceful, places) = (GracefulShutdown::new(), Arc::new(Semaphore::new(CONNECTIONS)));
    let mut loaded = false;
    let ended = loop {
        let next = async {
            // The semaphore is never closed.
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            (place, accepted) = next => match accepted {
                Ok((stream, _)) => {
                    // Tokens go out as they come.
                    let _ = stream.set_nodelay(true);
                    let service = TowerToHyperService::new(router.clone());
                    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
                    let connection = graceful.watch(connection);
                    tokio::spawn(async move {
                        // A connection that breaks has nobody to tell.
                        let _ = connection.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            },
            result = &mut loading, if !loaded => {
                loaded = true;
                match result {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => break Err(ServeError::Load(error)),
                    Err(panicked) => break Err(ServeError::Load(panicked.into())),
                }
            }
            () = signals.next() => break Ok(()),
        }
    };
    drop(listener);
    if ended.is_ok() {
        tracing::info!("draining: waiting for running requests; a second signal ends them");
        tokio::select! {
            () = graceful.shutdown() => {}
            () = signals.next() => {}
        }
    }
    ended
}
