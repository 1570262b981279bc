//! SIGKILL at any moment: what was acknowledged is there, what wasn't is there whole or not at all.

use crate::{
    clients::{Http1, MIB, await_growth, unfinished},
    support::{Sealward, Site, eventually, files_below, pattern},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_during_an_upload_leaves_only_the_older_object() {
    let site = Site::new();
    let server = site.serve("", "");
    let old = pattern(300_000);
    site.put(&server, "folder/report.bin", &old);
    let before = files_below(&site.objects());

    let mut replacing = Http1::open(&site, &server).await;
    replacing.begin("folder/report.bin", 64 * MIB, &pattern(8 * MIB)).await;
    let mut creating = Http1::open(&site, &server).await;
    creating.begin("folder/new.bin", 64 * MIB, &pattern(8 * MIB)).await;
    await_growth(&site, 2 * MIB);
    server.kill();
    assert!(!unfinished(&site).is_empty(), "the kill came too late to prove anything");

    let server = site.serve("", "");
    // But for a moment in which the store is looked at.
    eventually("nothing else lies there", || files_below(&site.objects()) == before);
    assert_eq!(site.get(&server, "folder/report.bin").body, old);
    assert_eq!(site.get(&server, "folder/new.bin").status, 404);
}

/// Each round kills a server a little later in an upload that creates and one
/// that replaces: the early ones by bytes sent, the late ones by time since the last.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_point_leaves_objects_whole_or_absent() {
    const ROUNDS: usize = 20;
    let site = Site::new();
    let mut kept = pattern(2 * MIB);
    let mut server = site.serve("", "");
    site.put(&server, "kept", &kept);
    let (mut present, mut absent) = (0, 0);
    for round in 0..ROUNDS {
        let mut next = pattern(3 * MIB + round);
        next[0] = u8::try_from(round).expect("few rounds");
        let key = format!("new-{round}");
        let mut creating = Http1::open(&site, &server).await;
        let mut replacing = Http1::open(&site, &server).await;
        let sent = if round < 8 { next.len() * round / 8 } else { next.len() };
        creating.begin(&key, next.len(), &next[..sent]).await;
        replacing.begin("kept", next.len(), &next[..sent]).await;
        if round + 1 == ROUNDS {
            // However slow the machine is, one of them is there.
            assert_eq!(creating.answer().await.0, 201);
        } else if round >= 8 {
            // Not a wait for something: the moment of the kill is what varies.
            let late = u64::try_from(round - 8).expect("few rounds");
            tokio::time::sleep(std::time::Duration::from_millis(late * 4)).await;
        }
        server.kill();

        server = site.serve("", "");
        if whole_or_absent(&site, &server, &key, &next) {
            present += 1;
        } else {
            absent += 1;
        }
        let now = site.get(&server, "kept");
        assert_eq!((now.status, now.exit), (200, 0), "round {round}: {now:?}");
        assert!(now.body == kept || now.body == next, "round {round}: neither the old nor the new");
        kept = now.body;
        // A message and its sidecar for each object, and nothing else.
        let wanted = 2 * (1 + present);
        eventually(&format!("{wanted} files after round {round}"), || files_below(&site.objects()).len() == wanted);
    }
    assert!(present > 0 && absent > 0, "all kills fell on one side: {present} there, {absent} not");
}

fn whole_or_absent(site: &Site, server: &Sealward, key: &str, wanted: &[u8]) -> bool {
    let found = site.get(server, key);
    match found.status {
        404 => false,
        200 => {
            assert!(found.exit == 0 && found.body == wanted, "{key} is there, and not whole: {found:?}");
            true
        }
        _ => panic!("{key}: {found:?}"),
    }
}
