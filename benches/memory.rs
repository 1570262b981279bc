//! Peak memory of the real server under large and many transfers: `VmHWM` of a
//! fresh process for each row, driven by curl over real sockets.
//!
//! `cargo bench --bench memory [-- SCALE] [ROWS]`: a SCALE of 4 moves a quarter of the
//! bytes, and ROWS is a part of the name of those to run, such as `"32 MiB, HTTP/2"`. Needs 4 GiB of room (over SCALE) in the folder for temporary files.

#![allow(clippy::print_stdout)]

#[allow(unreachable_pub)]
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    cell::Cell,
    fs::{self, File},
    process::{Child, Command, Stdio},
    time::Instant,
};

use support::{Sealward, Site};

const MIB: u64 = 1 << 20;
/// Transfers at once.
const MANY: usize = 64;
/// What a process may use beside its budget, in MiB.
const BESIDE: u64 = 64;

/// How curl is told to connect.
#[derive(Clone, Copy)]
enum Clients {
    Http1,
    Http2,
    /// All on one connection.
    Multiplexed,
}

fn main() {
    // cargo adds `--bench`; a number is by how much less is moved.
    let scale: u64 = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(1);
    let only = std::env::args().skip(1).find(|arg| arg.contains(['M', 'H'])).unwrap_or_default();
    println!("{:<46} {:>9} {:>9} {:>9}", "peak resident memory", "MiB", "goal", "MiB/s");
    if scale > 1 {
        println!("(of the bytes named below, 1/{scale} is moved)");
    }
    let mut missed = false;
    for budget in [256, 32] {
        for (name, clients) in
            [("HTTP/1.1", Clients::Http1), ("HTTP/2", Clients::Http2), ("HTTP/2, one connection", Clients::Multiplexed)]
        {
            if format!("{budget} MiB, {name}").contains(&only) {
                missed |= rows(budget, name, clients, scale);
            }
        }
    }
    std::process::exit(i32::from(missed));
}

/// Three rows; the objects go with their site. Whether a goal was missed.
fn rows(budget: u64, name: &str, clients: Clients, scale: u64) -> bool {
    let any = Cell::new(false);
    let site = Site::new();
    let limits = format!("[limits]\nbuffer_memory = \"{budget}MiB\"\nbuffer_wait = \"10m\"\n");
    let text = Site::config("", &limits).replace("level = \"debug\"", "level = \"info\"");
    let row = |what: &str, bytes: u64, work: &dyn Fn(&Sealward) -> usize| {
        let server = site.serve_text(&text);
        let since = Instant::now();
        let failed = work(&server);
        let rate = u128::from(bytes / MIB) * 1000 / since.elapsed().as_millis().max(1);
        let (peak, goal) = (server.peak(), budget + BESIDE);
        any.set(any.get() || peak > goal || failed > 0);
        let missed = if peak > goal { "  missed" } else { "" };
        let failed = if failed > 0 { format!("  {failed} curl failed") } else { String::new() };
        println!("{:<46} {peak:>9} {goal:>9} {rate:>9}{missed}{failed}", format!("{budget} MiB: {what}, {name}"));
    };
    if !matches!(clients, Clients::Multiplexed) {
        let large = sized(&site, "large", 1024 * MIB / scale);
        row("1 GiB up", 1024 * MIB / scale, &|server| {
            done(curl(&site, clients).arg("-T").arg(&large).arg(server.url("large")).spawn())
        });
        fs::remove_dir_all(site.objects()).expect("removes");
    }
    let each = 64 * MIB / scale;
    let file = sized(&site, "file", each);
    row("64 uploads of 64 MiB", each * MANY as u64, &|server| {
        transfers(&site, clients, |curl, number| {
            curl.arg("-T").arg(&file).arg(server.url(&number.to_string()));
        })
    });
    row("64 downloads of 64 MiB", each * MANY as u64, &|server| {
        transfers(&site, clients, |curl, number| {
            curl.args(["-o", "/dev/null"]).arg(server.url(&number.to_string()));
        })
    });
    any.get()
}

/// How many of many transfers at once failed, each a process of its own but for [`Clients::Multiplexed`].
fn transfers(site: &Site, clients: Clients, describe: impl Fn(&mut Command, usize)) -> usize {
    if matches!(clients, Clients::Multiplexed) {
        let mut one = curl(site, clients);
        one.args(["--parallel", "--parallel-max", "64"]);
        (0..MANY).for_each(|number| describe(&mut one, number));
        return done(one.spawn());
    }
    let running: Vec<_> = (0..MANY)
        .map(|number| {
            let mut one = curl(site, clients);
            describe(&mut one, number);
            one.spawn()
        })
        .collect();
    running.into_iter().map(done).sum()
}

fn curl(site: &Site, clients: Clients) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--disable", "--silent", "--show-error", "--no-progress-meter", "--fail", "--cacert"])
        .arg(site.path("tls/ca.pem"))
        .args(["-H", &format!("Authorization: Bearer {}", site.token)])
        .arg(if matches!(clients, Clients::Http1) { "--http1.1" } else { "--http2" })
        .stdout(Stdio::null());
    curl
}

/// 1 for a curl that failed.
fn done(child: std::io::Result<Child>) -> usize {
    usize::from(!child.expect("curl is there").wait().expect("ends").success())
}

/// A file of zeros that takes no room.
fn sized(site: &Site, name: &str, bytes: u64) -> std::path::PathBuf {
    let path = site.path(name);
    File::create(&path).and_then(|file| file.set_len(bytes)).expect("makes");
    path
}
