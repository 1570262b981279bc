//! What is counted, and under which names.

use crate::{
    client::{BOTH, upload},
    support::{Sealward, Site, eventually, pattern},
};

#[track_caller]
fn is(server: &Sealward, series: &str, expected: u32) {
    assert!(server.metrics().lines().any(|line| line.starts_with(series)), "{series} is not there");
    let value = server.metric(series);
    assert!((value - f64::from(expected)).abs() < 1e-9, "{series} is {value}, not {expected}");
}

#[test]
fn one_upload_and_one_download_are_counted() {
    let site = Site::new();
    let server = site.serve("canary = \"off\"", "");
    let bytes = pattern(300_000);
    let receipt = site.put(&server, "secret-name", &bytes).json();
    assert!(site.get(&server, "secret-name").body == bytes);
    let key = receipt["key_id"].as_str().expect("a key");
    for (series, value) in [
        (format!("sealward_data_keys_issued_total{{key=\"{key}\"}}"), 1),
        (format!("sealward_data_key_uses_total{{key=\"{key}\",use=\"seal\"}}"), 1),
        (format!("sealward_data_key_uses_total{{key=\"{key}\",use=\"open\"}}"), 1),
        (format!("sealward_sealed_bytes_total{{class=\"records\",key=\"{key}\"}}"), 300_000),
        (format!("sealward_opened_bytes_total{{class=\"records\",key=\"{key}\"}}"), 300_000),
        ("sealward_uploads_total{class=\"records\",outcome=\"ok\"}".into(), 1),
        ("sealward_downloads_total{class=\"records\",outcome=\"ok\"}".into(), 1),
        ("sealward_upload_duration_seconds_count{class=\"records\"}".into(), 1),
        ("sealward_uploads_in_flight".into(), 0),
        ("sealward_buffer_memory_bytes{state=\"total\"}".into(), 256 << 20),
        ("sealward_http_requests_total{method=\"PUT\",route=\"/files/\",status=\"201\"}".into(), 1),
        ("sealward_http_requests_total{method=\"GET\",route=\"/files/\",status=\"200\"}".into(), 1),
        ("sealward_http_request_duration_seconds_count{method=\"GET\",route=\"/files/\"}".into(), 1),
    ] {
        is(&server, &series, value);
    }
    let text = server.metrics();
    for family in [
        "sealward_data_key_cache_requests_total{result=",
        "sealward_tamper_total{reason=\"frame\"} 0",
        "sealward_store_request_duration_seconds_count{operation=",
        "sealward_buffer_memory_bytes{state=\"used\"}",
        "sealward_tls_handshakes_total{group=",
        "sealward_tls_handshake_duration_seconds_count",
        "sealward_certificate_expiry_timestamp_seconds{name=",
        "sealward_build_info{version=",
        "process_resident_memory_bytes",
    ] {
        assert!(text.contains(family), "{family} is not there:\n{text}");
    }
    // Labels are bounded: neither names of objects nor paths of this machine.
    assert!(!text.contains("secret-name"));
    assert!(!text.contains(&site.folder.path().display().to_string()));
}

#[test]
fn every_way_to_read_bytes_is_one_download() {
    let site = Site::new();
    let server = site.serve("canary = \"off\"\nframe_length = \"4KiB\"", "");
    site.put(&server, "a", &pattern(10_000));
    let mut downloads = 0;
    for version in BOTH {
        // The last comes out of the final frame, which proves the length of a cold one.
        for range in ["0-9999", "0-0", "4000-5000", "9990-"] {
            let part = site.curl([version, "-r", range, &server.url("a")]);
            assert_eq!(part.status, 206);
            downloads += 1;
            is(&server, "sealward_downloads_total{class=\"records\",outcome=\"ok\"}", downloads);
        }
        site.put(&server, "a", &pattern(10_000));
        let tail = site.curl([version, "-r", "-7", &server.url("a")]);
        assert_eq!(tail.body, &pattern(10_000)[9993..]);
        downloads += 1;
        is(&server, "sealward_downloads_total{class=\"records\",outcome=\"ok\"}", downloads);
    }
}

#[test]
fn what_fails_is_counted_as_what_it_is() {
    let site = Site::new();
    let server = site.serve("canary = \"off\"\nmax_size = \"1KiB\"", "");
    assert_eq!(upload(&site, &server, "a", b"x", &["-H", "Content-MD5: 1B2M2Y8AsgTpgAmY7PhCfg=="]).status, 400);
    assert_eq!(upload(&site, &server, "a", &pattern(2000), &[]).status, 413);
    assert_eq!(upload(&site, &server, "a", b"x", &["-H", "If-Match: *"]).status, 412);
    assert_eq!(site.get(&server, "a").status, 404);
    assert_eq!(site.curl_bare([server.url("a")]).status, 401);
    assert_eq!(site.curl(["-X", "BREW", &server.url("a")]).status, 405);
    assert_eq!(site.curl([format!("https://{}/elsewhere/secret", server.https)]).status, 404);
    for (series, value) in [
        ("sealward_uploads_total{class=\"records\",outcome=\"client\"}", 1),
        ("sealward_uploads_total{class=\"records\",outcome=\"too_large\"}", 1),
        ("sealward_uploads_total{class=\"records\",outcome=\"refused\"}", 1),
        ("sealward_downloads_total{class=\"records\",outcome=\"refused\"}", 1),
        ("sealward_http_requests_total{method=\"GET\",route=\"/files/\",status=\"401\"}", 1),
        ("sealward_http_requests_total{method=\"OTHER\",route=\"/files/\",status=\"405\"}", 1),
        ("sealward_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"}", 1),
    ] {
        is(&server, series, value);
    }
    assert!(!server.metrics().contains("secret"));
}

/// A warm range asks nobody: what was derived from an unwrapped key is remembered,
/// and no longer than the key itself may be.
#[test]
fn what_is_remembered_of_an_object_lives_no_longer_than_its_key() {
    let site = Site::new();
    let text = Site::config("canary = \"off\"", "");
    let server = site.serve_text(&text.replace("keyring =", "unwrapped_age = \"2s\"\nkeyring ="));
    site.put(&server, "a", &pattern(100_000));
    let unwraps = || server.metric("sealward_data_key_cache_requests_total{result=\"unwrap_miss\"}");
    let read = || assert_eq!(site.curl(["-r", "7-9", &server.url("a")]).status, 206);
    read();
    let first = unwraps();
    eventually("its age ends, and the key is asked for again", || {
        read();
        unwraps() > first
    });
}
