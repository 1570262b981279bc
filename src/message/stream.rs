//! Opening a whole message in whatever pieces it comes, its length unknown.

use super::{
    Damage, FINAL_FRAME_OVERHEAD, FRAME_OVERHEAD, Opener,
    frame::{self},
    open::be32,
};
use crate::fault::Tamper;

/// Verifies frame after frame. The last verified regular frame is held back
/// until the next one verifies, so that a message that lost its end never looks
/// like a whole one to whoever reads the output. Holds at most two frames.
pub struct StreamOpener {
    opener: Opener,
    /// Sealed bytes of the frame that is coming in.
    pending: Vec<u8>,
    /// The plaintext held back.
    held: Vec<u8>,
    index: u64,
    plaintext: u64,
    done: bool,
    /// Damage was found: nothing that comes after it counts.
    over: bool,
}

impl StreamOpener {
    /// Begins after the header of `opener`'s message.
    pub fn new(opener: Opener) -> Self {
        Self { opener, pending: Vec::new(), held: Vec::new(), index: 0, plaintext: 0, done: false, over: false }
    }

    /// Takes the next sealed bytes; appends what is verified, and no longer held
    /// back, to `out`.
    ///
    /// # Errors
    /// [`Damage`]; the message is then over, and neither [`Self::push`] nor
    /// [`Self::finish`] succeeds again.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Damage> {
        if self.over {
            return Err(Damage::new(Tamper::Frame, "the message was found damaged before"));
        }
        let taken = self.take(bytes, out);
        self.over = taken.is_err();
        taken
    }

    fn take(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Damage> {
        while !bytes.is_empty() {
            if self.done {
                return Err(Damage::new(Tamper::Trailing, "bytes follow the final frame"));
            }
            let want = self.want()?;
            let (now, later) = bytes.split_at(bytes.len().min(want - self.pending.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
            // What is wanted may grow once more of the frame's head is there.
            if self.pending.len() == self.want()? {
                self.frame(out)?;
            }
        }
        Ok(())
    }

    /// Ends the message, and returns its plaintext's length in bytes.
    ///
    /// # Errors
    /// [`Damage`] when the final frame never came, or damage was found before.
    pub fn finish(self) -> Result<u64, Damage> {
        if self.over {
            Err(Damage::new(Tamper::Frame, "the message was found damaged before"))
        } else if self.done {
            Ok(self.plaintext)
        } else {
            Err(Damage::new(Tamper::Length, "the message ends before its final frame"))
        }
    }

    /// How many bytes the pending frame needs, as far as its head tells.
    fn want(&self) -> Result<usize, Damage> {
        let frame_length = self.opener.header().frame_length();
        if self.pending.len() < 4 {
            return Ok(4);
        }
        if be32(&self.pending) != frame::END {
            return Ok(frame_length as usize + FRAME_OVERHEAD as usize);
        }
        if self.pending.len() < frame::FINAL_HEAD {
            return Ok(frame::FINAL_HEAD);
        }
        let len = be32(&self.pending[frame::FINAL_HEAD - 4..]);
        if len > frame_length {
            return Err(Damage::new(Tamper::Frame, "the final frame claims more than a frame's length"));
        }
        Ok(len as usize + FINAL_FRAME_OVERHEAD as usize)
    }

    fn frame(&mut self, out: &mut Vec<u8>) -> Result<(), Damage> {
        let last = be32(&self.pending) == frame::END;
        let plaintext = if last {
            self.opener.open_final(self.index, &mut self.pending)?
        } else {
            self.opener.open_regular(self.index, &mut self.pending)?
        };
        out.append(&mut self.held);
        self.index += 1;
        self.plaintext += plaintext.len() as u64;
        if last {
            self.done = true;
            out.extend_from_slice(&self.pending[plaintext]);
        } else {
            self.held.extend_from_slice(&self.pending[plaintext]);
        }
        self.pending.clear();
        Ok(())
    }
}
