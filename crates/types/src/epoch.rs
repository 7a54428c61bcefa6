//! Fencing numbers: each rises when authority changes hands, and the lower one loses.

use std::fmt;

macro_rules! epoch {
    ($(#[$doc:meta])* $name:ident($raw:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $raw);

        impl $name {
            /// "Not given" or "none yet" on the wire.
            pub const NONE: Self = Self(-1);

            /// The following epoch, or `None` when the number space is exhausted.
            #[must_use]
            pub fn next(self) -> Option<Self> {
                self.0.checked_add(1).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

epoch! {
    /// One leader's term over one partition; raised when the partition gets a new leader. Stored in every batch.
    LeaderEpoch(i32)
}

epoch! {
    /// Version of one partition's registration; raised when it changes in any way, in-sync replicas included (KIP-497).
    PartitionEpoch(i32)
}

epoch! {
    /// One uptime session of a broker: the metadata log index of its registration (KIP-380).
    BrokerEpoch(i64)
}

epoch! {
    /// A time of one active controller: the log index of its first entry. Higher for every later one.
    ControllerEpoch(i64)
}

epoch! {
    /// One coordinator's term over one partition of an internal topic; raised whenever the controller gives the partition to a coordinator.
    CoordinatorEpoch(i32)
}

epoch! {
    /// One round of the classic group protocol: raised when everybody has joined anew.
    GenerationId(i32)
}

epoch! {
    /// Version of what a group of the consumer protocol wants (KIP-848): raised when a subscription or a topic in it changes.
    GroupEpoch(i32)
}

epoch! {
    /// The group epoch that the target assignment was computed for.
    AssignmentEpoch(i32)
}

epoch! {
    /// The assignment epoch that a member has reached.
    MemberEpoch(i32)
}
