//! HTTP connections over TCP: how many, how long they may dawdle, how they end.

#[cfg(test)]
mod tests;

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};

/// Most bytes of a request's headers.
const MAX_HEADER_BYTES: usize = 32 << 10;

/// Most headers of a request.
const MAX_HEADERS: usize = 100;

/// Pause after a failure to accept, such as having no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Longest time that the kernel takes for [`Limits::send`], in milliseconds.
const MAX_SEND_MS: u32 = i32::MAX.cast_unsigned();

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; further ones wait until one has ended.
    pub connections: usize,
    /// Time to send a request's headers, counted from the end of the request before.
    pub header: Duration,
    /// Time after which a client that acknowledges nothing, or takes nothing, loses its connection.
    pub send: Duration,
}

/// Serves connections within `limits` until `stopping` is true and those that are busy have ended.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, mut stopping: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await.expect("invariant: the semaphore is never closed");
            (listener.accept().await, place)
        };
        tokio::select! {
            () = stopped(&mut stopping) => break,
            (accepted, place) = accepted => match accepted {
                Ok((stream, _)) => {
                    let connection = connection(stream, router.clone(), limits, stopping.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            // Finished connections are taken off the set.
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Completes when the server stops. The sender's end says the same as its word.
pub async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

async fn connection(stream: TcpStream, router: Router, limits: Limits, mut stopping: watch::Receiver<bool>) {
    if let Err(error) = prepare(&stream, limits.send) {
        tracing::debug!(%error, "connection lost");
        return;
    }
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(serving);
    let served = tokio::select! {
        served = &mut serving => served,
        () = stopped(&mut stopping) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        // Clients go away whenever they like.
        tracing::debug!(%error, "connection lost");
    }
}

fn prepare(stream: &TcpStream, send: Duration) -> io::Result<()> {
    // What is sent in pieces goes out as it comes, not gathered into packets.
    stream.set_nodelay(true)?;
    // To the kernel, 0 is its own time of many minutes, and what is no positive number of 32 bits is an error.
    let timeout = u32::try_from(send.as_millis()).unwrap_or(MAX_SEND_MS).clamp(1, MAX_SEND_MS);
    rustix::net::sockopt::set_tcp_user_timeout(stream, timeout)?;
    Ok(())
}
