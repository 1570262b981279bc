//! A class's KMS key is disabled, and enabled again. ministack judges that; moto would go on.

use serde_json::json;

use super::{Page, readiness, refused_for_now};
use crate::{
    standin::{ministack, under_kms},
    support::{Answer, Sealward, Site, eventually},
};

/// What a KMS that was asked shows at once: nothing is kept for later.
pub(crate) const UNCACHED: &str = "provider = \"kms\"\nkey_check = \"1s\"\nmax_messages = 1\nunwrapped_age = \"1s\"";

#[test]
fn a_disabled_key_refuses_what_isnt_cached_and_all_is_well_once_it_is_enabled() {
    let page = Page::open("key-disabled");
    let (aws, bucket, key) = (ministack(), ministack().bucket("drill-disabled"), ministack().key());
    let site = aws.site();
    let config = under_kms(&bucket, &key, "").replacen("provider = \"kms\"", UNCACHED, 1);
    let server = site.serve_text(&config);
    for name in ["report", "other"] {
        site.put(&server, name, b"before");
    }
    assert_eq!(readiness(&site, &server).status, 200);

    aws.does(json!({"do": "disable", "arn": key}));
    let (unusable, state) = (page.shows("the key can't be used"), page.shows("its state is Disabled"));
    server.wait_for_line(|line| line.contains(unusable) && line.contains(state));
    let seen = readiness(&site, &server);
    assert!(seen.status == 503 && seen.text().contains(&key) && seen.text().contains(state), "{seen:?}");
    assert!(server.metrics().contains(&format!("sealward_kms_key_usable{{key=\"{key}\"}} 0")), "{}", server.metrics());
    let wanted = page.shows("no data key can be had now; try again");
    assert_eq!(refused_for_now(&upload(&site, &server, "new")), wanted);
    eventually("what was cached has gone", || site.get(&server, "report").status == 503);
    assert_eq!(refused_for_now(&site.get(&server, "report")), wanted);
    let counted = page.shows("outcome=\"unusable\"");
    for operation in ["generate", "decrypt"] {
        let series = format!("sealward_kms_requests_total{{key=\"{key}\",operation=\"{operation}\",{counted}}}");
        assert!(server.metric(&series) > 0.0, "{operation}: {}", server.metrics());
    }
    assert_eq!(site.get(&server, "?list").status, 200);
    assert_eq!(site.curl(["-X", "DELETE", &server.url("other")]).status, 204);
    let log = site.try_serve(&config, &[]).err().expect("it must not start");
    assert!(log.contains(state) && log.contains(page.shows("enable it, or name another as `kms_key`")), "{log}");
    let check = page.run(&site, "sealward check --config sealward.toml --online");
    assert!(check.code == Some(2) && check.words.contains(state), "{}", check.words);

    aws.does(json!({"do": "enable", "arn": key}));
    let again = page.shows("the key can be used again");
    server.wait_for_line(|line| line.contains(again));
    assert_eq!(readiness(&site, &server).status, 200);
    assert_eq!(upload(&site, &server, "new").status, 201);
    assert_eq!(site.get(&server, "report").text(), "before");
    let verified = page.does(&site, "sealward verify --config sealward.toml --class records");
    assert!(verified.contains("2 whole, 0 skipped, 0 failed"), "{verified}");
    page.finished();
}

fn upload(site: &Site, server: &Sealward, name: &str) -> Answer {
    site.curl(["-X", "PUT", "-d", "after", &server.url(name)])
}
