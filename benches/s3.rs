//! What S3 and KMS cost: CPU of `store/s3` against the SDK's bare calls, memory of a
//! large upload on its way to a bucket, and calls to KMS for many small ones.
//!
//! `cargo bench --bench s3`. S3 and KMS are the double of `tests/aws_faults`, in memory
//! and in a process of its own, so that its work is not counted. Linux alone: CPU time
//! is what `/proc` says of every thread. Needs 2 GiB of memory.

#![allow(clippy::print_stdout)]
#![allow(dead_code)] // of the double, what plans faults

#[path = "../tests/aws_faults/acm.rs"]
mod acm;
#[path = "../tests/aws_faults/double.rs"]
mod double;
#[path = "../tests/aws_faults/kms.rs"]
mod kms;
#[path = "../tests/aws_faults/s3.rs"]
mod s3;
#[path = "../tests/aws_faults/site.rs"]
mod site;
#[allow(unreachable_pub)]
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::Instant,
};

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use sealward::{
    aws,
    message::{Draft, EncryptedDataKey, EncryptionContext, FrameWriter, MessageId, Sealer},
    metrics::Metrics,
    secret::Key256,
    store::{
        Attributes, Condition, Payload, Store as _, Target,
        s3::{S3Store, ServerSideEncryption, Settings, Sse},
    },
};
use tokio::task::JoinSet;

use double::{BUCKET, Double, OURS, World};
use support::Site;

const MIB: usize = 1 << 20;
/// The part that is measured, and how many make a round: 1 GiB.
const PART: usize = 16 * MIB;
const PARTS: usize = 64;
const ROUNDS: usize = 16;
/// Parts on their way at once, as `store/s3` has it.
const AT_ONCE: usize = 4;
const UPLOADS: usize = 10_000;

fn main() {
    let mode = std::env::args().nth(1).unwrap_or_default();
    let missed = match mode.as_str() {
        "sink" => return sink(),
        "cpu" => cpu(),
        _ => rows(),
    };
    // Whoever runs it for the figures alone still sees them all.
    std::process::exit(i32::from(missed));
}

/// A process that is S3 and KMS until its input ends; it prints its address.
fn sink() {
    let double = Double::start(World { unchecked: true, ..World::default() });
    println!(
        "{}",
        double.environment().into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    );
    let mut line = String::new();
    let mut input = BufReader::new(std::io::stdin());
    // Each line asks how often KMS issued a data key.
    while input.read_line(&mut line).is_ok_and(|read| read > 0) {
        println!("{}", double.calls("GenerateDataKey").0);
        double.world().objects.clear();
        line.clear();
    }
}

/// The other process, and what tells of it.
struct Sink {
    child: Child,
    environment: Vec<(&'static str, String)>,
    answers: BufReader<std::process::ChildStdout>,
}

impl Sink {
    fn start() -> Self {
        let mut child = ourselves("sink").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
        let mut answers = BufReader::new(child.stdout.take().expect("is piped"));
        let mut line = String::new();
        answers.read_line(&mut line).expect("its environment");
        let environment = line.split_whitespace().filter_map(|pair| pair.split_once('='));
        let environment = environment.map(|(name, value)| (&*name.to_owned().leak(), value.to_owned())).collect();
        Self { child, environment, answers }
    }

    /// Data keys issued so far; what was stored is forgotten.
    fn issued(&mut self) -> usize {
        use std::io::Write as _;
        self.child.stdin.as_mut().expect("is piped").write_all(b"\n").expect("is asked");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("answers");
        line.trim().parse().expect("a number")
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ourselves(mode: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("we run"));
    command.arg(mode);
    command
}

/// Whether a goal was missed.
fn rows() -> bool {
    let mut sink = Sink::start();
    let measured = ourselves("cpu").envs(sink.environment.iter().cloned()).status().expect("runs");
    let mut missed = !measured.success();
    sink.issued();

    let site = Site::new();
    println!("\n{:<46} {:>9} {:>9} {:>9}", "1 GiB up one connection, KMS and S3", "peak MiB", "goal", "MiB/s");
    for (budget, goal) in [("256MiB", 320), ("32MiB", 96)] {
        for version in ["--http1.1", "--http2"] {
            let limits = format!("[limits]\nbuffer_memory = \"{budget}\"\n");
            let server = site.serve_among(&site::config("", &limits), &sink.environment);
            let large = site.path("large");
            File::create(&large).and_then(|file| file.set_len(1 << 30)).expect("makes");
            let since = Instant::now();
            let answer = site.curl([version.as_ref(), "-T".as_ref(), large.as_os_str(), server.url("large").as_ref()]);
            assert!(matches!(answer.status, 200 | 201), "{answer:?}");
            let rate = 1024 * 1000 / since.elapsed().as_millis().max(1);
            let peak = server.peak();
            missed |= peak > goal;
            let mark = if peak > goal { "  missed" } else { "" };
            println!("{:<46} {peak:>9} {goal:>9} {rate:>9}{mark}", format!("budget {budget}, {version}"));
            drop(server);
            sink.issued();
        }
    }

    let before = {
        let server = site.serve_among(&site::config("", ""), &sink.environment);
        let before = sink.issued();
        let small = site.path("small");
        fs::write(&small, support::pattern(1000)).expect("writes");
        let mut list = String::new();
        for number in 0..UPLOADS {
            let url = server.url(&format!("small-{number}"));
            let _ = write!(list, "upload-file = \"{}\"\nurl = \"{url}\"\noutput = \"/dev/null\"\n", small.display());
        }
        fs::write(site.path("list"), list).expect("writes");
        let list = site.path("list");
        let answer =
            site.curl(["--max-time", "600", "--parallel", "--parallel-max", "16", "--config", &list.to_string_lossy()]);
        assert_eq!(answer.exit, 0, "{answer:?}");
        before
    };
    let calls = sink.issued() - before;
    let mark = if calls > 3 { "  missed" } else { "" };
    println!("\nGenerateDataKey for {UPLOADS} uploads of 1 kB of one class: {calls} (goal 3){mark}");
    missed || calls > 3
}

/// CPU of this process: the SDK's bare `UploadPart`, and `store/s3`, in turn.
fn cpu() -> bool {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    // On a worker, as uploads are.
    let measured = runtime.spawn(async {
        let config = aws::load(None).await.expect("a region");
        let client = sealward::store::s3::client(&config);
        let sse = Sse { kind: ServerSideEncryption::AwsKms, arn: OURS.into(), required: true };
        let settings = Settings { bucket: BUCKET.into(), sse: Some(sse), versions: false };
        let store = S3Store::new(&config, settings, Metrics::new().expect("metrics"));
        let part = Bytes::from(support::pattern(PART));
        // Connections, and code that was never run.
        bare(&client, &part, 4).await;
        ours(&store, &part, 4).await;
        sealing(&part, 4, true);
        let (mut theirs, mut own, mut checksum) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let begun = cpu_seconds();
            bare(&client, &part, PARTS).await;
            let middle = cpu_seconds();
            ours(&store, &part, PARTS).await;
            let end = cpu_seconds();
            sealing(&part, PARTS, false);
            let sealed = cpu_seconds();
            sealing(&part, PARTS, true);
            theirs.push(middle - begun);
            own.push(end - middle);
            checksum.push((cpu_seconds() - sealed) - (sealed - end));
        }
        let (theirs, own, checksum) = (median(theirs), median(own), median(checksum));
        let own = own + checksum;
        let ratio = own / theirs;
        let mark = if ratio > 1.3 { "  missed" } else { "" };
        println!("CPU-s for 1 GiB in parts of 16 MiB, median of {ROUNDS} rounds");
        println!("{:<46} {theirs:>9.3}", "the SDK's bare UploadPart, payload unsigned");
        println!("{:<46} {own:>9.3}", "store/s3, CRC64NVME and all");
        println!("{:<46} {checksum:>9.3}", "of that, CRC64NVME taken as frames are sealed");
        println!("{:<46} {ratio:>9.3}  (goal 1.3){mark}", "ratio");
        ratio > 1.3
    });
    runtime.block_on(measured).expect("measures")
}

async fn bare(client: &aws_sdk_s3::Client, part: &Bytes, parts: usize) {
    let begun = client
        .create_multipart_upload()
        .bucket(BUCKET)
        .key("bare")
        .checksum_algorithm(aws_sdk_s3::types::ChecksumAlgorithm::Crc64Nvme)
        .checksum_type(aws_sdk_s3::types::ChecksumType::FullObject)
        .send()
        .await
        .expect("begins");
    let id = begun.upload_id().expect("an id").to_owned();
    let mut sending = JoinSet::new();
    for number in 1..=parts {
        while sending.len() >= AT_ONCE {
            sending.join_next().await.expect("one").expect("ends");
        }
        let call = client
            .upload_part()
            .bucket(BUCKET)
            .key("bare")
            .upload_id(&id)
            .part_number(i32::try_from(number).expect("is small"))
            .body(ByteStream::from(part.clone()))
            .customize()
            .disable_payload_signing();
        sending.spawn(async move { call.send().await.map(drop).expect("lands") });
    }
    while let Some(landed) = sending.join_next().await {
        landed.expect("ends");
    }
    client.abort_multipart_upload().bucket(BUCKET).key("bare").upload_id(&id).send().await.expect("aborts");
}

async fn ours(store: &S3Store, part: &Bytes, parts: usize) {
    let target = Target {
        name: "ours".into(),
        attributes: Attributes::default(),
        condition: Condition::None,
        id: MessageId::from([7; 32]),
        length: Some((part.len() * parts) as u64),
        tells: false,
    };
    let mut upload = store.begin(target).await.expect("begins");
    for _ in 0..parts {
        // Taken as frames were sealed, which `sealing` measures.
        upload.part(Payload { bytes: part.clone(), crc64: Some(7) }).await.expect("is taken");
    }
    upload.abort().await;
}

/// Seals parts as an upload does, with or without the checksum of what was sealed.
fn sealing(part: &Bytes, parts: usize, summed: bool) {
    let draft = Draft {
        id: MessageId::from([7; 32]),
        context: EncryptionContext::default(),
        data_keys: vec![EncryptedDataKey { provider: vec![], info: vec![], ciphertext: vec![] }],
        frame_length: 65_536,
    };
    let sealer = Sealer::new(draft, &Key256::from_slice(&[7; 32]).expect("32 bytes")).expect("is valid");
    let mut writer = FrameWriter::new(sealer);
    let mut buffer = Vec::with_capacity(PART + PART / 1024);
    for _ in 0..parts {
        buffer.clear();
        writer.grant((PART / 65_536) as u64);
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
        for frame in part.chunks(65_536) {
            let before = buffer.len();
            writer.write(&mut buffer, frame).expect("is sealed");
            if summed {
                digest.update(&buffer[before..]);
            }
        }
        std::hint::black_box((&buffer, digest.finalize()));
    }
}

/// What every thread of this process has used, in seconds.
fn cpu_seconds() -> f64 {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux");
    let spent = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    spent.sum::<f64>() / 1e9
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
