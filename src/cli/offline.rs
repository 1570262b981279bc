//! `seal` and `open`: the same format without a server, streaming.

use std::{fmt::Display, path::Path, sync::Arc};

use super::{
    Failure,
    args::{OpenArgs, SealArgs, UnderArgs},
    output::{Input, Output},
};
use crate::{
    app,
    config::{Class, Config, KeyProvider},
    keys::local::{COMMAND_BLOCK, Keyring, KeyringError, LocalKeys},
    message::{
        Caps, DEFAULT_FRAME_LENGTH, Draft, EncryptionContext, FRAME_OVERHEAD, FrameWriter, Header, MessageId, Opener,
        Sealer, StreamOpener,
    },
    objects::{ObjectKey, check_bound, context_of},
};

/// Read at a time, in bytes.
const PIECE: usize = 1 << 20;

/// Under what a message is sealed or opened.
struct Under {
    keys: LocalKeys,
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
    let fresh = under.keys.seal_key(&context).map_err(Failure::new)?;
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
    loop {
        let filled = input.fill(&mut piece)?;
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
    let key = under.keys.open_key(header.data_keys(), header.context()).map_err(|error| fail(&error))?;
    let mut stream = StreamOpener::new(Opener::new(header, &key).map_err(|damage| fail(&damage))?);
    let mut output = Output::open(args.output.as_deref())?;
    let mut plaintext = Vec::with_capacity(PIECE);
    stream.push(&rest, &mut plaintext).map_err(|damage| fail(&damage))?;
    let mut piece = vec![0; PIECE];
    loop {
        let filled = input.fill(&mut piece)?;
        stream.push(&piece[..filled], &mut plaintext).map_err(|damage| fail(&damage))?;
        output.write(&plaintext)?;
        plaintext.clear();
        if filled < piece.len() {
            break;
        }
    }
    stream.finish().map_err(|damage| fail(&damage))?;
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
        if let Some(path) = &args.keyring {
            return Ok(Self { keys: load(path)?.view(None, None)?, object: None });
        }
        // clap has seen to it that all three are there.
        let (Some(path), Some(name), Some(key)) = (&args.config, &args.class, &args.key) else {
            return Err(Failure::input("name a --keyring, or --config with --class and --key"));
        };
        let config = Config::load(path)?;
        let class = config.class(name).cloned().ok_or_else(|| {
            let names: Vec<&str> = config.class_names().into_iter().collect();
            Failure::input(format!("the configuration has no class `{name}`; it has: {}", names.join(", ")))
        })?;
        let Some(KeyProvider::Local { keyring }) = config.keys.map(|keys| keys.provider) else {
            return Err(Failure::input("the configuration has no [keys]"));
        };
        let keys = app::local_keys(&load(&keyring)?, &class)?;
        let key = ObjectKey::new(key, &class.prefix).map_err(|fault| Failure::input(fault.words()))?;
        Ok(Self { keys, object: Some((class, key)) })
    }
}

fn load(path: &Path) -> Result<Arc<Keyring>, KeyringError> {
    Keyring::load(path, COMMAND_BLOCK).map(Arc::new)
}
