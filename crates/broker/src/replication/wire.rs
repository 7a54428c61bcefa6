//! What brokers say to each other, as messages and as the rules take it.
//!
//! A message that decodes may still say what cannot be; [`Malformed`] names it, and whoever sent it is not listened to any more (B52).

use bytes::Bytes;
use thalweg_log_core::EpochEnd;
use thalweg_metadata_feed::codec;
use thalweg_proto::internal::replication::v1 as proto;
use thalweg_replication_core::{
    Answer, Fitness, Handshake, HandshakeRefusal, PushCursor, Report, Verdict,
};
use thalweg_types::{
    BrokerEpoch, DirId, ErrorCode, LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId,
    TopicIdPartition, Uuid,
};

/// A message that no broker of ours would send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is missing or malformed")]
pub(crate) struct Malformed(pub(crate) &'static str);

// ---- Parts ----

pub(crate) fn id_to_proto(id: TopicIdPartition) -> proto::TopicIdPartition {
    let topic_id = codec::uuid_to_proto(id.topic_id.0);
    proto::TopicIdPartition { topic_id, partition: id.partition.0 }
}

pub(crate) fn id_from_proto(
    id: Option<proto::TopicIdPartition>,
) -> Result<TopicIdPartition, Malformed> {
    let id = id.ok_or(Malformed("partition"))?;
    let topic_id = TopicId(uuid(&id.topic_id, "topic_id")?);
    Ok(TopicIdPartition { topic_id, partition: PartitionIndex(id.partition) })
}

pub(crate) fn uuid(bytes: &Bytes, field: &'static str) -> Result<Uuid, Malformed> {
    <[u8; 16]>::try_from(&bytes[..]).map(Uuid::from_bytes).map_err(|_| Malformed(field))
}

fn fitness_to_proto(fitness: Fitness) -> i32 {
    let fitness = match fitness {
        Fitness::Fit => proto::Fitness::Fit,
        Fitness::Suspect => proto::Fitness::Suspect,
        Fitness::HaltedDiverged => proto::Fitness::HaltedDiverged,
    };
    fitness.into()
}

fn fitness_from_proto(fitness: i32) -> Result<Fitness, Malformed> {
    match proto::Fitness::try_from(fitness) {
        Ok(proto::Fitness::Fit) => Ok(Fitness::Fit),
        Ok(proto::Fitness::Suspect) => Ok(Fitness::Suspect),
        Ok(proto::Fitness::HaltedDiverged) => Ok(Fitness::HaltedDiverged),
        Ok(proto::Fitness::Unspecified) | Err(_) => Err(Malformed("fitness")),
    }
}

// ---- Follower to leader ----

pub(crate) fn handshake_to_proto(id: TopicIdPartition, handshake: &Handshake) -> proto::Handshake {
    proto::Handshake {
        partition: Some(id_to_proto(id)),
        dir_id: codec::uuid_to_proto(handshake.dir_id.0),
        leader_epoch: handshake.leader_epoch.0,
        log_end: handshake.log_end.0,
        last_epoch: handshake.last_epoch.0,
        flushed_end: handshake.flushed_end.0,
        fitness: fitness_to_proto(handshake.fitness),
        attempt: handshake.attempt,
    }
}

/// `node` in its session `broker_epoch` is who opened the stream.
pub(crate) fn handshake_from_proto(
    (node, broker_epoch): (NodeId, BrokerEpoch),
    handshake: proto::Handshake,
) -> Result<(TopicIdPartition, Handshake), Malformed> {
    let id = id_from_proto(handshake.partition)?;
    let handshake = Handshake {
        node,
        broker_epoch,
        dir_id: DirId(uuid(&handshake.dir_id, "dir_id")?),
        leader_epoch: LeaderEpoch(handshake.leader_epoch),
        log_end: Offset(handshake.log_end),
        last_epoch: LeaderEpoch(handshake.last_epoch),
        flushed_end: Offset(handshake.flushed_end),
        fitness: fitness_from_proto(handshake.fitness)?,
        attempt: handshake.attempt,
    };
    Ok((id, handshake))
}

pub(crate) fn report_to_proto(id: TopicIdPartition, report: &Report) -> proto::Report {
    proto::Report {
        partition: Some(id_to_proto(id)),
        session: report.session,
        leader_epoch: report.leader_epoch.0,
        log_end: report.log_end.0,
        flushed_end: report.flushed_end.0,
        fitness: fitness_to_proto(report.fitness),
    }
}

pub(crate) fn report_from_proto(
    report: proto::Report,
) -> Result<(TopicIdPartition, Report), Malformed> {
    let id = id_from_proto(report.partition)?;
    let report = Report {
        session: report.session,
        leader_epoch: LeaderEpoch(report.leader_epoch),
        log_end: Offset(report.log_end),
        flushed_end: Offset(report.flushed_end),
        fitness: fitness_from_proto(report.fitness)?,
    };
    Ok((id, report))
}

// ---- Leader to follower ----

pub(crate) fn answer_to_proto(id: TopicIdPartition, answer: &Answer) -> proto::Answer {
    use proto::answer::Verdict as Told;
    let verdict = match answer.verdict {
        Verdict::Accepted { session, high_watermark, log_start } => {
            Told::Accepted(proto::Accepted {
                session,
                high_watermark: high_watermark.0,
                log_start: log_start.0,
            })
        }
        Verdict::Diverging { end, log_start } => Told::Diverging(proto::Diverging {
            epoch: end.epoch.0,
            end_offset: end.end_offset.0,
            log_start: log_start.0,
        }),
        Verdict::OutOfRange { log_start } => {
            Told::OutOfRange(proto::OutOfRange { log_start: log_start.0 })
        }
        Verdict::Refused(refusal) => Told::Refused(i32::from(refusal.code().code())),
    };
    proto::Answer {
        partition: Some(id_to_proto(id)),
        leader_epoch: answer.leader_epoch.0,
        attempt: answer.attempt,
        verdict: Some(verdict),
    }
}

/// With the code of a refusal, which the rules only need to know as one.
pub(crate) fn answer_from_proto(
    answer: proto::Answer,
) -> Result<(TopicIdPartition, Answer, Option<ErrorCode>), Malformed> {
    use proto::answer::Verdict as Told;
    let id = id_from_proto(answer.partition)?;
    let mut refused = None;
    let verdict = match answer.verdict.ok_or(Malformed("verdict"))? {
        Told::Accepted(accepted) => Verdict::Accepted {
            session: accepted.session,
            high_watermark: position(accepted.high_watermark, "high_watermark")?,
            log_start: position(accepted.log_start, "log_start")?,
        },
        Told::Diverging(diverging) => {
            let epoch = LeaderEpoch(diverging.epoch);
            let end_offset = position(diverging.end_offset, "end_offset")?;
            let end = EpochEnd { epoch, end_offset };
            Verdict::Diverging { end, log_start: position(diverging.log_start, "log_start")? }
        }
        Told::OutOfRange(range) => {
            Verdict::OutOfRange { log_start: position(range.log_start, "log_start")? }
        }
        Told::Refused(code) => {
            let code = i16::try_from(code).ok().and_then(ErrorCode::from_code);
            refused = Some(code.unwrap_or(ErrorCode::UnknownServerError));
            Verdict::Refused(HandshakeRefusal::NotLeader)
        }
    };
    let leader_epoch = LeaderEpoch(answer.leader_epoch);
    Ok((id, Answer { leader_epoch, attempt: answer.attempt, verdict }, refused))
}

fn position(offset: i64, field: &'static str) -> Result<Offset, Malformed> {
    if offset < 0 { Err(Malformed(field)) } else { Ok(Offset(offset)) }
}

pub(crate) fn push_to_proto(
    id: TopicIdPartition,
    cursor: &PushCursor,
    batches: Vec<Bytes>,
) -> proto::Push {
    proto::Push {
        partition: Some(id_to_proto(id)),
        session: cursor.session,
        leader_epoch: cursor.leader_epoch.0,
        batches,
        high_watermark: cursor.high_watermark.0,
        log_start: cursor.log_start.0,
        log_end: cursor.log_end.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> TopicIdPartition {
        let topic_id = TopicId(Uuid::from_bytes([7; 16]));
        TopicIdPartition { topic_id, partition: PartitionIndex(3) }
    }

    fn handshake() -> Handshake {
        Handshake {
            node: NodeId(2),
            broker_epoch: BrokerEpoch(9),
            dir_id: DirId(Uuid::from_bytes([8; 16])),
            leader_epoch: LeaderEpoch(4),
            log_end: Offset(100),
            last_epoch: LeaderEpoch(3),
            flushed_end: Offset(90),
            fitness: Fitness::Suspect,
            attempt: 5,
        }
    }

    #[test]
    fn what_is_said_is_what_is_heard() {
        let said = handshake();
        let heard =
            handshake_from_proto((NodeId(2), BrokerEpoch(9)), handshake_to_proto(id(), &said));
        assert_eq!(heard, Ok((id(), said)));
        let report = Report {
            session: 6,
            leader_epoch: LeaderEpoch(4),
            log_end: Offset(7),
            flushed_end: Offset(6),
            fitness: Fitness::HaltedDiverged,
        };
        assert_eq!(report_from_proto(report_to_proto(id(), &report)), Ok((id(), report)));
        let end = EpochEnd { epoch: LeaderEpoch(2), end_offset: Offset(50) };
        for verdict in [
            Verdict::Accepted { session: 1, high_watermark: Offset(8), log_start: Offset(2) },
            Verdict::Diverging { end, log_start: Offset(1) },
            Verdict::OutOfRange { log_start: Offset(11) },
        ] {
            let answer = Answer { leader_epoch: LeaderEpoch(4), attempt: 5, verdict };
            let heard = answer_from_proto(answer_to_proto(id(), &answer));
            assert_eq!(heard, Ok((id(), answer, None)));
        }
        let refusal = HandshakeRefusal::NotAssigned { node: NodeId(2) };
        let answer =
            Answer { leader_epoch: LeaderEpoch(4), attempt: 5, verdict: Verdict::Refused(refusal) };
        let (_, heard, code) = answer_from_proto(answer_to_proto(id(), &answer)).unwrap();
        assert_eq!(code, Some(refusal.code()));
        assert!(matches!(heard.verdict, Verdict::Refused(_)));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let session = (NodeId(2), BrokerEpoch(9));
        let whole = handshake_to_proto(id(), &handshake());
        let cases = [
            (proto::Handshake { partition: None, ..whole.clone() }, "partition"),
            (proto::Handshake { dir_id: Bytes::from_static(b"short"), ..whole.clone() }, "dir_id"),
            (proto::Handshake { fitness: 0, ..whole.clone() }, "fitness"),
            (proto::Handshake { fitness: 77, ..whole }, "fitness"),
        ];
        for (said, named) in cases {
            assert_eq!(handshake_from_proto(session, said), Err(Malformed(named)));
        }
        let answer = proto::Answer { partition: Some(id_to_proto(id())), ..Default::default() };
        assert_eq!(answer_from_proto(answer.clone()), Err(Malformed("verdict")));
        let verdict = proto::answer::Verdict::OutOfRange(proto::OutOfRange { log_start: -1 });
        let answer = proto::Answer { verdict: Some(verdict), ..answer };
        assert_eq!(answer_from_proto(answer), Err(Malformed("log_start")));
    }
}
