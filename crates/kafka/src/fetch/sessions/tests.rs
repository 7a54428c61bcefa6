//! The cache's rules, and whole conversations against a model that is as simple as the KIP's words.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use thalweg_env::SeededRandom;
use thalweg_types::IsolationLevel;

use super::*;
use crate::fetch::PARTITION_BYTES;
use crate::fetch::sample::Sample;
use crate::messages::FetchRequest;
use crate::messages::fetch::{
    FetchPartition as WirePartition, FetchTopic, FetchableTopicResponse, ForgottenTopic,
    PartitionData,
};

const TOPIC: &str = "t";

fn sessions(slots_max: usize, bytes_max: usize) -> Sessions<Sample> {
    Sessions::new(slots_max, bytes_max, Arc::new(SeededRandom::new(7)))
}

fn request(wanted: impl IntoIterator<Item = (i32, i64)>) -> FetchRequest {
    let partition =
        |(partition, fetch_offset)| WirePartition { partition, fetch_offset, ..Default::default() };
    let partitions = wanted.into_iter().map(partition).collect();
    let topics = vec![FetchTopic { topic: TOPIC.into(), partitions, ..Default::default() }];
    FetchRequest { topics, ..Default::default() }
}

fn session_of(partitions: i32) -> Session<Sample> {
    let mut session = Session::default();
    update(&mut session, &request((0..partitions).map(|partition| (partition, 0))));
    session
}

fn update(session: &mut Session<Sample>, request: &FetchRequest) {
    session.update(request, false, IsolationLevel::ReadUncommitted, 1 << 20);
}

#[test]
fn each_epoch_is_served_once_and_in_order() {
    let (sessions, now) = (sessions(1, BYTES_MAX), Instant::now());
    let id = sessions.keep(session_of(1), false, now);
    assert!(id > 0);
    let lend = |epoch| sessions.lend(id, epoch, false, now).map(|lent| lent.id());

    assert_eq!(lend(1), Ok(id));
    for epoch in [1, 3, 0, -1, i32::MAX, i32::MIN] {
        assert_eq!(lend(epoch), Err(ErrorCode::InvalidFetchSessionEpoch), "{epoch}");
    }
    assert_eq!(lend(2), Ok(id));
}

#[test]
fn after_the_last_epoch_comes_the_first() {
    assert_eq!(next_epoch(i32::MAX), 1);
    assert_eq!(next_epoch(1), 2);
}

#[test]
fn a_session_is_lent_to_one_request_at_a_time() {
    let (sessions, now) = (sessions(1, BYTES_MAX), Instant::now());
    let id = sessions.keep(session_of(1), false, now);
    let lent = sessions.lend(id, 1, false, now).unwrap();

    let second = sessions.lend(id, 2, false, now).map(|lent| lent.id());
    drop(lent);

    assert_eq!(second, Err(ErrorCode::InvalidFetchSessionEpoch));
    assert!(sessions.lend(id, 2, false, now).is_ok());
}

#[test]
fn topic_ids_and_names_do_not_mix_within_a_session() {
    let (sessions, now) = (sessions(1, BYTES_MAX), Instant::now());
    let id = sessions.keep(session_of(1), true, now);

    let by_name = sessions.lend(id, 1, false, now).map(|lent| lent.id());

    assert_eq!(by_name, Err(ErrorCode::FetchSessionTopicIdError));
    assert!(sessions.lend(id, 1, true, now).is_ok());
}

#[test]
fn a_closed_session_is_not_found_even_by_the_request_that_had_it() {
    let (sessions, now) = (sessions(2, BYTES_MAX), Instant::now());
    let id = sessions.keep(session_of(3), false, now);
    let lent = sessions.lend(id, 1, false, now).unwrap();
    sessions.close(id);
    drop(lent);

    let again = sessions.lend(id, 2, false, now).map(|lent| lent.id());

    assert_eq!(again, Err(ErrorCode::FetchSessionIdNotFound));
    assert_eq!((sessions.count(), sessions.bytes()), (0, 0));
}

#[test]
fn without_slots_nobody_gets_a_session() {
    let sessions = sessions(0, BYTES_MAX);
    assert_eq!(sessions.keep(session_of(1), false, Instant::now()), NO_SESSION);
}

#[test]
fn memory_is_bounded_over_all_sessions() {
    let start = Instant::now();
    let bytes_max = 10 * (PARTITION_BYTES + TOPIC.len());
    let sessions = sessions(1000, bytes_max);
    assert_eq!(sessions.keep(session_of(11), false, start), NO_SESSION);
    let ids: Vec<_> = (0..5).map(|_| sessions.keep(session_of(2), false, start)).collect();
    assert!(!ids.contains(&NO_SESSION));
    assert_eq!(sessions.bytes(), bytes_max);
    // Full of sessions that are in use.
    assert_eq!(sessions.keep(session_of(4), false, start), NO_SESSION);

    // One of them grows beyond the bound: it serves the request at hand, and is gone.
    let mut lent = sessions.lend(ids[0], 1, false, start).unwrap();
    update(lent.session(), &request([(7, 0)]));
    drop(lent);
    assert_eq!(sessions.count(), 4);
    assert!(sessions.lend(ids[0], 2, false, start).is_err());

    // A large one takes the place of as many as it needs, once they are old.
    let later = start + EVICTABLE_AFTER + Duration::from_secs(1);
    assert!(sessions.keep(session_of(6), false, later) > 0);
    assert!(sessions.bytes() <= bytes_max);
    assert_eq!(sessions.count(), 3);
}

#[test]
fn a_flood_of_sessions_keeps_to_the_slots_and_takes_nobody_elses() {
    let now = Instant::now();
    let sessions = sessions(1000, BYTES_MAX);
    let first = sessions.keep(session_of(10), false, now);
    for _ in 0..10_000 {
        sessions.keep(session_of(1), false, now);
    }
    assert_eq!(sessions.count(), 1000);
    assert!(sessions.lend(first, 1, false, now).is_ok());
}

// ---- conversations ----

const PARTITIONS: i32 = 6;

/// Longer and shorter than what makes a session evictable.
const PAUSES: [u64; 3] = [1, 50, 130];

#[derive(Debug, Clone)]
enum Step {
    Produce {
        partition: i32,
        records: i64,
    },
    Trim(i32),
    Break(i32),
    Mend(i32),
    Wait(u64),
    /// Keeping the answer's session or not, and naming an existing one to be closed or not.
    Full {
        keeps: bool,
        closes: Option<usize>,
        wanted: BTreeMap<i32, i64>,
    },
    /// In an existing session or one that never was, with an epoch that is right, or wrong by `epoch_off`.
    Incremental {
        of: usize,
        epoch_off: i32,
        wanted: BTreeMap<i32, i64>,
        forgotten: BTreeSet<i32>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let partition = || 0..PARTITIONS;
    let wanted = || proptest::collection::btree_map(partition(), 0_i64..20, 0..4);
    let epoch_off = prop_oneof![6 => Just(0), 1 => -2..3_i32];
    prop_oneof![
        3 => (partition(), 1_i64..4).prop_map(|(partition, records)| Step::Produce { partition, records }),
        1 => partition().prop_map(Step::Trim),
        1 => partition().prop_map(Step::Break),
        2 => partition().prop_map(Step::Mend),
        1 => proptest::sample::select(PAUSES.to_vec()).prop_map(Step::Wait),
        3 => (any::<bool>(), proptest::option::of(0_usize..4), wanted())
            .prop_map(|(keeps, closes, wanted)| Step::Full { keeps, closes, wanted }),
        8 => (0_usize..4, epoch_off, wanted(), proptest::collection::btree_set(partition(), 0..3))
            .prop_map(|(of, epoch_off, wanted, forgotten)| Step::Incremental {
                of,
                epoch_off,
                wanted,
                forgotten,
            }),
    ]
}

#[derive(Debug, Clone, Copy, Default)]
struct Log {
    start: i64,
    end: i64,
    broken: bool,
}

/// What an answer says of one partition: an error, or high watermark, log start and whether there are records.
type Said = Option<(i64, i64, bool)>;

impl Log {
    fn read(self, offset: i64) -> PartitionData {
        if self.broken {
            let error_code = ErrorCode::UnknownTopicOrPartition.code();
            return PartitionData { error_code, high_watermark: -1, ..Default::default() };
        }
        let has_records = offset < self.end;
        PartitionData {
            high_watermark: self.end,
            log_start_offset: self.start,
            records: if has_records { vec![Bytes::from_static(&[0; 70])] } else { Vec::new() },
            ..Default::default()
        }
    }

    fn said(self, offset: i64) -> Said {
        (!self.broken).then_some((self.end, self.start, offset < self.end))
    }
}

/// The KIP in few words.
#[derive(Debug, Clone)]
struct Model {
    id: i32,
    epoch: i32,
    created: u64,
    used: u64,
    /// Offset asked, and what the client was told last.
    partitions: BTreeMap<i32, (i64, Option<Said>)>,
}

impl Model {
    fn answer(&mut self, logs: &[Log], all: bool) -> BTreeMap<i32, Said> {
        let mut answer = BTreeMap::new();
        for (partition, (offset, told)) in &mut self.partitions {
            let now = logs[usize::try_from(*partition).unwrap()].said(*offset);
            let is_news = match (now, *told) {
                (None, _) | (_, None | Some(None)) => true,
                (Some((_, _, true)), _) => true,
                (Some((end, start, false)), Some(Some((told_end, told_start, _)))) => {
                    end != told_end || start != told_start
                }
            };
            if all || is_news {
                answer.insert(*partition, now);
                *told = Some(now);
            }
        }
        answer
    }
}

fn make_room(models: &mut Vec<Model>, slots: usize, size: usize, now: u64) -> bool {
    if models.len() < slots {
        return true;
    }
    let unused = models.iter().min_by_key(|model| (model.used, model.id)).unwrap();
    let evicted = if now - unused.used > 120 {
        unused.id
    } else {
        let old = models.iter().filter(|model| now - model.created > 120);
        match old.min_by_key(|model| (model.partitions.len(), model.id)) {
            Some(smallest) if smallest.partitions.len() < size => smallest.id,
            _ => return false,
        }
    };
    models.retain(|model| model.id != evicted);
    true
}

/// What the server does between a request and its answer.
fn serve(session: &mut Session<Sample>, logs: &[Log], all: bool) -> BTreeMap<i32, Said> {
    let mut fetched = Vec::new();
    session.resolve(|_, partition, asked| {
        let log = logs[usize::try_from(partition.0).unwrap()];
        fetched.push(log.read(asked.unwrap().offset.0));
    });
    said(&session.answer(fetched, all))
}

fn said(responses: &[FetchableTopicResponse]) -> BTreeMap<i32, Said> {
    let partitions: Vec<_> = responses.iter().flat_map(|topic| &topic.partitions).collect();
    let said: BTreeMap<_, _> = partitions
        .iter()
        .map(|one| {
            let content = (one.high_watermark, one.log_start_offset, !one.records.is_empty());
            (one.partition_index, (one.error_code == 0).then_some(content))
        })
        .collect();
    assert_eq!(said.len(), partitions.len(), "a partition is answered twice");
    said
}

fn converse(slots: usize, steps: Vec<Step>) {
    let start = Instant::now();
    let sessions = sessions(slots, BYTES_MAX);
    let mut logs = [Log::default(); PARTITIONS as usize];
    let mut models: Vec<Model> = Vec::new();
    let mut seconds = 0;
    for step in steps {
        let now = start + Duration::from_secs(seconds);
        let log = |partition: i32| usize::try_from(partition).unwrap();
        match step {
            Step::Produce { partition, records } => logs[log(partition)].end += records,
            Step::Trim(partition) => logs[log(partition)].start = logs[log(partition)].end,
            Step::Break(partition) => logs[log(partition)].broken = true,
            Step::Mend(partition) => logs[log(partition)].broken = false,
            Step::Wait(more) => seconds += more,
            Step::Full { keeps, closes, wanted } => {
                if let Some(model) = closes.and_then(|index| models.get(index)) {
                    sessions.close(model.id);
                    models.retain({
                        let id = model.id;
                        move |other| other.id != id
                    });
                }
                let partitions = wanted.iter().map(|(p, offset)| (*p, (*offset, None))).collect();
                let mut model =
                    Model { id: 0, epoch: 1, created: seconds, used: seconds, partitions };
                let mut session = Session::default();
                update(&mut session, &request(wanted));
                assert_eq!(serve(&mut session, &logs, true), model.answer(&logs, true));
                if keeps {
                    let has_room = make_room(&mut models, slots, model.partitions.len(), seconds);
                    model.id = sessions.keep(session, false, now);
                    assert_eq!(model.id != NO_SESSION, has_room);
                    models.extend(has_room.then_some(model));
                }
            }
            Step::Incremental { of, epoch_off, wanted, forgotten } => {
                let Some(model) = models.get_mut(of) else {
                    let refused = sessions.lend(NO_SESSION, 1, false, now).map(|lent| lent.id());
                    assert_eq!(refused, Err(ErrorCode::FetchSessionIdNotFound));
                    continue;
                };
                let lent = sessions.lend(model.id, model.epoch + epoch_off, false, now);
                if epoch_off != 0 {
                    let refused = lent.map(|lent| lent.id());
                    assert_eq!(refused, Err(ErrorCode::InvalidFetchSessionEpoch));
                    continue;
                }
                let mut lent = lent.unwrap();
                model.epoch += 1;
                model.used = seconds;
                for (partition, offset) in &wanted {
                    model.partitions.entry(*partition).or_insert((0, None)).0 = *offset;
                }
                model.partitions.retain(|partition, _| !forgotten.contains(partition));
                let session = lent.session();
                update(session, &request(wanted));
                let partitions = forgotten.into_iter().collect();
                let topic =
                    ForgottenTopic { topic: TOPIC.into(), partitions, ..Default::default() };
                session.forget(&[topic], false);
                assert_eq!(session.partition_count(), model.partitions.len());
                if session.partition_count() == 0 {
                    lent.close();
                    models.remove(of);
                    continue;
                }
                assert_eq!(serve(session, &logs, false), model.answer(&logs, false));
            }
        }
        let partitions: usize = models.iter().map(|model| model.partitions.len()).sum();
        assert_eq!(sessions.count(), models.len());
        assert_eq!(sessions.bytes(), partitions * (PARTITION_BYTES + TOPIC.len()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn conversations_go_as_the_kip_says(
        slots in 1_usize..4,
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        converse(slots, steps);
    }
}
