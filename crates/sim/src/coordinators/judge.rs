//! Whether what coordinators tell is one history: that of the records that are committed.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_coordinator_runtime::Token;
use thalweg_types::{Offset, TopicIdPartition};

use super::ledger::{Ask, BY_ITSELF, Version};
use crate::env::Env;

#[derive(Debug, Default)]
pub(crate) struct Judge {
    /// Who counted, for every version that is committed.
    history: Vec<u64>,
    /// Records looked at.
    upto: Offset,
    /// The highest version that anybody was told.
    told: u64,
    owners: BTreeSet<u64>,
    calls: BTreeMap<Token, (Ask, u64)>,
    pub(crate) answers: u64,
}

impl Judge {
    /// A client asks now.
    pub(crate) fn asked(&mut self, token: Token, ask: Ask) {
        self.calls.insert(token, (ask, self.told));
    }

    /// A coordinator lets an answer go.
    pub(crate) fn answered(
        &mut self,
        env: &mut Env,
        id: TopicIdPartition,
        token: Token,
        Version(version): Version,
    ) {
        self.follow(env, id);
        let Some((ask, told_before)) = self.calls.remove(&token) else { return };
        self.answers += 1;
        let committed = self.history.len() as u64;
        if version > committed {
            env.oracle.violated("G3", || {
                format!("{id}: {ask:?} is told {version} while {committed} are committed")
            });
            return;
        }
        let owner =
            usize::try_from(version).ok().and_then(|at| self.history.get(at.checked_sub(1)?));
        match ask {
            Ask::Add(by) if owner != Some(&by) || !self.owners.insert(by) => {
                env.oracle.violated("G1", || format!("{id}: {by} is told {version}, of {owner:?}"));
            }
            Ask::Look if version < told_before => {
                env.oracle.violated("G2", || {
                    format!("{id}: {version} is seen after {told_before} was told")
                });
            }
            Ask::Add(_) | Ask::Look => {}
        }
        self.told = self.told.max(version);
    }

    /// Takes in what has been committed since: versions without a gap, and nobody counted twice.
    pub(crate) fn follow(&mut self, env: &mut Env, id: TopicIdPartition) {
        let end = env.oracle.true_end(id);
        while self.upto < end {
            let value = env.oracle.value_at(id, self.upto);
            if let Some((version, by)) = value.and_then(|value| env.batches.count_at(value)) {
                if version != self.history.len() as u64 + 1
                    || (by != BY_ITSELF && self.history.contains(&by))
                {
                    let after = self.history.len();
                    env.oracle.violated("G1", || {
                        format!("{id}: {by} counts {version} after {after} are committed")
                    });
                }
                self.history.push(by);
            }
            self.upto.0 += 1;
        }
    }
}
