//! A store that goes away while serving: not ready, and ready again when it is back.

use std::fs;

use crate::{
    clients::admin_status,
    support::{Site, eventually},
};

#[test]
fn a_store_that_goes_away_is_not_ready_until_it_is_back() {
    let site = Site::new();
    let server = site.serve("", "");
    site.put(&server, "kept", b"sealed before it went");
    let ready = || admin_status(server.admin, "/readyz");
    assert_eq!(ready(), 200);
    let elsewhere = site.path("elsewhere");
    fs::rename(site.objects(), &elsewhere).expect("moves");
    eventually("the probe finds it gone", || ready() == 503);
    let body = site.curl_bare([format!("http://{}/readyz", server.admin)]);
    assert!(body.text().contains("the store of class records doesn't answer"), "{body:?}");
    assert_eq!(admin_status(server.admin, "/healthz"), 200, "a restart wouldn't mend it");
    fs::rename(&elsewhere, site.objects()).expect("moves");
    eventually("the probe finds it back", || ready() == 200);
    assert_eq!(site.get(&server, "kept").body, b"sealed before it went");
}
