//! Groups: who they are, who is in them, and which coordinator has them.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

macro_rules! name_identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }

            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }

            /// The same text for whoever keeps it without its type.
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl From<Arc<str>> for $name {
            fn from(text: Arc<str>) -> Self {
                Self(text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

name_identity! {
    /// A group, by the name its users gave it. Kafka sets no rule for it; empty in the commits of some consumers without a group.
    GroupId
}

name_identity! {
    /// One life of a member in a group; empty where a request says "not yet known".
    MemberId
}

name_identity! {
    /// A static member (KIP-345): the name that its configuration gives it, the same over restarts.
    InstanceId
}

/// The partition of an internal topic, of so many partitions, that has the group or transaction of this id: Kafka's rule, the
/// lower 31 bits of Java's hash of the id, modulo the number of partitions. `None` when there is no partition.
pub fn coordinator_partition(id: &str, partitions: i32) -> Option<crate::PartitionIndex> {
    let hash = id
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    (partitions > 0).then(|| crate::PartitionIndex((hash & i32::MAX) % partitions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PartitionIndex;

    #[test]
    fn groups_are_where_java_looks_for_them() {
        // What `(id.hashCode() & Integer.MAX_VALUE) % 50` gives in Java.
        for (id, partition) in [
            ("", 0),
            ("a", 47),
            ("my-group", 36),
            ("gruppe-ä-😀", 48),
            // Its hash is i32::MIN, whose absolute value does not exist.
            ("polygenelubricants", 0),
        ] {
            assert_eq!(coordinator_partition(id, 50), Some(PartitionIndex(partition)), "{id}");
        }
        assert_eq!(coordinator_partition("a", 0), None);
        assert_eq!(coordinator_partition("a", -1), None);
    }
}
