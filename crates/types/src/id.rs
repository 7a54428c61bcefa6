//! Who is who: clusters, nodes, processes and disks.

use std::fmt;
use std::str::FromStr;

use crate::uuid::{ParseUuidError, Uuid};

/// A node of any role. Brokers, coordinators and gateways share one id space, because Kafka clients need every node they talk to in
/// one list. Allocated by the controller from a committed log index, so an id is never given out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub i32);

impl NodeId {
    /// "No node" on the Kafka wire.
    pub const NONE: Self = Self(-1);
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A named 128-bit identity that displays and parses as its [`Uuid`].
macro_rules! uuid_identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub Uuid);

        impl $name {
            /// "None": not yet known, or not given.
            pub const ZERO: Self = Self(Uuid::ZERO);

            pub fn is_zero(&self) -> bool {
                self.0.is_zero()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseUuidError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}
pub(crate) use uuid_identity;

uuid_identity! {
    /// The cluster a directory belongs to; made once, when the controller quorum is first started.
    ClusterId
}

uuid_identity! {
    /// One storage directory, written into its `storage.meta` when it is first used (KIP-858). A replaced disk has another one.
    DirId
}

uuid_identity! {
    /// One life of a process: made anew at every start.
    IncarnationId
}
