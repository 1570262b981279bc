//! The manifests, as `kubectl kustomize` puts them together.

use std::{fs, process::Command};

use super::{program, refused, said, sources};
use crate::{
    standin::{installed, script},
    support::Site,
};

/// Each takes away what the manifests promise, and what is then said of it.
const SPOILT: [(&str, &str, &str); 10] = [
    ("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "file system can be written to"),
    ("169.254.0.0/16", "169.254.1.0/24", "169.254.169.254 can be reached"),
    ("cidr: 10.0.0.0/8", "cidr: 0.0.0.0/0", "203.0.113.7 can be reached by [443, 5432]"),
    ("cidr: 0.0.0.0/0", "cidr: 198.51.100.0/24", "203.0.113.7 can be reached by []"),
    ("terminationGracePeriodSeconds: 90", "terminationGracePeriodSeconds: 75", "in the midst of a drain"),
    ("minAvailable: 2", "minAvailable: 3", "no node can ever be drained"),
    ("on_unavailable = \"deny\"", "on_unavailable = \"spool\"", "a spool on a disk that goes with its pod"),
    ("serviceAccountName: sealward", "serviceAccountName: default", "the pod's account isn't there"),
    ("minReplicas: 3", "minReplica: 3", "'minReplica' was unexpected"),
    ("containerPort: 8443", "containerPort: 8444", "the listener has another port"),
];

fn rendered(folder: &str) -> String {
    said(program("kubectl").arg("kustomize").arg(sources("config/kubernetes").join(folder)))
}

/// `judge` with `manifests` to look at.
fn judge(site: &Site, manifests: &str) -> Command {
    let file = site.path("rendered.yaml");
    fs::write(&file, manifests).expect("writes");
    let mut judge = program(installed("running/bin/python"));
    judge.arg(script("manifests.py")).arg(file).arg(sources("src/metrics.rs"));
    judge
}

#[test]
fn the_manifests_are_what_kubernetes_takes_and_keep_what_they_promise() {
    let site = Site::new();
    let config = said(&mut judge(&site, &rendered("production")));
    let file = site.path("mounted.toml");
    fs::write(&file, config).expect("writes");
    let checked = said(site.command().args(["check", "--config"]).arg(file));
    assert!(checked.contains("reads well: 1 listener, 2 secrets, 1 class, 1 route"), "{checked}");
}

#[test]
fn manifests_that_break_a_promise_are_found_out() {
    let site = Site::new();
    let whole = rendered("production");
    for (promise, broken, words) in SPOILT {
        assert!(whole.contains(promise), "there is no `{promise}`");
        let found = refused(&mut judge(&site, &whole.replace(promise, broken)));
        assert!(found.contains(words), "{broken}: {found}");
    }
}

#[test]
fn the_prometheus_operator_gets_the_rules_that_are_tested() {
    let folder = sources("config/kubernetes/monitoring");
    let made = said(&mut program(folder.join("rules.sh")));
    assert!(made.contains("alert: SealwardDown"), "{made}");
    let there = fs::read_to_string(folder.join("prometheusrule.yaml")).expect("reads");
    assert!(there == made, "config/prometheus has changed: rules.sh makes prometheusrule.yaml anew");
}

#[test]
fn a_changed_configuration_is_another_rollout() {
    let site = Site::new();
    let copy = site.path("kubernetes");
    said(program("cp").arg("-r").arg(sources("config/kubernetes")).arg(&copy));
    let file = copy.join("production/sealward.toml");
    let config = fs::read_to_string(&file).expect("reads");
    fs::write(&file, config.replace("drain_timeout = \"60s\"", "drain_timeout = \"50s\"")).expect("writes");
    let name = |manifests: &str| {
        let name = manifests.lines().find_map(|line| line.trim().strip_prefix("name: sealward-config-"));
        name.expect("a ConfigMap").to_owned()
    };
    let changed = said(program("kubectl").arg("kustomize").arg(copy.join("production")));
    assert_ne!(name(&changed), name(&rendered("production")));
}
