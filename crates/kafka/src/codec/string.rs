//! Text of a message: shared, cheap to clone, never a part of the frame it came in.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use thalweg_types::TopicName;

/// UTF-8 text on the heap, shared by its clones. Its own copy, so that keeping a client id does not keep a megabyte of records.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct KafkaString(Arc<str>);

impl KafkaString {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for KafkaString {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for KafkaString {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for KafkaString {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for KafkaString {
    fn from(text: &str) -> Self {
        // The empty string shares one allocation of the standard library.
        if text.is_empty() { Self::default() } else { Self(text.into()) }
    }
}

impl From<String> for KafkaString {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Arc<str>> for KafkaString {
    fn from(text: Arc<str>) -> Self {
        Self(text)
    }
}

impl From<&TopicName> for KafkaString {
    fn from(name: &TopicName) -> Self {
        Self::from(name.as_str())
    }
}

impl PartialEq<str> for KafkaString {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for KafkaString {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

impl fmt::Display for KafkaString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KafkaString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}
