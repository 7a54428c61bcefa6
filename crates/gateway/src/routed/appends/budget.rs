//! Memory for batches without an answer, one budget for all of them.
//!
//! Those for one broker may take half of what the others leave: a broker that does not answer uses up its own share and nobody else's.

use std::collections::HashMap;

use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, NodeId};

#[derive(Debug)]
pub(super) struct Budget {
    bytes_max: usize,
    bytes: usize,
    by_node: HashMap<NodeId, usize>,
}

impl Budget {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, by_node: HashMap::new() }
    }

    pub(super) fn take(&mut self, node: NodeId, bytes: usize) -> Result<(), Error> {
        let held = self.by_node.get(&node).copied().unwrap_or(0);
        let left_by_others = self.bytes_max.saturating_sub(self.bytes - held);
        if held + bytes > left_by_others / 2 {
            let message = format!("{held} bytes wait for broker {node} already");
            return Err(Error::new(ErrorCode::ThrottlingQuotaExceeded, message).not_applied());
        }
        self.bytes += bytes;
        self.by_node.insert(node, held + bytes);
        Ok(())
    }

    pub(super) fn give_back(&mut self, node: NodeId, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(held) = self.by_node.get_mut(&node) {
            *held = held.saturating_sub(bytes);
            if *held == 0 {
                self.by_node.remove(&node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_broker_cannot_use_up_what_the_others_need() {
        let mut budget = Budget::new(1000);
        budget.take(NodeId(1), 500).unwrap();
        assert_eq!(budget.take(NodeId(1), 1).unwrap_err().code, ErrorCode::ThrottlingQuotaExceeded);
        budget.take(NodeId(2), 250).unwrap();
        assert!(budget.take(NodeId(2), 1).is_err());

        budget.give_back(NodeId(1), 500);
        budget.take(NodeId(2), 250).unwrap();
        budget.give_back(NodeId(2), 500);
        assert_eq!((budget.bytes, budget.by_node.len()), (0, 0));
    }
}
