//! An S3 and a KMS in memory, behind what `benches/peers` compares: as little CPU for each
//! request and byte as we know how to spend, because it shares its cores with what is measured.
//!
//! `sink CERT.pem KEY.pem` prints its addresses as one line of JSON, obeys the commands on its
//! input (`counts`, `reset`, `size KEY`, `clear PREFIX`), each of which is answered by a line of
//! JSON, and ends with it. It judges neither signatures nor checksums. Objects lie in the pieces
//! they came in, and go out in those.
//!
//! jemalloc gives unused memory back after a second; `_RJEM_MALLOC_CONF=dirty_decay_ms:-1` has
//! it kept, and spares the page faults of the next round.

#![allow(clippy::print_stdout)]

mod answers;
mod buckets;
mod counts;
mod doors;
mod kms;
mod objects;
mod parts;
mod pieces;
mod requests;
mod s3;

use std::io::BufRead as _;

use serde_json::{Value, json};
use tikv_jemallocator::Jemalloc;

use counts::Counts;
use doors::{Door, Workers};
use kms::Kms;
use objects::Objects;
use parts::Uploads;

/// As the product has it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Everything there is. It lives as long as the process.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) objects: Objects,
    pub(crate) uploads: Uploads,
    pub(crate) kms: Kms,
    pub(crate) counts: Counts,
}

fn main() {
    // cargo adds `--bench`, and runs every benchmark without a word of ours.
    let paths: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let [certificate, key] = &paths[..] else {
        println!("usage: sink CERT.pem KEY.pem");
        return;
    };
    let tls = doors::tls(certificate, key);
    // Where it can't be raised, what there is has to do.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let state: &'static State = Box::leak(Box::default());
    let workers = Workers::start(state);
    let addresses = json!({
        "s3": format!("http://127.0.0.1:{}", workers.open(&Door::S3)),
        "s3_tls": format!("https://localhost:{}", workers.open(&Door::S3Tls(tls))),
        "kms": format!("http://127.0.0.1:{}", workers.open(&Door::Kms)),
        "key": kms::ARN,
        "pid": std::process::id(),
    });
    println!("{addresses}");
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        println!("{}", obey(state, &line));
    }
}

fn obey(state: &State, line: &str) -> Value {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    match command {
        "counts" => {
            let mut told = state.counts.told();
            let (objects, bytes) = state.objects.held();
            told.insert("objects".into(), objects.into());
            told.insert("bytes".into(), bytes.into());
            told.into()
        }
        "reset" => {
            state.counts.reset();
            json!({})
        }
        "size" => json!({ "bytes": state.objects.find(rest).map(|object| object.body.length()) }),
        "clear" => {
            state.uploads.clear(rest);
            json!({ "objects": state.objects.clear(rest) })
        }
        _ => json!({ "error": "no such command" }),
    }
}
