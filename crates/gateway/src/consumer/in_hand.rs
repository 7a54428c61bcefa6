//! What one fetch brought of one partition, taken out piece by piece.

use std::collections::VecDeque;

use bytes::Bytes;
use thalweg_proto::consumer::v1 as proto;
use thalweg_record::Batches;
use thalweg_rpc::Error;
use thalweg_types::Offset;

use super::decode::{self, Form};
use super::fetch::with_positions;
use crate::port::{FetchPartition, Fetched};

pub(super) struct InHand {
    /// Its offset is where the next piece begins.
    pub(super) partition: FetchPartition,
    form: Form,
    result: Result<Fetched, Error>,
    /// Not yet decoded; for records, one batch each.
    batches: VecDeque<Bytes>,
    /// Of the batch that was decoded last.
    records: VecDeque<proto::Record>,
    /// Where that batch ends.
    records_end: Offset,
}

impl InHand {
    pub(super) fn new(
        partition: FetchPartition,
        result: Result<Fetched, Error>,
        form: Form,
    ) -> Self {
        let records_end = partition.offset;
        let empty = Self {
            partition,
            form,
            result,
            batches: VecDeque::new(),
            records: VecDeque::new(),
            records_end,
        };
        let split = match &empty.result {
            Ok(fetched) if form == Form::Records => split(&fetched.batches),
            Ok(fetched) => Ok(fetched.batches.iter().cloned().collect()),
            Err(error) => Err(error.clone()),
        };
        match split {
            Ok(batches) => Self { batches, ..empty },
            Err(error) => Self { result: Err(error), ..empty },
        }
    }

    /// Everything has been taken out.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.records.is_empty()
    }

    /// The next piece, of about `budget_bytes`, and what it costs. At least one batch or record, if there is one.
    pub(super) async fn answer(&mut self, budget_bytes: usize) -> (proto::FetchedPartition, usize) {
        let mut answer = proto::FetchedPartition {
            topic: self.partition.topic.to_string(),
            partition: self.partition.partition.0,
            ..Default::default()
        };
        let mut bytes = 0;
        if let Ok(fetched) = &self.result {
            answer = with_positions(answer, fetched);
            let filled = match self.form {
                Form::Records => self.fill_records(&mut answer, budget_bytes).await,
                Form::Batches => self.fill_batches(&mut answer).await,
            };
            match filled {
                Ok(filled) => bytes = filled,
                Err(error) => self.fail(error),
            }
        }
        answer.error = self.result.as_ref().err().map(Error::to_detail);
        answer.next_offset = self.partition.offset.0;
        (answer, bytes)
    }

    async fn fill_records(
        &mut self,
        answer: &mut proto::FetchedPartition,
        budget_bytes: usize,
    ) -> Result<usize, Error> {
        let mut used_bytes = 0;
        loop {
            while let Some(record) = self.records.front() {
                let bytes = decode::charged_bytes(record);
                if used_bytes > 0 && used_bytes + bytes > budget_bytes {
                    return Ok(used_bytes);
                }
                used_bytes += bytes;
                self.partition.offset =
                    Offset(record.offset).checked_add(1).unwrap_or(self.records_end);
                answer.records.extend(self.records.pop_front());
            }
            self.partition.offset = self.partition.offset.max(self.records_end);
            let Some(batch) = self.batches.pop_front() else { return Ok(used_bytes) };
            let from = self.partition.offset;
            let decoded = decode::decode(Form::Records, vec![batch], from, usize::MAX).await?;
            self.records = decoded.records.into();
            self.records_end = decoded.next_offset.unwrap_or(from);
        }
    }

    /// All of them: the brokers were asked for as many as fit.
    async fn fill_batches(&mut self, answer: &mut proto::FetchedPartition) -> Result<usize, Error> {
        let batches = std::mem::take(&mut self.batches).into();
        let decoded =
            decode::decode(Form::Batches, batches, self.partition.offset, usize::MAX).await?;
        self.partition.offset = decoded.next_offset.unwrap_or(self.partition.offset);
        answer.batches = decoded.batches;
        Ok(decoded.bytes)
    }

    fn fail(&mut self, error: Error) {
        self.result = Err(error);
        self.batches.clear();
        self.records.clear();
    }
}

fn split(batches: &[Bytes]) -> Result<VecDeque<Bytes>, Error> {
    let mut single = VecDeque::new();
    for bytes in batches {
        for batch in Batches::new(bytes) {
            let (_, batch) = batch
                .map_err(|error| Error::new(error.code(), format!("the log's batch: {error}")))?;
            single.push_back(bytes.slice_ref(batch));
        }
    }
    Ok(single)
}
