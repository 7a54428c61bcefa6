//! The table of targets, and what several of them need.

mod files;
mod frames;
mod grpc;
mod kafka;
mod log;
mod log_dir;
mod metadata;
mod raft;
mod records;
mod settings;

use crate::{Seeds, Target};

/// Everything there is to fuzz.
pub const TARGETS: &[Target] = &[
    // The Kafka protocol.
    Target { name: "kafka_request", run: kafka::request, seeds: kafka::request_seeds },
    Target { name: "kafka_response", run: kafka::response, seeds: kafka::response_seeds },
    Target { name: "kafka_frame", run: kafka::frame, seeds: kafka::frame_seeds },
    Target {
        name: "consumer_protocol",
        run: kafka::consumer_protocol,
        seeds: kafka::consumer_protocol_seeds,
    },
    // Record batches.
    Target { name: "batch", run: records::batch, seeds: records::batch_seeds },
    Target { name: "batches", run: records::batches, seeds: records::batches_seeds },
    Target { name: "decompress_gzip", run: records::gzip, seeds: records::gzip_seeds },
    Target { name: "decompress_snappy", run: records::snappy, seeds: records::snappy_seeds },
    Target { name: "decompress_lz4", run: records::lz4, seeds: records::lz4_seeds },
    Target { name: "decompress_zstd", run: records::zstd, seeds: records::zstd_seeds },
    // Small files, each by its own reader.
    Target { name: "storage_meta", run: files::storage_meta, seeds: files::storage_meta_seeds },
    Target {
        name: "partition_metadata",
        run: files::partition_metadata,
        seeds: files::partition_metadata_seeds,
    },
    Target {
        name: "epoch_checkpoint",
        run: files::epoch_checkpoint,
        seeds: files::epoch_checkpoint_seeds,
    },
    Target { name: "file_names", run: files::names, seeds: files::names_seeds },
    Target { name: "checkpoint", run: files::checkpoint, seeds: files::checkpoint_seeds },
    Target {
        name: "producer_snapshot",
        run: files::producer_snapshot,
        seeds: files::producer_snapshot_seeds,
    },
    Target { name: "journal_entry", run: files::journal_entry, seeds: files::journal_entry_seeds },
    Target { name: "frames", run: frames::scan, seeds: frames::seeds },
    // A whole log dir, one of whose files is replaced.
    Target { name: "log_dir_index", run: log_dir::index, seeds: log_dir::index_seeds },
    Target {
        name: "log_dir_time_index",
        run: log_dir::time_index,
        seeds: log_dir::time_index_seeds,
    },
    Target { name: "log_dir_segment", run: log_dir::segment, seeds: log_dir::segment_seeds },
    Target { name: "log_dir_snapshot", run: log_dir::snapshot, seeds: log_dir::snapshot_seeds },
    Target { name: "log_dir_epochs", run: log_dir::epochs, seeds: log_dir::epochs_seeds },
    Target {
        name: "log_dir_checkpoint",
        run: log_dir::checkpoint,
        seeds: log_dir::checkpoint_seeds,
    },
    Target { name: "log_dir_journal", run: log_dir::journal, seeds: log_dir::journal_seeds },
    // Calls instead of bytes.
    Target { name: "log_calls", run: log::calls, seeds: log::seeds },
    // The quorum.
    Target { name: "raft_record", run: raft::record, seeds: raft::record_seeds },
    Target { name: "raft_log", run: raft::log_file, seeds: raft::log_file_seeds },
    Target { name: "raft_snapshot", run: raft::snapshot_file, seeds: raft::snapshot_file_seeds },
    Target { name: "raft_answer", run: raft::answer, seeds: raft::answer_seeds },
    Target { name: "metadata_fact", run: metadata::fact, seeds: metadata::fact_seeds },
    // gRPC.
    Target { name: "grpc_message", run: grpc::message, seeds: grpc::message_seeds },
    Target { name: "grpc_produce", run: grpc::produce, seeds: grpc::produce_seeds },
    Target { name: "grpc_fetch", run: grpc::fetch, seeds: grpc::fetch_seeds },
    Target { name: "grpc_records", run: grpc::records, seeds: grpc::records_seeds },
    Target { name: "grpc_controller", run: grpc::controller, seeds: grpc::controller_seeds },
    // What an operator writes.
    Target { name: "settings_file", run: settings::file, seeds: settings::file_seeds },
    Target {
        name: "settings_variables",
        run: settings::variables,
        seeds: settings::variables_seeds,
    },
];

/// Seeds that need no better names than their numbers.
fn numbered(inputs: impl IntoIterator<Item = Vec<u8>>) -> Seeds {
    let name = |(number, input): (usize, Vec<u8>)| (format!("{number:02}"), input);
    inputs.into_iter().enumerate().map(name).collect()
}

/// Numbers and pieces taken off the front of an input; 0 and nothing when it has ended.
#[derive(Debug)]
struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let (first, rest) = self.rest.split_first().unwrap_or((&0, &[]));
        self.rest = rest;
        *first
    }

    /// A number below `bound`, out of one byte.
    fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound.max(1)
    }

    fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.rest = rest;
        taken
    }
}
