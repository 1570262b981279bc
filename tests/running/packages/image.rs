//! The image, whose last stage needs no other: built by buildah out of the binary at hand, and run.

use std::{fs, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Serving, binary, is_root, program, ran, refused, said, serves, sources};
use crate::{
    standin::installed,
    support::{Site, eventually},
};

/// What it runs as.
const NOBODY: &str = "65532:65532";
/// Every file of a container but what the runtime puts there and what sealward may write to.
const FILES: &str = r#"
cd "$("$@")"
find . -xdev \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./run -o -path ./var/lib/sealward \) -prune \
    -o -printf '%M %U:%G %s %T@ %p\n'
"#;

/// buildah with a storage of its own, which is gone with it.
struct Buildah {
    storage: TempDir,
}

impl Buildah {
    fn new() -> Self {
        Self { storage: tempfile::tempdir().expect("a folder") }
    }

    /// Layers as plain folders need nothing of the kernel; without a runtime a `chroot` does.
    fn command(&self) -> Command {
        let mut buildah = program("buildah");
        buildah.args(["--storage-driver", "vfs", "--root"]).arg(self.storage.path().join("root"));
        buildah.arg("--runroot").arg(self.storage.path().join("run"));
        buildah
    }

    fn does(&self, args: &[&str]) -> String {
        said(self.command().args(args)).trim().to_owned()
    }

    /// A command within the container.
    fn run(&self, container: &str, args: &[&str]) -> Command {
        let mut command = self.command();
        command.args(["run", "--isolation", "chroot", container, "--"]).args(args);
        command
    }

    /// `script`, whose arguments are a command that prints where the container's files are.
    fn looks(&self, container: &str, script: &str) -> String {
        let mount = self.command();
        let mut shell = if is_root() {
            program("sh")
        } else {
            let mut shell = self.command();
            shell.args(["unshare", "sh"]);
            shell
        };
        said(
            shell.args(["-c", script, "sh"]).arg(mount.get_program()).args(mount.get_args()).args(["mount", container]),
        )
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        // Files of users that are only there in a namespace of users.
        if !is_root() {
            let _ = self.command().args(["unshare", "rm", "-rf"]).arg(self.storage.path().join("root")).status();
        }
    }
}

#[test]
fn the_image_serves_as_nobody_writes_nothing_and_knows_how_it_is() {
    let (buildah, laid) = (Buildah::new(), tempfile::tempdir().expect("a folder"));
    said(program(sources("docker/rootfs.sh")).arg(binary()).arg(laid.path()));
    let context = laid.path().to_str().expect("is text");
    let dockerfile = sources("docker/Dockerfile");
    let build = ["build", "--isolation", "chroot", "--format", "docker", "--quiet", "--tag", "sealward"];
    let stage = ["--build-context".to_owned(), format!("build={context}")];
    said(buildah.command().args(build).args(stage).arg("--file").arg(dockerfile).arg(context));

    let inspected: Value =
        serde_json::from_str(&buildah.does(&["inspect", "--type", "image", "sealward"])).expect("JSON");
    let config = &inspected["Docker"]["config"];
    assert_eq!(config["User"], NOBODY);
    assert_eq!(config["StopSignal"], "SIGTERM");
    assert_eq!(config["Healthcheck"]["Test"], json!(["CMD", "/usr/local/bin/sealward", "health"]));
    let start: Vec<&str> = [&config["Entrypoint"], &config["Cmd"]]
        .into_iter()
        .flat_map(|part| part.as_array().expect("words"))
        .map(|word| word.as_str().expect("a word"))
        .collect();

    // What an operator mounts.
    let site = Site::new();
    let text = Site::config("", "")
        .replace("\"keyring.json\"", "\"/var/lib/sealward/keyring.json\"")
        .replace("\"tokens.json\"", "\"/var/lib/sealward/tokens.json\"")
        .replace("\"objects\"", "\"/var/lib/sealward/objects\"");
    fs::write(site.path("sealward.toml"), text).expect("writes");
    let container = buildah.does(&["from", "sealward"]);
    for (from, to) in [
        ("sealward.toml", "/etc/sealward/sealward.toml"),
        ("tls", "/etc/sealward/tls"),
        ("keyring.json", "/var/lib/sealward/keyring.json"),
        ("tokens.json", "/var/lib/sealward/tokens.json"),
        ("tokens.json.key", "/var/lib/sealward/tokens.json.key"),
    ] {
        let from = site.path(from);
        buildah.does(&["copy", "--quiet", "--chown", NOBODY, &container, from.to_str().expect("is text"), to]);
    }

    // The first run puts places into it where the runtime mounts its own.
    let version = said(&mut buildah.run(&container, &["/usr/local/bin/sealward", "--version"]));
    assert_eq!(version.trim(), concat!("sealward ", env!("CARGO_PKG_VERSION")));
    let before = buildah.looks(&container, FILES);
    assert!(before.contains("./usr/local/bin/sealward"), "{before}");
    for line in before.lines().filter(|line| !line.contains(" ./etc/sealward/")) {
        assert!(line.contains(" 0:0 "), "what isn't root's may be changed: {line}");
        assert_ne!(line.as_bytes()[8], b'w', "anybody may change it: {line}");
        assert!(!line.ends_with("/sh") && !line.ends_with("/bash"), "a shell: {line}");
    }

    let server = Serving::start(&mut buildah.run(&container, &start));
    serves(&site, &server.url("object"));
    let admin = server.admin.to_string();
    let health = ["/usr/local/bin/sealward", "health", "--address", &admin];
    assert!(said(&mut buildah.run(&container, &health)).contains("\"ready\":true"));
    said(buildah.run(&container, &health).arg("--live"));
    drop(server);
    eventually("it is gone", || !ran(&mut buildah.run(&container, &health)).status.success());
    assert!(refused(&mut buildah.run(&container, &health)).contains("nobody answers"));
    assert_eq!(buildah.looks(&container, FILES), before, "it wrote to the image's own files");
}

#[test]
fn a_linter_of_dockerfiles_has_nothing_to_say() {
    let hadolint = installed("running/bin/hadolint");
    let found = ran(program(hadolint).arg("--no-color").arg(sources("docker/Dockerfile")));
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stdout));
}
