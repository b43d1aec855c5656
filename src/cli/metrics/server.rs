//! One page over HTTP.
//!
//! # Invariant
//!
//! Whoever asks can't hold up more than a few connections, each for a few seconds, and nothing of the run.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Connections at once; others wait.
const CONNECTIONS_MAX: usize = 8;

/// From the first byte of a question to the last one of the answer.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Answers at `address` with `page`, made anew each time. Returns where it really listens.
///
/// # Errors
///
/// If the address is taken or not this machine's, or there is no thread left.
pub fn start(
    address: SocketAddr,
    page: impl Fn() -> String + Send + Sync + 'static,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listener = {
        let _guard = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    std::thread::Builder::new()
        .name("metrics".into())
        .spawn(move || runtime.block_on(listen(listener, Arc::new(page))))?;
    Ok(address)
}

async fn listen<P>(listener: tokio::net::TcpListener, page: Arc<P>)
where
    P: Fn() -> String + Send + Sync + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, for example: the run may need the next one itself.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let page = Arc::clone(&page);
        tokio::spawn(async move {
            // Whoever is too slow, or speaks no HTTP, gets nothing.
            let _ = tokio::time::timeout(TIME_LIMIT, serve(stream, &*page)).await;
            drop(place);
        });
    }
}

async fn serve<P: Fn() -> String>(stream: TcpStream, page: &P) -> hyper::Result<()> {
    let answer = service_fn(async |request| Ok::<_, Infallible>(answer(&request, page)));
    http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer)
        .await
}

fn answer(request: &Request<Incoming>, page: &impl Fn() -> String) -> Response<Full<Bytes>> {
    let mut response = Response::default();
    let readable = [Method::GET, Method::HEAD].contains(request.method());
    match (readable, request.uri().path()) {
        (false, _) => {
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allowed);
        }
        (true, "/metrics") => {
            let form = HeaderValue::from_static(prometheus::TEXT_FORMAT);
            response.headers_mut().insert(CONTENT_TYPE, form);
            *response.body_mut() = page().into();
        }
        (true, _) => {
            *response.status_mut() = StatusCode::NOT_FOUND;
            *response.body_mut() = "the metrics are at /metrics\n".into();
        }
    }
    response
}
