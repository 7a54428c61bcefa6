//! RecordBatch v2: bytes to borrowed views, CRC, bounded compression.
