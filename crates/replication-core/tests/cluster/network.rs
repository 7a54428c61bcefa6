//! Messages under way: in any order, some lost, some twice.

use thalweg_replication_core::{Answer, Handshake, PushCursor, Report};
use thalweg_types::{BrokerEpoch, NodeId};

use super::log::Entry;
use super::random::Dice;

/// Messages beyond that are lost, oldest first.
const UNDER_WAY_MAX: usize = 40;

/// Copies kept to come late.
const LATE_MAX: usize = 16;

#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    /// The receiving process: what was sent to an earlier one ended with its connections. `None`: whoever lives.
    pub(crate) process: Option<BrokerEpoch>,
    pub(crate) body: Body,
}

#[derive(Debug, Clone)]
pub(crate) enum Body {
    Handshake(Handshake),
    Answer(Answer),
    Push { cursor: PushCursor, entries: Vec<Entry> },
    Report(Report),
}

#[derive(Debug, Default)]
pub(crate) struct Network {
    under_way: Vec<Message>,
    /// Copies that come much later, when much has happened.
    late: Vec<Message>,
}

impl Network {
    pub(crate) fn send(&mut self, message: Message) {
        if self.under_way.len() == UNDER_WAY_MAX {
            self.under_way.remove(0);
        }
        self.under_way.push(message);
    }

    /// The next to arrive. With faults, any of them may be lost or come again.
    pub(crate) fn take(&mut self, dice: &mut Dice, faults: bool) -> Option<Message> {
        if faults && !self.late.is_empty() && dice.percent(5) {
            return Some(self.late.swap_remove(dice.below(self.late.len())));
        }
        if self.under_way.is_empty() {
            return None;
        }
        if !faults {
            return Some(self.under_way.remove(0));
        }
        let in_order = dice.percent(70);
        let at = if in_order { 0 } else { dice.below(self.under_way.len()) };
        match dice.below(100) {
            0..4 => {
                self.under_way.remove(at);
                None
            }
            4..8 => Some(self.under_way[at].clone()),
            8..18 => {
                let message = self.under_way.remove(at);
                if self.late.len() < LATE_MAX {
                    self.late.push(message.clone());
                }
                Some(message)
            }
            _ => Some(self.under_way.remove(at)),
        }
    }
}
