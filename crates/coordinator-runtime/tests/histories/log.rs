//! The partition's log as its leaders have it: what is committed stays, what is not may go with the leader.

use bytes::Bytes;
use thalweg_coordinator_runtime::{Condition, FENCE_KEY, LogEnds, PortError};
use thalweg_record::{DecompressLimits, records, stamp};
use thalweg_types::{LeaderEpoch, Offset};

use crate::ledger;

#[derive(Debug)]
pub(crate) struct Log {
    batches: Vec<Batch>,
    leader_epoch: i32,
    epoch_start: i64,
    /// On every replica.
    pub(crate) committed: i64,
    /// As far as the leader knows; the new one may know less than the old one.
    high_watermark: i64,
    /// What the leader has in memory.
    chain: u64,
    coordinator_epoch: i32,
    knows_chains: bool,
    /// Who counted, for every version that was committed when it was last asked for, and up to where that is.
    history: (Vec<u64>, i64),
}

#[derive(Debug)]
struct Batch {
    base: i64,
    end: i64,
    bytes: Bytes,
}

impl Log {
    pub(crate) fn new(knows_chains: bool) -> Self {
        Self {
            batches: Vec::new(),
            leader_epoch: 0,
            epoch_start: 0,
            committed: 0,
            high_watermark: 0,
            chain: 0,
            coordinator_epoch: 0,
            knows_chains,
            history: (Vec::new(), 0),
        }
    }

    pub(crate) fn end(&self) -> i64 {
        self.batches.last().map_or(0, |batch| batch.end)
    }

    pub(crate) fn ends(&self) -> LogEnds {
        LogEnds {
            leader_epoch: LeaderEpoch(self.leader_epoch),
            epoch_start_offset: Offset(self.epoch_start),
            log_start_offset: Offset(0),
            high_watermark: Offset(self.high_watermark),
            log_end_offset: Offset(self.end()),
        }
    }

    pub(crate) fn read(&self, from: i64, count: usize) -> Vec<Bytes> {
        let wanted = self.batches.iter().filter(|b| b.end > from && b.end <= self.high_watermark);
        wanted.take(count).map(|batch| batch.bytes.clone()).collect()
    }

    /// Where the high watermark has to be for the answer.
    pub(crate) fn append(&mut self, condition: Condition, batch: &Bytes) -> Result<i64, PortError> {
        if condition.coordinator_epoch.0 < self.coordinator_epoch && condition.chain != 0 {
            return Err(PortError::Deposed("epoch".into()));
        }
        let fits =
            condition.leader_epoch.0 == self.leader_epoch && condition.expected_end.0 == self.end();
        let follows = condition.opens_chain
            || condition.chain == self.chain
            || condition.chain == 0
            || !self.knows_chains;
        if !fits || !follows {
            return Err(PortError::Refused("condition".into()));
        }
        self.coordinator_epoch = self.coordinator_epoch.max(condition.coordinator_epoch.0);
        if !batch.is_empty() {
            self.chain = condition.chain;
            let base = self.end();
            let mut bytes = batch.to_vec();
            stamp(&mut bytes, Offset(base), LeaderEpoch(self.leader_epoch));
            let count = records(&bytes, &DecompressLimits::default()).unwrap().iter().count();
            self.batches.push(Batch { base, end: base + count as i64, bytes: bytes.into() });
        }
        Ok(self.end())
    }

    pub(crate) fn has_committed(&self, end: i64) -> bool {
        self.high_watermark >= end
    }

    /// The leader hears of a later coordinator.
    pub(crate) fn hear_of(&mut self, coordinator_epoch: i32) {
        self.coordinator_epoch = self.coordinator_epoch.max(coordinator_epoch);
    }

    /// The next `count` batches get to every replica.
    pub(crate) fn replicate(&mut self, count: usize) {
        let next = self.batches.iter().filter(|batch| batch.end > self.committed);
        if let Some(batch) = next.take(count).last() {
            self.committed = batch.end;
        }
        if self.committed >= self.epoch_start {
            self.high_watermark = self.committed;
        }
    }

    /// Another leader, which has everything committed and the first `kept` batches of the rest, and knows `forgotten` batches less to be
    /// committed.
    pub(crate) fn elect(&mut self, kept: usize, forgotten: usize) {
        let committed = self.batches.partition_point(|batch| batch.end <= self.committed);
        self.batches.truncate(committed + kept);
        let known = committed.saturating_sub(forgotten);
        self.high_watermark = match self.batches.get(known) {
            Some(batch) => batch.base,
            None => self.end(),
        };
        self.leader_epoch += 1;
        self.epoch_start = self.end();
        self.chain = 0;
        self.coordinator_epoch = 0;
    }

    /// Who counted, for every version that is committed.
    pub(crate) fn history(&mut self) -> Result<&[u64], String> {
        let (by, until) = &mut self.history;
        let news = self.batches.partition_point(|batch| batch.end <= *until);
        for batch in self.batches[news..].iter().take_while(|batch| batch.end <= self.committed) {
            for record in &records(&batch.bytes, &DecompressLimits::default()).unwrap() {
                let record = record.unwrap();
                if record.key == Some(&FENCE_KEY) {
                    continue;
                }
                let (version, who) = ledger::read(record.value.unwrap());
                by.push(who);
                if version != by.len() as u64 {
                    return Err(format!("{version} is stored as number {}", by.len()));
                }
            }
            *until = batch.end;
        }
        Ok(by)
    }
}
