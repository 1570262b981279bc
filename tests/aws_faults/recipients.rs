//! Further recipients: their KMS is as needed as the class's own.

use crate::{
    double::{Double, Fault, OURS, THEIRS, World},
    site::{names, put, serve, serve_with},
    support::{Site, pattern},
};

#[test]
fn an_object_is_sealed_for_every_recipient_or_not_at_all() {
    let site = Site::new();
    let double = Double::start(World::default());
    let recipients = format!("recipients = [\"{THEIRS}\"]");
    let bytes = pattern(300_000);
    for (fault, told) in [
        (Fault::Refuse(400, "AccessDeniedException"), 503),
        (Fault::Refuse(400, "DisabledException"), 503),
        (Fault::Reset, 503),
        // KMS says it wrapped under another key than the recipient's.
        (Fault::Key(OURS), 503),
    ] {
        // Each with a data key of its own, which the canary's would spare.
        let text = crate::site::config(&recipients, "")
            .replace("provider = \"kms\"\n", "provider = \"kms\"\nmax_messages = 1\n");
        let server = site.serve_among(&text, &double.environment());
        double.plan("Encrypt", 1, 1 << 20, fault);
        let answer = put(&site, &server, "k", &bytes, &[]);
        assert_eq!(answer.status, told, "{answer:?}\n{}", server.log());
        double.calm();
        assert!(names(&double.world()).is_empty());
    }
    let server = serve_with(&site, &double, &recipients, "");
    double.plan("Encrypt", 1, 1, Fault::Refuse(400, "ThrottlingException"));
    assert_eq!(put(&site, &server, "k", &bytes, &[]).status, 201);
    drop(server);
    // Opened by the recipient's key where the class's own is refused: what recipients are for.
    let both = format!("read_keys = [\"{OURS}\", \"{THEIRS}\"]");
    let server = serve_with(&site, &double, &both, "");
    double.plan("Decrypt", 1, 1, Fault::Refuse(400, "DisabledException"));
    let answer = site.get(&server, "k");
    assert!(answer.status == 200 && answer.body == bytes, "{answer:?}");
    drop(server);
    // By the class's own key alone, too.
    let server = serve(&site, &double);
    assert!(site.get(&server, "k").body == bytes);
}
