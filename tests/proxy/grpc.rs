//! gRPC, by its official library on both sides: HTTP/2 to the app by prior knowledge, and
//! trailers back.

use crate::{
    apps::{serve, to},
    peer::Peer,
    support::Site,
};

#[test]
fn calls_of_every_kind_pass_and_so_do_their_trailers() {
    let site = Site::new();
    let mut app = Peer::start("grpc_app.py", ["serve"]);
    let url = format!("http://127.0.0.1:{}", app.line());
    let server = serve(&site, &to(&[url], "protocol = \"http2\""));
    let ca = site.path("tls/ca.pem").to_string_lossy().into_owned();
    let talk = Peer::start("grpc_app.py", ["talk".to_owned(), server.https.port().to_string(), ca]);
    assert_eq!(talk.ended().trim(), "good");
    assert_eq!(server.metric("sealward_upstream_requests_in_flight{upstream=\"app\"}"), 0.0);
}
