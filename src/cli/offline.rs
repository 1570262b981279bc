//! `seal` and `open`: the same format without a server, streaming.

use std::{fmt::Display, sync::Arc};

use tokio::runtime::Runtime;

use super::{
    Failure,
    args::{OpenArgs, SealArgs, UnderArgs},
    output::{Input, Output},
    progress, run,
};
use crate::{
    app,
    config::Class,
    keys::{
        KeyFailure, KeyProvider,
        local::{COMMAND_BLOCK, Keyring},
    },
    message::{
        Caps, DEFAULT_FRAME_LENGTH, Draft, EncryptionContext, FRAME_OVERHEAD, FrameWriter, Header, MessageId, Opener,
        Sealer, StreamOpener,
    },
    metrics::Metrics,
    objects::{ObjectKey, check_bound, context_of},
    secret::Key256,
};

/// Read at a time, in bytes.
const PIECE: usize = 1 << 20;

/// Under what a message is sealed or opened.
struct Under {
    runtime: Runtime,
    keys: Arc<dyn KeyProvider>,
    /// The object that it is, where that is said.
    object: Option<(Class, ObjectKey)>,
}

/// Seals the input to the output.
pub(super) fn seal(args: &SealArgs) -> Result<(), Failure> {
    let under = Under::new(&args.under)?;
    let mut input = Input::open(args.input.as_deref())?;
    let context = match &under.object {
        Some((class, key)) => context_of(class, key),
        None => EncryptionContext::new(args.context.iter().cloned()),
    };
    let context = context.map_err(Failure::input)?;
    let fresh = under.runtime.block_on(under.keys.generate(&context)).map_err(Failure::new)?;
    // The id is drawn after the data key is fixed.
    let (id, frame_length) = match &under.object {
        Some((class, key)) => (MessageId::bound(&class.vault, &class.name, key.as_str()), class.frame_length),
        None => (MessageId::unbound(), args.frame_length.unwrap_or(DEFAULT_FRAME_LENGTH)),
    };
    let draft = Draft { id: id.map_err(Failure::new)?, context, data_keys: fresh.encrypted, frame_length };
    let sealer = Sealer::new(draft, &fresh.key).map_err(Failure::input)?;

    let mut output = Output::open(args.output.as_deref())?;
    output.write(sealer.header().as_bytes())?;
    let mut writer = FrameWriter::new(sealer);
    writer.grant(u64::MAX);
    let frame = (frame_length + FRAME_OVERHEAD) as usize;
    let mut sealed = Vec::with_capacity(PIECE + 2 * frame);
    let mut piece = vec![0; PIECE];
    let bar = progress::bytes(input.length(), &output);
    loop {
        let filled = input.fill(&mut piece)?;
        bar.inc(filled as u64);
        writer.write(&mut sealed, &piece[..filled]).map_err(Failure::new)?;
        // Whole frames may go; what is behind them is plaintext still.
        let whole = sealed.len() / frame * frame;
        output.write(&sealed[..whole])?;
        sealed.drain(..whole);
        if filled < piece.len() {
            break;
        }
    }
    writer.finish(&mut sealed).map_err(Failure::new)?;
    bar.finish_and_clear();
    output.write(&sealed)?;
    output.finish()
}

/// Opens the input to the output.
pub(super) fn open(args: &OpenArgs) -> Result<(), Failure> {
    let under = Under::new(&args.under)?;
    let mut input = Input::open(args.input.as_deref())?;
    let (header, rest) = read_header(&mut input)?;
    let name = input.name().to_owned();
    let fail = |what: &dyn Display| Failure::new(format!("{name}: {what}"));
    if let Some((class, key)) = &under.object {
        check_bound(class, key, &header).map_err(|damage| fail(&damage))?;
    }
    let key = under.unwrap(&header).map_err(|error| fail(&error))?;
    let mut stream = StreamOpener::new(Opener::new(header, &key).map_err(|damage| fail(&damage))?);
    let mut output = Output::open(args.output.as_deref())?;
    let mut plaintext = Vec::with_capacity(PIECE);
    stream.push(&rest, &mut plaintext).map_err(|damage| fail(&damage))?;
    let mut piece = vec![0; PIECE];
    let bar = progress::bytes(input.length(), &output);
    loop {
        let filled = input.fill(&mut piece)?;
        bar.inc(filled as u64);
        stream.push(&piece[..filled], &mut plaintext).map_err(|damage| fail(&damage))?;
        output.write(&plaintext)?;
        plaintext.clear();
        if filled < piece.len() {
            break;
        }
    }
    stream.finish().map_err(|damage| fail(&damage))?;
    bar.finish_and_clear();
    output.finish()
}

/// The header, and what was read beyond it.
pub(super) fn read_header(input: &mut Input) -> Result<(Header, Vec<u8>), Failure> {
    let caps = Caps::default();
    let mut bytes = Vec::new();
    loop {
        let fail = |what: &dyn Display| Failure::new(format!("{}: {what}", input.name()));
        if let Some(header) = Header::parse(&bytes, &caps).map_err(|damage| fail(&damage))? {
            let rest = bytes.split_off(header.len());
            return Ok((header, rest));
        }
        let mut piece = [0; 4096];
        let filled = input.fill(&mut piece)?;
        if filled == 0 {
            return Err(Failure::new(format!("{}: it ends inside its header", input.name())));
        }
        bytes.extend_from_slice(&piece[..filled]);
    }
}

impl Under {
    fn new(args: &UnderArgs) -> Result<Self, Failure> {
        let runtime = run::runtime()?;
        if let Some(path) = &args.keyring {
            let ring = Arc::new(Keyring::load(path, COMMAND_BLOCK)?);
            return Ok(Self { runtime, keys: Arc::new(ring.view(None, &[], None)?), object: None });
        }
        // clap has seen to it that all three are there.
        let (Some(path), Some(name), Some(key)) = (&args.config, &args.class, &args.key) else {
            return Err(Failure::input("name a --keyring, or --config with --class and --key"));
        };
        let config = runtime.block_on(app::Configuration::read(path))?.config;
        let class = config.class(name).cloned().ok_or_else(|| {
            let names: Vec<&str> = config.class_names().into_iter().collect();
            Failure::input(format!("the configuration has no class `{name}`; it has: {}", names.join(", ")))
        })?;
        let metrics = Metrics::new().map_err(Failure::new)?;
        let keys = runtime.block_on(app::keys_of(&config, &class, &metrics))?;
        let key = ObjectKey::new(key, &class.prefix).map_err(|fault| Failure::input(fault.words()))?;
        Ok(Self { runtime, keys, object: Some((class, key)) })
    }

    /// The first data key of `header` that is ours and opens.
    fn unwrap(&self, header: &Header) -> Result<Key256, KeyFailure> {
        let mut failure = KeyFailure::Refused("none of its data keys is wrapped under a key that may open here".into());
        for data_key in header.data_keys().iter().filter(|data_key| self.keys.recognise(data_key).is_some()) {
            match self.runtime.block_on(self.keys.unwrap(data_key, header.context())) {
                Ok(key) => return Ok(key),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}
