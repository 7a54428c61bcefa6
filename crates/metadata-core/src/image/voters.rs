//! Controllers that were taken out of the quorum: their ids, in the quorum's own id space, are never used again. A vote of the old one that
//! is still on its way must not count for a new one.

use std::sync::Arc;

use super::Image;
use crate::decide::Decision;
use crate::error::Error;
use crate::record::Record;

impl Image {
    /// The facts to commit before a controller is taken out.
    pub fn decide_retire_voter(&self, voter_id: u64) -> Decision<()> {
        let is_known = self.retired_voters.contains(&voter_id);
        let records = if is_known { Vec::new() } else { vec![Record::VoterRetired { voter_id }] };
        Decision { records, response: () }
    }

    /// Whether a controller may be added under this id.
    pub fn check_new_voter(&self, voter_id: u64) -> Result<(), Error> {
        match self.retired_voters.contains(&voter_id) {
            true => Err(Error::VoterRetired(voter_id)),
            false => Ok(()),
        }
    }

    pub(super) fn retire_voter(&mut self, voter_id: u64) {
        Arc::make_mut(&mut self.retired_voters).insert(voter_id);
    }
}
