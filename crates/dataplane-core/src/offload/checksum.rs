//! The Internet checksum (RFC 1071), summed in 32-bit words of native byte order.

/// A partial sum. One's complement addition does not care for the byte order as long as it stays
/// the same, so words are swapped once, at the end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    pub fn with(mut self, bytes: &[u8]) -> Self {
        let mut lanes = [0u64; 4];
        let blocks = bytes.chunks_exact(16);
        let rest = blocks.remainder();
        for block in blocks {
            for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(4)) {
                *lane += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
            }
        }
        let pairs = rest.chunks_exact(2);
        let odd = pairs.remainder();
        for pair in pairs {
            self.0 += u64::from(u16::from_ne_bytes([pair[0], pair[1]]));
        }
        if let [last] = odd {
            self.0 += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        self.0 += lanes.iter().map(|lane| fold(*lane)).sum::<u64>();
        self
    }

    pub fn with_word(mut self, word: u16) -> Self {
        self.0 += u64::from(word.to_be());
        self
    }

    /// Folded to 16 bits, in network byte order, not complemented.
    pub fn folded(self) -> [u8; 2] {
        (fold(self.0) as u16).to_ne_bytes()
    }

    /// What a checksum field holds.
    pub fn complement(self) -> [u8; 2] {
        (!(fold(self.0) as u16)).to_ne_bytes()
    }

    /// Whether data with a right checksum in it was summed.
    pub fn is_right(self) -> bool {
        fold(self.0) == 0xffff
    }
}

fn fold(mut sum: u64) -> u64 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071, section 4.1, word by word.
    fn plainly(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let sum = Sum::default().with(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.folded(), [0xdd, 0xf2]);
        assert_eq!(sum.complement(), [0x22, 0x0d]);
    }

    proptest! {
        #[test]
        fn it_equals_the_plain_sum(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(Sum::default().with(&bytes).folded(), plainly(&bytes).to_be_bytes());
        }
    }
}
