//! HTTP/2, frame by frame as it comes off the wire.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
};

use crate::bench::{Bench, Client, limits, within};

const REQUESTS: u32 = 2000;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("is short").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The kind, flags and stream of the next frame.
async fn next(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> (u8, u8, u32) {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.expect("a frame");
    let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
    stream.read_exact(&mut payload).await.expect("the whole of it");
    (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]))
}

/// Were the head of an answer to leave alone, a client that ends its upload at once
/// when it sees it would have the stream reset before the body is on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_answers_head_and_its_body_leave_together() {
    let bench = Bench::new(limits()).await;
    let mut config = bench.config();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let Client(stream) = bench.connect(config).await.expect("handshakes");
    let (mut from, mut to) = tokio::io::split(stream);
    to.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.expect("sent");
    // `:method GET`, `:scheme https`, `:path /`, all from HPACK's static table; and the authority.
    let head = [&[0x82, 0x87, 0x84, 0x41, 9][..], b"localhost"].concat();
    let (answered, mut to_send) = watch::channel(0);
    // Pings beside each request keep the connection busy while its answer is made.
    let sending = tokio::spawn(async move {
        for sent in 0..REQUESTS {
            let request = frame(HEADERS, END_HEADERS | END_STREAM, 2 * sent + 1, &head);
            to.write_all(&request).await.expect("sent");
            while *to_send.borrow_and_update() == sent {
                to.write_all(&frame(PING, 0, 0, &[0; 8])).await.expect("sent");
                tokio::task::yield_now().await;
            }
        }
        to
    });
    for request in 0..REQUESTS {
        while within(next(&mut from)).await != (HEADERS, END_HEADERS, 2 * request + 1) {}
        assert_eq!(within(next(&mut from)).await, (DATA, END_STREAM, 2 * request + 1), "request {request}");
        answered.send_replace(request + 1);
    }
    drop(sending.await);
}
