//! `health`: asks a server that runs here how it is, for probes where there is no shell and no curl.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, runtime::Builder};

use super::{Failure, args::HealthArgs, output, run};

/// What is read of an answer, in bytes.
const MOST: usize = 64 << 10;

/// Asks, prints what it hears, and fails where that isn't 200.
pub(super) fn run(args: &HealthArgs) -> Result<(), Failure> {
    let path = if args.live { "/healthz" } else { "/readyz" };
    let asked = async { tokio::time::timeout(args.timeout, ask(args.address, path)).await };
    // No thread of its own: a probe comes every few seconds, into a container that is counted by them.
    let (status, words) = match run::built(&mut Builder::new_current_thread())?.block_on(asked) {
        Ok(answer) => answer.map_err(|words| unreachable(args.address, &words))?,
        Err(_) => return Err(unreachable(args.address, &format!("no answer in {:?}", args.timeout))),
    };
    let ours = if args.live { words.trim_end() == "ok" } else { words.contains("\"ready\":") };
    if !ours {
        return Err(Failure::new(format!(
            "{} is no server of ours; `--address` is the `bind` of [admin]",
            args.address
        )));
    }
    output::say(words.trim_end());
    if status == 200 { Ok(()) } else { Err(Failure::new(format!("{path} answers {status}"))) }
}

async fn ask(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let socket = TcpStream::connect(address).await.map_err(|error| words(&error))?;
    let (mut client, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(|error| words(&error))?;
    tokio::spawn(connection);
    let request = Request::get(path).header(header::HOST, address.to_string()).body(Empty::<Bytes>::new());
    let answer = client.send_request(request.map_err(|error| words(&error))?).await.map_err(|error| words(&error))?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), MOST).collect().await.map_err(|error| words(&error))?;
    Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}

fn unreachable(address: SocketAddr, words: &str) -> Failure {
    Failure::new(format!("nobody answers at {address}: {words}; `--address` is the server's `bind` of [admin]"))
}
