//! Bodies that cost little to send and would cost much to take.

use std::sync::Arc;

use flate2::{Compress, Compression, Crc, FlushCompress};

/// Unpacked bytes of a block of a bomb.
const BLOCK: usize = 1 << 20;
/// Deep and wide bodies are this deep and wide, and once more so that they stay below the longest body that is taken.
const SIZES: [usize; 2] = [100_000, 20_000];

/// A body, and how it is told to be packed.
#[derive(Clone)]
pub(super) struct Payload {
    pub(super) body: Arc<[u8]>,
    pub(super) is_gzip: bool,
}

/// All of them, made before anything is measured.
pub(super) struct Payloads {
    pub(super) bombs: Vec<Payload>,
    pub(super) documents: Vec<Payload>,
}

impl Payloads {
    pub(super) fn new() -> Self {
        let bombs = [1_024, 200, 16].map(|blocks| Payload { body: bomb(blocks).into(), is_gzip: true });
        let mut documents = Vec::new();
        for size in SIZES {
            let keys: Vec<String> = (0..size).map(|key| format!("\"k{key}\":0")).collect();
            let same: Vec<&str> = (0..size).map(|_| "\"url\":1").collect();
            let (list, map) = ("[".repeat(size), "{\"a\":".repeat(size));
            documents.extend([
                format!("{list}{}", "]".repeat(size)),
                format!("{{\"url\":{list}{}}}", "]".repeat(size)),
                format!("{{\"influencerIds\":{list}"),
                format!("{map}0{}", "}".repeat(size)),
                format!("{{{}}}", keys.join(",")),
                format!("{{{}}}", same.join(",")),
                format!("{{\"url\":{}}}", "9".repeat(2 * size)),
                format!("{{\"url\":1e{}}}", "9".repeat(size)),
                format!("{{\"influencerIds\":[{}]}}", vec!["\"a\""; size].join(",")),
                format!("{{\"email\":\"{}\",\"password\":1}}", "\\u0000".repeat(size / 3)),
            ]);
        }
        let documents = documents
            .into_iter()
            .map(|text| Payload { body: text.into_bytes().into(), is_gzip: false })
            .collect();
        Self { bombs: bombs.into(), documents }
    }
}

/// A gzip file that unpacks to so many blocks of spaces, which JSON may begin with. Each block is packed on its own, so
/// that one is packed and the others are copies.
fn bomb(blocks: usize) -> Vec<u8> {
    let spaces = vec![b' '; BLOCK];
    let mut block = Vec::with_capacity(64 * 1024);
    // To memory that is large enough, this does not fail; a bomb that is none would show in its answers.
    let _ = Compress::new(Compression::best(), false).compress_vec(&spaces, &mut block, FlushCompress::Full);
    let mut crc_of_block = Crc::new();
    crc_of_block.update(&spaces);
    let mut crc = Crc::new();
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];
    for _ in 0..blocks {
        file.extend_from_slice(&block);
        crc.combine(&crc_of_block);
    }
    // The last block, empty.
    file.extend_from_slice(&[3, 0]);
    file.extend_from_slice(&crc.sum().to_le_bytes());
    file.extend_from_slice(&crc.amount().to_le_bytes());
    file
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_bomb_is_a_gzip_file() {
        let packed = bomb(3);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked.len(), 3 * BLOCK);
        assert!(packed.len() < 8 * 1_024, "{}", packed.len());
    }
}
