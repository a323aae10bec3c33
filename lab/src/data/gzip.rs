//! Gzip as the `gzip` program reads it: one compressed member after another, then zeros.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

/// Decompresses all members of a gzip file. Skips zeros after the last member, which tapes and disks use to fill up a
/// block.
pub(super) struct Gunzip<R> {
    /// `None` after the last member.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Gunzip<R> {
    pub fn new(source: R) -> Self {
        Self {
            member: Some(GzDecoder::new(source)),
        }
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    /// Fails with [`io::ErrorKind::InvalidData`] if a member is followed by anything but zeros or another member.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.member {
            match member.read(buffer)? {
                0 => self.member = next_member(self.member.take().map(GzDecoder::into_inner))?,
                count => return Ok(count),
            }
        }
        Ok(0)
    }
}

fn next_member<R: BufRead>(source: Option<R>) -> io::Result<Option<GzDecoder<R>>> {
    let Some(mut source) = source else {
        return Ok(None);
    };
    if source.fill_buf()?.first() != Some(&0) {
        let more = !source.fill_buf()?.is_empty();
        return Ok(more.then(|| GzDecoder::new(source)));
    }
    loop {
        let zeros = source.fill_buf()?;
        if zeros.is_empty() {
            return Ok(None);
        }
        if zeros.iter().any(|&byte| byte != 0) {
            let error = "bytes other than zero follow the padding";
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        let count = zeros.len();
        source.consume(count);
    }
}
