//! What the rules need to know of the cluster's topics.

use thalweg_types::{TopicId, TopicName};

/// The topics at the time of a call. The shell implements it by its newest image.
pub trait Topics {
    fn topic(&self, name: &str) -> Option<TopicFacts>;
    fn name_of(&self, id: TopicId) -> Option<TopicName>;
    /// Every topic by name, internal ones as well, in the order of the names.
    fn for_each_name(&self, visit: &mut dyn FnMut(&TopicName));
}

/// One topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicFacts {
    pub id: TopicId,
    pub partitions: i32,
}
