//! A descriptor as rustls reads and writes it.

use std::io::{IoSlice, Read, Write};
use std::os::fd::BorrowedFd;

use crate::sys;

pub struct Raw<'a>(pub BorrowedFd<'a>);

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        sys::read(self.0, buffer)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        sys::send(self.0, bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice]) -> std::io::Result<usize> {
        let first = slices.iter().find(|slice| !slice.is_empty());
        first.map_or(Ok(0), |slice| self.write(slice))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
