//! Bounds of decompression, bombs, and every codec both ways.

use std::io::Write;

use super::*;

const CODECS: [CompressionType; 4] =
    [CompressionType::Gzip, CompressionType::Snappy, CompressionType::Lz4, CompressionType::Zstd];

const SMALL: DecompressLimits = DecompressLimits {
    output_bytes_max: 1024 * 1024,
    ratio_max: usize::MAX,
    ratio_free_bytes: 0,
    zstd_window_log_max: 23,
};

fn compressed(codec: CompressionType, bytes: &[u8]) -> Vec<u8> {
    let mut target = BytesMut::new();
    compress(codec, Level::default(), bytes, &mut target).unwrap();
    target.to_vec()
}

#[test]
fn output_up_to_the_limit_passes_and_one_byte_more_does_not() {
    for codec in CODECS {
        let exact = compressed(codec, &vec![0; SMALL.output_bytes_max]);
        assert_eq!(decompress(codec, &exact, &SMALL).unwrap().len(), SMALL.output_bytes_max);
        let over = compressed(codec, &vec![0; SMALL.output_bytes_max + 1]);
        let refused = decompress(codec, &over, &SMALL);
        assert!(matches!(refused, Err(BatchError::Expansion { .. })), "{codec}: {refused:?}");
    }
}

#[test]
fn a_ratio_beyond_the_limit_is_refused_only_above_the_free_size() {
    let limits = DecompressLimits { ratio_max: 10, ratio_free_bytes: 100_000, ..SMALL };
    for codec in CODECS {
        let free = compressed(codec, &vec![0; 100_000]);
        assert!(decompress(codec, &free, &limits).is_ok(), "{codec}");
        let dense = compressed(codec, &vec![0; 1_000_000]);
        assert!(dense.len() * 10 < 1_000_000);
        assert!(
            matches!(decompress(codec, &dense, &limits), Err(BatchError::Expansion { .. })),
            "{codec}"
        );
    }
}

#[test]
fn a_bomb_makes_no_more_than_its_limit() {
    // 64 MiB of zeros from some tens of kilobytes: the buffer must end near one MiB.
    for codec in CODECS {
        let bomb = compressed(codec, &vec![0; 64 * 1024 * 1024]);
        let mut output = Output { codec, bytes: Vec::new(), bytes_max: SMALL.output_bytes_max };
        let result = match codec {
            CompressionType::Gzip => {
                output.read_all(&mut flate2::bufread::GzDecoder::new(&bomb[..]))
            }
            CompressionType::Snappy => snappy::decompress(&bomb, &mut output).map(drop),
            CompressionType::Lz4 => decompress_lz4(&bomb, &mut output).map(drop),
            _ => output.read_all(&mut zstd::Decoder::with_buffer(&bomb[..]).unwrap()),
        };
        assert!(matches!(result, Err(BatchError::Expansion { .. })), "{codec}");
        assert!(output.bytes.capacity() <= 2 * SMALL.output_bytes_max + CHUNK_BYTES, "{codec}");
    }
}

#[test]
fn a_snappy_block_that_declares_gigabytes_allocates_nothing() {
    let declares_2_gib = [0xff, 0xff, 0xff, 0xff, 0x07, 0, 0];
    let wide =
        DecompressLimits { output_bytes_max: usize::MAX, ratio_free_bytes: usize::MAX, ..SMALL };
    let refused = decompress(CompressionType::Snappy, &declares_2_gib, &wide);
    assert!(matches!(refused, Err(BatchError::Compressed { .. })), "{refused:?}");
}

#[test]
fn xerial_chunks_longer_than_the_stream_are_refused() {
    let good = compressed(CompressionType::Snappy, b"some records");
    for length in [-1_i32, i32::MAX, i32::MIN, 1000] {
        let mut framed = good.clone();
        framed[16..20].copy_from_slice(&length.to_be_bytes());
        assert!(decompress(CompressionType::Snappy, &framed, &SMALL).is_err(), "{length}");
    }
    assert!(decompress(CompressionType::Snappy, &good[..12], &SMALL).is_err());
    assert!(decompress(CompressionType::Snappy, &good[..18], &SMALL).is_err());
}

#[test]
fn many_empty_xerial_chunks_cost_nothing() {
    let mut framed = compressed(CompressionType::Snappy, b"");
    for _ in 0..200_000 {
        framed.extend([0, 0, 0, 1, 0]);
    }
    assert_eq!(decompress(CompressionType::Snappy, &framed, &SMALL), Ok(Vec::new()));
}

#[test]
fn raw_snappy_is_read_too() {
    let raw = snap::raw::Encoder::new().compress_vec(b"as librdkafka sends it").unwrap();
    assert_eq!(
        decompress(CompressionType::Snappy, &raw, &SMALL),
        Ok(b"as librdkafka sends it".to_vec())
    );
}

#[test]
fn a_zstd_window_beyond_the_limit_is_refused() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&[7; 1000]).unwrap();
    let stream = encoder.finish().unwrap();
    let refused = decompress(CompressionType::Zstd, &stream, &SMALL);
    assert!(matches!(refused, Err(BatchError::Compressed { .. })), "{refused:?}");
}

#[test]
fn legacy_lz4_frames_are_refused() {
    let legacy = [0x02, 0x21, 0x4c, 0x18, 0, 0, 0, 0];
    assert!(decompress(CompressionType::Lz4, &legacy, &SMALL).is_err());
}

#[test]
fn bytes_behind_the_stream_and_second_streams_are_refused() {
    for codec in [CompressionType::Gzip, CompressionType::Lz4, CompressionType::Zstd] {
        let one = compressed(codec, b"records");
        assert_eq!(decompress(codec, &one, &SMALL), Ok(b"records".to_vec()));
        let two = [&one[..], &one[..]].concat();
        assert!(decompress(codec, &two, &SMALL).is_err(), "{codec}");
        let trailing = [&one[..], b"x"].concat();
        assert!(decompress(codec, &trailing, &SMALL).is_err(), "{codec}");
    }
}

#[test]
fn a_stream_of_another_codec_is_refused() {
    for declared in CODECS {
        for actual in CODECS.iter().filter(|actual| **actual != declared) {
            let stream = compressed(*actual, b"records of a batch");
            assert!(decompress(declared, &stream, &SMALL).is_err(), "{declared} for {actual}");
        }
    }
}
