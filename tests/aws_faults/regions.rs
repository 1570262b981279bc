//! Keys of several regions: each is asked for where it lives.

use crate::{
    double::{ABROAD, Double, Fault, OURS, REPLICATED, World},
    site::{config, put},
    support::{Site, eventually, pattern},
};

#[test]
fn a_recipient_of_another_region_is_sealed_for_and_opens() {
    let site = Site::new();
    let double = Double::start(World::default());
    let bytes = pattern(300_000);
    let server = site.serve_among(&config(&format!("recipients = [\"{ABROAD}\"]"), ""), &double.environment());
    assert_eq!(put(&site, &server, "k", &bytes, &[]).status, 201);
    drop(server);
    let both = config(&format!("read_keys = [\"{OURS}\", \"{ABROAD}\"]"), "");
    let server = site.serve_among(&both, &double.environment());
    double.plan("Decrypt", 1, 1, Fault::Refuse(400, "DisabledException"));
    let answer = site.get(&server, "k");
    assert!(answer.status == 200 && answer.body == bytes, "{answer:?}");
}

/// What one region's replica has wrapped, the other's unwraps: in whichever order the
/// configuration lists them, and where it lists one alone.
#[test]
fn replicas_of_a_multi_region_key_are_one() {
    let site = Site::new();
    let [ireland, virginia] = ["eu-west-1", "us-east-1"].map(|region| format!("arn:aws:kms:{region}{REPLICATED}"));
    let bytes = pattern(300_000);
    for listed in [vec![&virginia], vec![&ireland], vec![&virginia, &ireland], vec![&ireland, &virginia]] {
        let double = Double::start(World::default());
        for (region, key) in [("us-east-1", &virginia), ("eu-west-1", &ireland)] {
            let mut environment = double.environment();
            environment
                .iter_mut()
                .filter(|(name, _)| *name == "AWS_REGION")
                .for_each(|(_, value)| *value = region.into());
            let keys = format!("read_keys = {listed:?}");
            let text = config(&keys, "").replace(&format!("kms_key = \"{OURS}\""), &format!("kms_key = \"{key}\""));
            let server = site.serve_among(&text, &environment);
            if region == "us-east-1" {
                assert_eq!(put(&site, &server, "k", &bytes, &[]).status, 201, "{listed:?}");
            }
            let answer = site.get(&server, "k");
            assert!(answer.status == 200 && answer.body == bytes, "{region} {listed:?}: {answer:?}\n{}", server.log());
        }
    }
}

#[test]
fn a_key_service_that_is_away_is_told_and_no_replica_is_taken_out() {
    let site = Site::new();
    let double = Double::start(World::default());
    let text = config("", "").replace("provider = \"kms\"\n", "provider = \"kms\"\nmax_messages = 1\n");
    let server = site.serve_among(&text, &double.environment());
    double.plan("GenerateDataKey", 1, 1 << 20, Fault::Reset);
    assert_eq!(put(&site, &server, "k", &pattern(10), &[]).status, 503);
    let ready = || site.curl_bare([format!("http://{}/readyz", server.admin)]);
    eventually("it is told", || ready().text().contains("the key service of class records doesn't answer"));
    assert_eq!(ready().status, 200);
    double.calm();
    eventually("it is used again", || put(&site, &server, "k", &pattern(10), &[]).status == 201);
    eventually("and it is told", || !ready().text().contains("doesn't answer"));
}
