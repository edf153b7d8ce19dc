//! Bytes as text that people copy: base32 in lower case without look-alikes, and a checksum.
//!
//! The alphabet is Crockford's: no `i`, `l`, `o` and `u`. There is one spelling for each value, so that
//! two texts are equal exactly if what they stand for is.

/// The digits, by value.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Bits of one digit.
const BITS: u32 = 5;

/// Writes bytes, the first bit first; the last digit is filled up with zeros.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity((bytes.len() * 8).div_ceil(BITS as usize));
    let (mut held, mut count) = (0_u32, 0);
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        count += 8;
        while count >= BITS {
            count -= BITS;
            text.push(digit(held >> count));
        }
        held &= (1 << count) - 1;
    }
    if count > 0 {
        text.push(digit(held << (BITS - count)));
    }
    text
}

/// Reads exactly `N` bytes; `None` for every text that [`encode`] does not make of `N` bytes.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != (N * 8).div_ceil(BITS as usize) {
        return None;
    }
    let mut bytes = [0; N];
    let mut to = bytes.iter_mut();
    let (mut held, mut count) = (0_u32, 0);
    for character in text.bytes() {
        let value = DIGITS.iter().position(|digit| *digit == character)?;
        held = (held << BITS) | u32::try_from(value).ok()?;
        count += BITS;
        if count >= 8 {
            count -= 8;
            *to.next()? = (held >> count) as u8;
        }
        held &= (1 << count) - 1;
    }
    // What fills the last digit up is zero.
    (held == 0).then_some(bytes)
}

fn digit(value: u32) -> char {
    DIGITS.get(value as usize & 31).copied().map_or('0', char::from)
}

/// Seven digits over a text: its CRC-32 (IEEE 802.3). It notices every change within four neighbouring
/// characters, and any other but for one in four billion. It keeps no secret and proves nothing.
pub fn checksum(text: &str) -> String {
    let mut crc = u32::MAX;
    for byte in text.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    encode(&(!crc).to_be_bytes())
}

/// Length of a [`checksum`].
pub const CHECKSUM_LEN: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_one_spelling() {
        for bytes in [[0; 5], [0xff; 5], [1, 2, 3, 4, 5], [0x80, 0, 0, 0, 1]] {
            let text = encode(&bytes);
            assert_eq!((text.len(), decode(&text)), (8, Some(bytes)), "{text}");
        }
        assert_eq!(encode(&[0xff]), "zw");
        assert_eq!(decode::<1>("zw"), Some([0xff]));
        // Bits that stand for nothing, look-alikes, capitals, other lengths.
        for wrong in ["zx", "zz", "oo", "il", "ZW", "z", "zw0", "", "é"] {
            assert_eq!(decode::<1>(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_checksum_is_the_well_known_one() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(checksum("123456789"), encode(&0xcbf4_3926_u32.to_be_bytes()));
        assert_eq!(checksum("").len(), CHECKSUM_LEN);
    }
}
