//! More clients than there is room for: who waits, who is sent away, and that all comes back.

use std::net::TcpStream;

use futures_util::future::join_all;

use crate::{
    clients::{Http1, Http2, MIB, assert_later, await_calm, send, used},
    support::{Site, eventually, files_below, pattern},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_connections_leave_the_others_served() {
    sealward::server::files::raise_file_limit().expect("room for a thousand");
    let site = Site::new();
    let server = site.serve("", "");
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.extend(join_all((0..50).map(|_| Http1::open(&site, &server))).await);
    }
    eventually("all are open", || server.metric("sealward_connections{state=\"serving\"}") >= 1000.0);
    let bytes = pattern(3 * MIB);
    assert_eq!(site.put(&server, "between", &bytes).status, 201);
    assert_eq!(site.get(&server, "between").body, bytes);
    // The first and the last of them may still ask.
    for client in [0, 999] {
        idle[client].head("GET", "nothing", "").await;
        assert_eq!(idle[client].answer().await.0, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_upload_too_many_is_told_to_come_again() {
    let site = Site::new();
    let server = site.serve("", "[limits]\nuploads = 2\nbuffer_wait = \"500ms\"\n");
    let bytes = pattern(MIB);
    let mut both = [Http1::open(&site, &server).await, Http1::open(&site, &server).await];
    for (number, client) in both.iter_mut().enumerate() {
        client.begin(&format!("held-{number}"), bytes.len(), &bytes[..1000]).await;
    }
    eventually("two are under way", || server.metric("sealward_uploads_in_flight ") == 2.0);

    let mut third = Http1::open(&site, &server).await;
    third.begin("third", bytes.len(), &bytes).await;
    let (status, head) = third.answer().await;
    assert_eq!(status, 503);
    assert_later(&head);
    for client in &mut both {
        client.send(&bytes[1000..]).await.expect("is taken");
        assert_eq!(client.answer().await.0, 201);
    }
    assert_eq!(site.put(&server, "third", &bytes).status, 201);
    await_calm(&server);
    assert_eq!(files_below(&site.objects()).len(), 2 * 3);
}

/// What a form's head says is read before its upload begins: not without a place
/// in line and memory of the budget.
#[tokio::test(flavor = "multi_thread")]
async fn a_form_has_a_place_and_memory_before_its_head_is_read() {
    const KIND: &str = "content-type: multipart/form-data; boundary=b\r\n";
    let (head, tail) = ("--b\r\ncontent-disposition: form-data; name=f; filename=a\r\n\r\n", "\r\n--b--\r\n");
    let site = Site::new();
    let server = site.serve("", "[limits]\nuploads = 1\nbuffer_wait = \"500ms\"\n");
    let mut form = Http1::open(&site, &server).await;
    let length = head.len() + 1000 + tail.len();
    form.head("POST", "", &format!("{KIND}content-length: {length}\r\n")).await;
    form.send(&head.as_bytes()[..20]).await.expect("is taken");
    eventually("the form holds memory", || used(&server) > 0.0);

    // The one place is taken: by a form of which nothing is known yet.
    let mut other = Http1::open(&site, &server).await;
    other.begin("other", 1000, &pattern(1000)).await;
    let (status, answer) = other.answer().await;
    assert_eq!(status, 503, "{answer}");
    assert_later(&answer);
    form.send(&head.as_bytes()[20..]).await.expect("is taken");
    form.send(&pattern(1000)).await.expect("is taken");
    form.send(tail.as_bytes()).await.expect("is taken");
    assert_eq!(form.answer().await.0, 201);
    await_calm(&server);

    // And the other way about: while an upload has it, a form's head isn't read.
    let mut upload = Http1::open(&site, &server).await;
    upload.begin("held", 1000, &[]).await;
    eventually("it is under way", || server.metric("sealward_uploads_in_flight ") == 1.0);
    let mut form = Http1::open(&site, &server).await;
    form.head("POST", "", &format!("{KIND}content-length: {length}\r\n")).await;
    form.send(head.as_bytes()).await.expect("is taken");
    let (status, answer) = form.answer().await;
    assert_eq!(status, 503, "{answer}");
    upload.send(&pattern(1000)).await.expect("is taken");
    assert_eq!(upload.answer().await.0, 201);

    // One that leaves inside its head leaves nothing taken.
    let mut form = Http1::open(&site, &server).await;
    form.head("POST", "", &format!("{KIND}content-length: {length}\r\n")).await;
    form.send(&head.as_bytes()[..20]).await.expect("is taken");
    eventually("the form holds memory", || used(&server) > 0.0);
    drop(form);
    await_calm(&server);
    assert_eq!(site.put(&server, "after", b"x").status, 201);
}

/// Connections are fewer than configured where the files they need can't be had:
/// those beyond wait, those within are served, and so is what they store.
#[tokio::test(flavor = "multi_thread")]
async fn connections_leave_files_for_the_objects() {
    let mut site = Site::new();
    site.descriptors = Some(160);
    let server = site.serve("", "");
    let line = server.wait_for_line(|line| line.contains("fewer connections than configured"));
    // An eighth is kept, and four for each core.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let most = u32::try_from(140 - 4 * cores).expect("a small number");
    assert!(line.contains(&format!("\"connections\":{most}")) && line.contains("\"descriptors\":160"), "{line}");
    let mut crowd = join_all((1..most).map(|_| Http1::open(&site, &server))).await;
    // curl's connection is the last there is room for.
    let bytes = pattern(3 * MIB);
    assert_eq!(site.put(&server, "between", &bytes).status, 201);
    assert_eq!(site.get(&server, "between").body, bytes);
    eventually("all are open", || server.metric("sealward_connections{state=\"serving\"}") >= f64::from(most - 1));
    // More than the limit of files: the ones too many are told nothing else than to wait.
    let late: Vec<_> = (0..40).map(|_| TcpStream::connect(server.https).expect("is queued")).collect();
    let last = crowd.last_mut().expect("somebody");
    last.head("GET", "between", "").await;
    assert_eq!(last.answer().await.0, 200);
    drop(late);
    drop(crowd);
    eventually("who waited is served", || site.get(&server, "between").status == 200);
}

/// With 32 MiB, and about one for each upload that holds a part.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_beyond_the_memory_wait_in_line_and_then_come_again() {
    const MANY: usize = 64;
    let site = Site::new();
    let server = site.serve("", "[limits]\nbuffer_memory = \"32MiB\"\nbuffer_wait = \"2s\"\n");
    let bytes = pattern(2 * MIB);
    let mut clients = join_all((0..MANY).map(|_| Http1::open(&site, &server))).await;
    for (number, client) in clients.iter_mut().enumerate() {
        client.begin(&format!("slow-{number}"), bytes.len(), &bytes[..1000]).await;
    }
    // Who got no memory in time is gone, whoever has it still holds it.
    eventually("who waited too long is sent away", || {
        let sent_away = server.metric("sealward_buffer_waits_total{outcome=\"timeout\"}");
        sent_away >= 16.0 && server.metric("sealward_uploads_in_flight ") == 64.0 - sent_away
    });
    assert!(used(&server) <= 32.0 * 1024.0 * 1024.0);

    let (mut stored, mut refused) = (0, 0);
    for mut client in clients {
        // One that was refused may have closed already.
        let _ = client.send(&bytes[1000..]).await;
        let (status, head) = client.answer().await;
        match status {
            201 => stored += 1,
            503 => {
                assert_later(&head);
                refused += 1;
            }
            _ => panic!("{head}"),
        }
    }
    assert!(stored >= 24 && refused >= 16, "{stored} stored, {refused} refused");
    await_calm(&server);
    assert_eq!(files_below(&site.objects()).len(), 2 * stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_line_is_served_when_memory_returns() {
    const HELD: usize = 64;
    let site = Site::new();
    let server = site.serve("", "[limits]\nbuffer_memory = \"32MiB\"\n");
    let bytes = pattern(2 * MIB);
    let mut clients = join_all((0..HELD).map(|_| Http1::open(&site, &server))).await;
    for (number, client) in clients.iter_mut().enumerate() {
        client.begin(&format!("held-{number}"), bytes.len(), &bytes[..1000]).await;
    }
    eventually("all have begun", || server.metric("sealward_uploads_in_flight ") == 64.0);
    // All at once, so that those in front make room for those behind.
    let answers = join_all(clients.iter_mut().map(async |client| {
        client.send(&bytes[1000..]).await.expect("is taken");
        client.answer().await.0
    }));
    assert_eq!(answers.await, [201; HELD]);
    await_calm(&server);
    assert_eq!(site.get(&server, "held-63").body, bytes);
}

/// Streams that wait in line leave their bytes unread in the connection's one
/// window: it must be large enough for those that hold memory all the same.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_on_one_connection_do_not_starve_each_other() {
    let site = Site::new();
    let server = site.serve("", "[limits]\nbuffer_memory = \"32MiB\"\n");
    let bytes = pattern(2 * MIB);
    let mut client = Http2::open(&site, &server).await;
    let mut running = Vec::new();
    for number in 0..64 {
        let (answer, mut body) = client.begin(&format!("k-{number}"), bytes.len(), b"").await;
        let bytes = bytes.clone();
        running.push(async move {
            send(&mut body, &bytes, true).await;
            answer.await.expect("an answer").status().as_u16()
        });
    }
    assert_eq!(join_all(running).await, [201; 64]);
}
