//! What a run is about: the cluster's shape, its topics, its load, for how long, and which kinds of faults; all of it from the seed.

use thalweg_invariants::Mutant;
use thalweg_types::Durability;

use crate::message::BROKERS_MAX;
use crate::network::{SECOND, Time};
use crate::rng::Rng;
use crate::script::Script;

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) brokers: usize,
    pub(crate) topics: Vec<TopicPlan>,
    pub(crate) producers: usize,
    /// Producers that are content with the leader (`acks=1`).
    pub(crate) hasty: usize,
    /// When everything is healed.
    pub(crate) faults_until: Time,
    /// Longest pause between two faults.
    pub(crate) pause: Time,
    pub(crate) kinds: Kinds,
    pub(crate) later: Later,
    pub(crate) script: Option<Script>,
    /// Coordinators write to a topic of their own.
    pub(crate) coordinators: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct TopicPlan {
    pub(crate) name: String,
    pub(crate) replication_factor: usize,
    pub(crate) min_isr: u32,
    pub(crate) durability: Durability,
    /// Retention takes old records during the run.
    pub(crate) is_small: bool,
}

/// Which faults a run has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kinds {
    pub(crate) network: bool,
    pub(crate) power: bool,
    pub(crate) damage: bool,
    pub(crate) pauses: bool,
    pub(crate) controllers: bool,
    pub(crate) administration: bool,
    /// Several at once, and one after the other without pause.
    pub(crate) storms: bool,
}

/// What came to the random mix after the first seeds were kept for ever: drawn apart from the rest, so that those go on being what they
/// were.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Later {
    /// Links are held up: nothing is lost, and all of it comes later.
    pub(crate) holds: bool,
    pub(crate) repeats: bool,
    /// The operator wants other numbers of replicas, and elects uncleanly where nothing else helps.
    pub(crate) wishes: bool,
    /// High watermarks that a log notes down are old.
    pub(crate) old_positions: bool,
    /// Cuts wait for the disk, and other things happen first.
    pub(crate) late_cuts: bool,
    /// Metadata entries that come together are followed together.
    pub(crate) coalesces: bool,
    /// Brokers hold their sessions by streams, whose ends tell of their deaths sooner, later, never or falsely.
    pub(crate) session_holds: bool,
}

impl Plan {
    pub(crate) fn random(seed: u64) -> Self {
        let mut plan = Self::early(seed);
        let mut rng = Rng::new(seed, "later plan");
        plan.hasty = usize::from(rng.chance(400));
        plan.later = Later {
            holds: plan.kinds.network && rng.chance(500),
            repeats: plan.kinds.network && rng.chance(500),
            old_positions: rng.chance(400),
            wishes: plan.kinds.administration && rng.chance(500),
            // Last: what is drawn before it stays what it was for the seeds that are kept.
            late_cuts: rng.chance(600),
            coalesces: rng.chance(500),
            session_holds: rng.chance(600),
        };
        plan
    }

    /// The mix of the first seeds.
    pub(crate) fn early(seed: u64) -> Self {
        let mut rng = Rng::new(seed, "plan");
        let brokers = usize::try_from(rng.between(3, BROKERS_MAX as u64)).unwrap_or(3);
        let count = rng.between(1, 2);
        let topics = (0..count).map(|at| {
            let is_replicated = rng.chance(150);
            TopicPlan {
                name: format!("topic-{at}"),
                replication_factor: 3,
                min_isr: if rng.chance(850) { 2 } else { 1 },
                durability: if is_replicated { Durability::Replicated } else { Durability::Fsync },
                is_small: rng.chance(250),
            }
        });
        let topics = topics.collect();
        let mut kind = |per_mille| rng.chance(per_mille);
        let kinds = Kinds {
            network: kind(800),
            power: kind(700),
            damage: kind(400),
            pauses: kind(500),
            controllers: kind(700),
            administration: kind(600),
            storms: kind(400),
        };
        Self {
            brokers,
            topics,
            producers: usize::try_from(rng.between(2, 4)).unwrap_or(2),
            hasty: 0,
            faults_until: rng.between(40, 120) * SECOND,
            pause: rng.between(1, 6) * SECOND,
            kinds,
            later: Later::default(),
            script: None,
            coordinators: false,
        }
    }

    /// With coordinators, and whatever befalls them besides. Nothing that takes back what is committed: that would be somebody else's fault.
    pub(crate) fn coordinated(seed: u64) -> Self {
        let mut plan = Self::random(seed);
        plan.coordinators = true;
        plan.kinds.damage = false;
        plan.kinds.administration = false;
        plan.later.wishes = false;
        for topic in &mut plan.topics {
            topic.durability = Durability::Fsync;
        }
        plan
    }

    /// A random plan with more of what a planted bug needs to show.
    pub(crate) fn biased(seed: u64, bug: Mutant) -> Self {
        let mut plan = Self::random(seed);
        let kinds = &mut plan.kinds;
        kinds.power = true;
        match bug {
            Mutant::M18 | Mutant::M25 | Mutant::M30 => kinds.damage = true,
            Mutant::M11 | Mutant::M12 | Mutant::M29 => kinds.administration = true,
            Mutant::M31 => plan.later.session_holds = true,
            _ => {}
        }
        if bug == Mutant::M12 {
            plan.topics.iter_mut().for_each(|topic| topic.durability = Durability::Replicated);
        }
        plan
    }

    /// The cluster of the script, and no fault but those of the script.
    pub(crate) fn scripted(script: Script) -> Self {
        let kinds = Kinds {
            network: false,
            power: false,
            damage: false,
            pauses: false,
            controllers: false,
            administration: false,
            storms: false,
        };
        let stage = script.stage;
        let topics = (0..stage.topics).map(|at| TopicPlan {
            name: format!("topic-{at}"),
            replication_factor: 3,
            min_isr: stage.min_isr,
            durability: stage.durability,
            is_small: stage.is_small,
        });
        Self {
            brokers: stage.brokers,
            topics: topics.collect(),
            producers: stage.topics.max(2),
            hasty: 1,
            faults_until: script.until,
            pause: SECOND,
            kinds,
            later: Later { old_positions: stage.old_positions, ..Later::default() },
            script: Some(script),
            coordinators: false,
        }
    }

    pub(crate) fn topic_names(&self) -> Vec<String> {
        self.topics.iter().map(|topic| topic.name.clone()).collect()
    }
}
