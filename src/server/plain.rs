//! A listener without TLS: it answers what an authority asks of it, sends everybody else
//! to the listener with TLS, and takes nothing.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, uri::Authority};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::{
    connection::{Arrival, In, Shared},
    drain::{Stop, reached},
    proxied,
};

/// Heads here are short. Bytes.
const BUFFER: usize = 16 << 10;
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// What an authority that asks for this token is told, if any does.
pub type Challenges = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Serves one connection: one request, within the time for a head.
pub(super) async fn run(arrival: Arrival, challenges: Challenges, shared: Arc<Shared>) {
    let Arrival { socket, balanced, open, permit, .. } = arrival;
    let Ok(mut socket) = TcpStream::from_std(socket) else { return };
    let mut stop = shared.stop.clone();
    let timeout = shared.limits.header_timeout;
    let _state = In::new(&shared.metrics, "plain");
    let served = async {
        if balanced && proxied::client(&mut socket).await.is_err() {
            return;
        }
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer(&request, &challenges);
            async move { Ok::<_, Infallible>(answer) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(timeout)
            .max_buf_size(BUFFER)
            .keep_alive(false)
            .serve_connection(TokioIo::new(socket), service);
        if let Err(error) = connection.await {
            tracing::debug!(%error, "plain connection ended");
        }
    };
    tokio::select! {
        () = reached(&mut stop, Stop::Drain) => {}
        // Its head, and as long again to take the answer.
        _ = tokio::time::timeout(timeout * 2, served) => {}
    }
    drop((open, permit));
}

fn answer<B>(request: &Request<B>, challenges: &Challenges) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if let Some(token) = path.strip_prefix(CHALLENGES) {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        return match challenges(token).filter(|_| reads) {
            Some(text) => text_of(StatusCode::OK, text),
            None => text_of(StatusCode::NOT_FOUND, "no such challenge\n"),
        };
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next().filter(|_| hosts.next().is_none()).and_then(|host| host.to_str().ok());
    // `OPTIONS *` is for the server, not for anything that is elsewhere.
    let host = host.filter(|_| request.uri().path() != "*");
    let host = host.and_then(|host| host.parse::<Authority>().ok());
    let to = host.filter(|host| !host.as_str().contains('@')).and_then(|host| {
        let rest = request.uri().path_and_query().map_or("/", |rest| rest.as_str());
        HeaderValue::from_str(&format!("https://{}{rest}", host.host())).ok()
    });
    match to {
        Some(to) => {
            let mut response = text_of(StatusCode::PERMANENT_REDIRECT, "this is served over https\n");
            response.headers_mut().insert(header::LOCATION, to);
            response
        }
        None => text_of(StatusCode::BAD_REQUEST, "a request names one host\n"),
    }
}

fn text_of(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_but_an_authority_is_sent_on() {
        let challenges: Challenges = Arc::new(|token| (token == "known").then(|| "known.thumb".into()));
        let ask = |method: Method, path: &str, host: Option<&str>| {
            let mut request = Request::builder().method(method).uri(path);
            if let Some(host) = host {
                request = request.header("host", host);
            }
            let answer = answer(&request.body(()).expect("a request"), &challenges);
            let to = answer.headers().get("location").map(|to| to.to_str().expect("text").to_owned());
            (answer.status().as_u16(), to.unwrap_or_default())
        };
        let get = |path, host| ask(Method::GET, path, host);
        assert_eq!(get("/.well-known/acme-challenge/known", None).0, 200);
        assert_eq!(get("/.well-known/acme-challenge/other", Some("a.example")).0, 404);
        assert_eq!(ask(Method::PUT, "/.well-known/acme-challenge/known", Some("a.example")).0, 404);
        assert_eq!(get("/files/a?b=c", Some("a.example")), (308, "https://a.example/files/a?b=c".into()));
        assert_eq!(get("/", Some("a.example:8080")), (308, "https://a.example/".into()));
        assert_eq!(get("/", Some("[::1]:80")), (308, "https://[::1]/".into()));
        assert_eq!(get("*", Some("a.example")).0, 400);
        for odd in [None, Some(""), Some("a b"), Some("user@a.example"), Some("a.example/x")] {
            assert_eq!(get("/", odd).0, 400, "{odd:?}");
        }
    }
}
