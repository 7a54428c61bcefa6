//! Wire words to the vocabulary, refusing what has no meaning. Every refusal names the field and the value, and nothing was applied.

use thalweg_proto::common::v1 as common;
use thalweg_proto::producer::v1 as producer;
use thalweg_rpc::Error;
use thalweg_types::{
    Acks, CompressionType, ErrorCode, IsolationLevel, PartitionIndex, TimestampType, TopicId,
    TopicName,
};

/// Longest piece of a wrong text that is shown back.
const SHOWN_CHARS_MAX: usize = 64;

/// Longest name of a rack.
const RACK_BYTES_MAX: usize = 249;

pub(crate) fn topic_name(name: &str) -> Result<TopicName, Error> {
    TopicName::new(name).map_err(|rule| {
        Error::new(ErrorCode::InvalidTopicException, format!("topic {:?}: {rule}", shown(name)))
            .not_applied()
    })
}

pub(crate) fn topic_id(text: &str) -> Result<TopicId, Error> {
    text.parse().map_err(|_| {
        Error::invalid_request(format!(
            "topic_id {:?} is not 22 characters of URL-safe base64",
            shown(text)
        ))
    })
}

pub(crate) fn partition(index: i32) -> Result<PartitionIndex, Error> {
    if index < 0 {
        return Err(Error::invalid_request(format!("partition must not be negative: {index}")));
    }
    Ok(PartitionIndex(index))
}

pub(crate) fn acks(value: i32) -> Result<Acks, Error> {
    match producer::Acks::try_from(value) {
        Ok(producer::Acks::Unspecified | producer::Acks::All) => Ok(Acks::All),
        Ok(producer::Acks::Leader) => Ok(Acks::Leader),
        Ok(producer::Acks::None) => Ok(Acks::None),
        Err(_) => {
            Err(Error::new(ErrorCode::InvalidRequiredAcks, format!("acks has no value {value}"))
                .not_applied())
        }
    }
}

pub(crate) fn compression(value: i32) -> Result<CompressionType, Error> {
    match common::Compression::try_from(value) {
        Ok(common::Compression::Unspecified | common::Compression::None) => {
            Ok(CompressionType::None)
        }
        Ok(common::Compression::Gzip) => Ok(CompressionType::Gzip),
        Ok(common::Compression::Snappy) => Ok(CompressionType::Snappy),
        Ok(common::Compression::Lz4) => Ok(CompressionType::Lz4),
        Ok(common::Compression::Zstd) => Ok(CompressionType::Zstd),
        Err(_) => Err(Error::new(
            ErrorCode::UnsupportedCompressionType,
            format!("compression has no value {value}"),
        )
        .not_applied()),
    }
}

pub(crate) fn isolation_level(value: i32) -> Result<IsolationLevel, Error> {
    match common::IsolationLevel::try_from(value) {
        Ok(common::IsolationLevel::Unspecified | common::IsolationLevel::ReadUncommitted) => {
            Ok(IsolationLevel::ReadUncommitted)
        }
        Ok(common::IsolationLevel::ReadCommitted) => Ok(IsolationLevel::ReadCommitted),
        Err(_) => Err(Error::invalid_request(format!("isolation_level has no value {value}"))),
    }
}

pub(crate) fn timestamp_type(value: TimestampType) -> common::TimestampType {
    match value {
        TimestampType::CreateTime => common::TimestampType::CreateTime,
        TimestampType::LogAppendTime => common::TimestampType::LogAppendTime,
    }
}

/// Where a reader is; empty where it does not say.
pub(crate) fn rack(rack: String) -> Result<String, Error> {
    at_most("the length of rack", rack.len(), RACK_BYTES_MAX)?;
    Ok(rack)
}

/// `value`, unless it is above `max`.
pub(crate) fn at_most<T: PartialOrd + std::fmt::Display>(
    field: &str,
    value: T,
    max: T,
) -> Result<T, Error> {
    if value > max {
        return Err(Error::invalid_request(format!("{field} must be at most {max}: {value}")));
    }
    Ok(value)
}

/// `count`, if it is from 1 to `max`.
pub(crate) fn some_but_at_most(field: &str, count: usize, max: usize) -> Result<(), Error> {
    match count {
        0 => Err(Error::invalid_request(format!("{field} must not be empty"))),
        _ => at_most(&format!("the number of {field}"), count, max).map(|_| ()),
    }
}

/// The beginning of a text, for messages.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}
