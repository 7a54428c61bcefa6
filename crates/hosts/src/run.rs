//! One run: three controllers, a node, a client, faults for half a minute, and then none.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thalweg_env::fs::SimFs;
use thalweg_env::simulation::Simulation;
use thalweg_metadata_core::Image;
use thalweg_rpc::simulation::Network;
use turmoil::{Builder, Sim};

use crate::client::{self, NODE, Shared, WORK_TIME};
use crate::controllers::{self, CONTROLLERS, Feeds, name};
use crate::nemesis::{CLIENT, Nemesis};
use crate::trace::{self, Trace};
use crate::{checks, network};

/// Time passes in steps of this.
const TICK: Duration = Duration::from_millis(2);

/// How often it is noted how far everybody is.
const NOTE_EVERY: Duration = Duration::from_millis(250);

/// Until which everything must have healed and everybody know the same.
const TIME_MAX: Duration = Duration::from_secs(200);

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub trace: Vec<String>,
    pub trace_hash: u64,
    pub created: usize,
    pub refused: usize,
    pub unknown: usize,
    pub faults: usize,
    pub simulated: Duration,
    /// What was not as it must be.
    pub violation: Option<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, trace_hash, created, refused, unknown, faults, .. } = self;
        let seconds = self.simulated.as_secs();
        if let Some(violation) = &self.violation {
            writeln!(f, "{violation}")?;
        }
        write!(f, "seed {seed}: trace {trace_hash:016x}, {seconds} seconds, {faults} faults, ")?;
        write!(f, "{created} created, {refused} refused, {unknown} unknown")
    }
}

/// Runs a seed.
pub fn run(seed: u64) -> Report {
    let _simulation = Simulation::begin(seed);
    let _network = Network::begin(network::dial());
    let (trace, history, feeds) = (Trace::default(), Shared::default(), Feeds::default());
    let disks: Vec<_> = (1..=CONTROLLERS).map(|id| SimFs::new(seed.wrapping_add(id))).collect();
    let mut sim = Builder::new()
        .simulation_duration(TIME_MAX)
        .tick_duration(TICK)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(15))
        .tcp_capacity(1 << 16)
        .rng_seed(seed)
        .build();
    for (id, disk) in (1..=CONTROLLERS).zip(&disks) {
        let (disk, feeds, trace) = (disk.clone(), Arc::clone(&feeds), trace.clone());
        let life = move || controllers::live(id, disk.clone(), Arc::clone(&feeds), trace.clone());
        sim.host(name(id), life);
    }
    let (known, noted) = (Arc::clone(&feeds), trace.clone());
    sim.host(NODE, move || client::live_as_node(Arc::clone(&known), noted.clone()));
    sim.client(CLIENT, client::create_topics(Arc::clone(&history), trace.clone()));
    let mut nemesis = Nemesis::new(seed, disks, trace.clone());
    let violation = drive(&mut sim, &mut nemesis, &trace, (&history, &feeds)).err();
    let simulated = sim.elapsed();
    drop(sim);
    let history = history.lock();
    let lines = trace.lines();
    Report {
        seed,
        trace_hash: trace::hash(&lines),
        trace: lines,
        created: history.created.len(),
        refused: history.refused.len(),
        unknown: history.unknown.len(),
        faults: nemesis.faults,
        simulated,
        violation,
    }
}

fn drive(
    sim: &mut Sim<'_>,
    nemesis: &mut Nemesis,
    trace: &Trace,
    (history, feeds): (&Shared, &Feeds),
) -> Result<(), String> {
    let mut noted = Duration::ZERO;
    let mut has_healed = false;
    loop {
        let is_over = sim.step().map_err(|error| format!("a host ended: {error}"))?;
        let now = sim.elapsed();
        if now < WORK_TIME {
            nemesis.act(sim);
        } else if !has_healed {
            has_healed = true;
            nemesis.heal(sim);
        }
        if now >= noted + NOTE_EVERY {
            noted = now;
            let images = images(feeds);
            let ends: Vec<_> = images.iter().map(|(_, image)| image.position().index.0).collect();
            trace.note_at(now, format_args!("known: {ends:?}"));
            checks::check_agreement(&images)?;
        }
        if is_over && has_healed {
            let history = history.lock();
            let last =
                history.last_index.ok_or("nothing could be created after everything healed")?;
            let images = images(feeds);
            if images.iter().all(|(_, image)| image.position().index.0 >= last) {
                images
                    .iter()
                    .try_for_each(|(host, image)| checks::check_image(host, image, &history))?;
                return checks::check_agreement(&images);
            }
        }
        if now >= TIME_MAX {
            return Err("V7: somebody does not learn what is committed".to_owned());
        }
    }
}

fn images(feeds: &Feeds) -> Vec<(String, Arc<Image>)> {
    let feeds = feeds.lock();
    feeds.iter().map(|(host, feed)| (host.clone(), feed.image())).collect()
}
