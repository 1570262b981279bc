//! The stack of docker/compose.yaml: what it is by its schema, and that its configuration serves
//! once its setup has run, on a stand-in for AWS and a PostgreSQL of this machine.

use std::{collections::BTreeSet, fs};

use super::{program, refused, said, serves, sources};
use crate::{
    servers::{DATABASE, Database, Postgres},
    standin::{environment, installed, moto},
    support::Site,
};

#[test]
fn the_stack_is_a_compose_file_of_services_pinned_to_a_version() {
    let stack = sources("docker/compose.yaml");
    let check = || {
        let mut check = program(installed("running/bin/check-jsonschema"));
        check.args(["--builtin-schema", "vendor.compose-spec"]);
        check
    };
    said(check().arg(&stack));
    let text = fs::read_to_string(&stack).expect("reads");
    let folder = tempfile::tempdir().expect("a folder");
    let wrong = folder.path().join("compose.yaml");
    fs::write(&wrong, text.replace("cap_drop: [ALL]", "cap_drops: [ALL]")).expect("writes");
    refused(check().arg(&wrong));

    let images: BTreeSet<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("image: ")).collect();
    assert_eq!(images.len(), 5, "{images:?}");
    for image in images.into_iter().filter(|image| *image != "sealward:local") {
        let tag = image.split_once(':').map_or("", |(_, tag)| tag).trim_start_matches('v');
        assert!(tag.split('.').count() >= 2 && tag.starts_with(|c: char| c.is_ascii_digit()), "{image} isn't pinned");
    }
    // What it mounts of the sources is there.
    let mounts = text.lines().filter_map(|line| line.trim().strip_prefix("- ."));
    let mounts: Vec<&str> = mounts.filter_map(|line| line.split(':').next()).collect();
    assert_eq!(mounts.len(), 5, "{mounts:?}");
    for mount in mounts {
        let path = sources("docker").join(format!(".{mount}"));
        assert!(path.exists(), "{} isn't there", path.display());
    }
}

#[test]
fn the_stack_serves_once_its_setup_has_run() {
    let (aws, database) = (moto(), Postgres::start());
    let site = aws.site();
    let folder = site.path("setup");
    let setup = || {
        let mut setup = program(installed("aws/bin/python"));
        setup.env_remove("AWS_PROFILE").env_remove("AWS_SESSION_TOKEN");
        setup.envs(environment()).env("AWS_ENDPOINT_URL", &aws.endpoint);
        setup.arg(sources("docker/compose/setup.py")).arg(&folder);
        setup
    };
    said(&mut setup());
    let made = |name: &str| fs::read_to_string(folder.join(name)).expect("was made");
    let password = made("sealward/database-password");
    assert_eq!(password, made("postgres/password"));
    assert_ne!(password, made("grafana/password"));
    // A second start of the stack finds everything.
    said(&mut setup());
    assert_eq!(password, made("sealward/database-password"));
    // Whoever is told `postgres` is shown a certificate for it.
    let verify = ["verify", "-purpose", "sslserver", "-verify_hostname", "postgres", "-CAfile"];
    said(program("openssl").args(verify).args([folder.join("sealward/ca.pem"), folder.join("postgres/cert.pem")]));

    database.create_user("sealward", &password);
    let config = fs::read_to_string(sources("docker/compose/sealward.toml")).expect("reads");
    let mut served = config.clone();
    for (there, here) in [
        // This one has a certificate of its own.
        ("/run/sealward/ca.pem", database.ca().display().to_string()),
        ("/run/sealward", folder.join("sealward").display().to_string()),
        ("postgres:5432/sealward", format!("localhost:{}/{DATABASE}", database.port())),
        ("0.0.0.0:8443", "127.0.0.1:0".to_owned()),
        ("0.0.0.0:9464", "127.0.0.1:0".to_owned()),
    ] {
        assert!(served.contains(there), "no {there} in\n{config}");
        served = served.replace(there, &here);
    }
    let server = site.serve_text(&served);
    let file = site.path("sealward.toml");
    let token = said(site.command().args(["token", "new", "ops", "--config"]).arg(&file));
    // The stack's own authority, and somebody who may call.
    fs::copy(folder.join("sealward/ca.pem"), site.path("tls/ca.pem")).expect("copies");
    let site = Site { token: token.trim().to_owned(), ..site };
    serves(&site, &server.url("object"));
    assert!(aws.objects("records").contains(&"object".to_owned()));
}
