//! The rules one by one, on a single replica whose log, metadata and peers the test plays.

mod rules {
    pub(crate) mod bench;

    mod follower;
    mod handshake;
    mod high_watermark;
    mod membership;
    mod replica;
}
