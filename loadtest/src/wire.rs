//! WebSocket frames, as cheap as a client that shares a machine with the server needs them: text frames in one piece, a mask
//! key of zero (a mask protects proxies from browsers, not this test), one read buffer a thread.

use crate::limits::FRAME_BYTES_MAX;
use anyhow::{Result, bail, ensure};

/// Opcode of a text frame.
pub(crate) const TEXT: u8 = 1;
/// Opcode of a close frame.
pub(crate) const CLOSE: u8 = 8;
/// Opcode of a ping.
pub(crate) const PING: u8 = 9;

/// Which side writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Appends a frame.
pub(crate) fn write_frame(out: &mut Vec<u8>, side: Side, opcode: u8, payload: &[u8]) {
    let mask = if side == Side::Client { 0x80 } else { 0 };
    out.push(0x80 | opcode);
    match payload.len() {
        length @ 0..126 => out.push(mask | length as u8),
        length @ 126..=0xffff => {
            out.push(mask | 0x7e);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(mask | 0x7f);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    if side == Side::Client {
        out.extend_from_slice(&[0; 4]);
    }
    out.extend_from_slice(payload);
}

/// Takes frames out of a stream of bytes.
#[derive(Default)]
pub(crate) struct Frames {
    /// The beginning of a frame whose end has not come.
    partial: Vec<u8>,
}

impl Frames {
    /// Gives every whole frame to `each` as opcode and payload.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(u8, &[u8])) -> Result<()> {
        if self.partial.is_empty() {
            let used = take(bytes, &mut each)?;
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            self.partial.extend_from_slice(bytes);
            let partial = std::mem::take(&mut self.partial);
            let used = take(&partial, &mut each)?;
            self.partial.extend_from_slice(&partial[used..]);
        }
        Ok(())
    }
}

/// The whole frames at the start of `bytes`; how many bytes they are.
fn take(bytes: &[u8], each: &mut impl FnMut(u8, &[u8])) -> Result<usize> {
    let mut used = 0;
    loop {
        let rest = &bytes[used..];
        let (length, header) = match rest {
            [_, short, ..] if short & 0x7f < 126 => (usize::from(short & 0x7f), 2),
            [_, short, a, b, ..] if short & 0x7f == 126 => (usize::from(u16::from_be_bytes([*a, *b])), 4),
            [_, short, long @ ..] if short & 0x7f == 127 && long.len() >= 8 => {
                let mut length = [0; 8];
                length.copy_from_slice(&long[..8]);
                (usize::try_from(u64::from_be_bytes(length))?, 10)
            }
            _ => return Ok(used),
        };
        ensure!(length <= FRAME_BYTES_MAX, "a frame of {length} bytes");
        let masked = rest[1] & 0x80 != 0;
        let start = header + if masked { 4 } else { 0 };
        let Some(payload) = rest.get(start..start + length) else { return Ok(used) };
        if rest[0] & 0x80 == 0 {
            bail!("a frame in pieces");
        }
        let opcode = rest[0] & 0x0f;
        let key = &rest[header..start];
        if masked && key != [0; 4] {
            let plain: Vec<u8> = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
            each(opcode, &plain);
        } else {
            each(opcode, payload);
        }
        used += start + length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_however_the_stream_is_cut() {
        let payloads: Vec<Vec<u8>> =
            [0, 1, 125, 126, 1_000, 65_535, 65_536].iter().map(|&length| vec![b'x'; length]).collect();
        for side in [Side::Client, Side::Server] {
            let mut stream = Vec::new();
            for payload in &payloads {
                write_frame(&mut stream, side, TEXT, payload);
            }
            for step in [1, 2, 7, 100, 65_536, stream.len()] {
                let mut frames = Frames::default();
                let mut read = Vec::new();
                for piece in stream.chunks(step) {
                    frames.feed(piece, |opcode, payload| read.push((opcode, payload.to_vec()))).expect("frames");
                }
                let expected: Vec<_> = payloads.iter().map(|payload| (TEXT, payload.clone())).collect();
                assert!(read == expected, "cut every {step} bytes");
            }
        }
    }

    #[test]
    fn a_masked_frame_is_unmasked() {
        let stream = [0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2];
        let mut read = Vec::new();
        Frames::default().feed(&stream, |_, payload| read.extend_from_slice(payload)).expect("a frame");
        assert_eq!(read, b"hi");
    }

    #[test]
    fn a_frame_of_absurd_length_is_refused_before_it_is_gathered() {
        let stream = [0x81, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert!(Frames::default().feed(&stream, |_, _| {}).is_err());
    }
}
