//! The active controller: one task that decides, one decision at a time.
//!
//! A decision is made on the image that holds everything decided before it. So the task proposes, waits until its facts are applied,
//! answers, and only then looks at the next call; when it does not know what became of a proposal, it first finds out. Callers may go away
//! at any time: what they asked for is carried through or not at all, and never leaves the next decision on an old image.

use std::sync::Arc;

use thalweg_env::Random;
use thalweg_metadata_core::{Decision, Error as Refusal, Image, Policy, Record};
use thalweg_metadata_feed::encode_record;
use thalweg_raft::{Leadership, ProposeError, Quorum};
use thalweg_types::{ClusterId, LogIndex, Uuid};
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::CallError;
use crate::machine::State;

/// Calls that wait for the task. Each waits for one flush, so this is a fraction of a second's work.
const CALLS_WAITING_MAX: usize = 256;

/// Hands calls to the task. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Calls(mpsc::Sender<Call>);

/// A decision to make on the given image, or the reason why none can be made.
type Call = Box<dyn FnOnce(Result<&Image, CallError>) -> Decided + Send>;

/// A decision made: what to commit, and whom to tell the outcome.
struct Decided {
    records: Vec<Record>,
    answer: Answer,
}

type Answer = Box<dyn FnOnce(Result<LogIndex, CallError>) + Send>;

/// The task's own state.
pub(crate) struct Active {
    quorum: Arc<Quorum>,
    state: State,
    random: Arc<dyn Random>,
    policy: Arc<Policy>,
    calls: mpsc::Receiver<Call>,
    /// The epoch in which this node has taken up work: it knows everything committed before, and decided first what a new controller
    /// decides.
    active_epoch: Option<LogIndex>,
}

impl Calls {
    /// Decides, commits, applies. The index is one at which the response holds.
    pub(crate) async fn decide<R, F>(&self, decide: F) -> Result<(LogIndex, R), CallError>
    where
        R: Send + 'static,
        F: FnOnce(&Image) -> Result<Decision<R>, Refusal> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let call: Call = Box::new(move |image| {
            // A caller that went away does not want to know.
            let tell = |outcome| drop(sender.send(outcome));
            match image.and_then(|image| Ok(decide(image)?)) {
                Ok(Decision { records, response }) => Decided {
                    records,
                    answer: Box::new(move |outcome| tell(outcome.map(|index| (index, response)))),
                },
                Err(error) => Decided {
                    records: Vec::new(),
                    answer: Box::new(move |outcome| tell(outcome.and(Err(error)))),
                },
            }
        });
        self.0.send(call).await.map_err(|_| CallError::Stopping)?;
        receiver.await.unwrap_or(Err(CallError::Lost))
    }
}

impl Active {
    pub(crate) fn new(
        quorum: Arc<Quorum>,
        state: State,
        random: Arc<dyn Random>,
        policy: Arc<Policy>,
    ) -> (Calls, Self) {
        let (sender, calls) = mpsc::channel(CALLS_WAITING_MAX);
        let active = Self { quorum, state, random, policy, calls, active_epoch: None };
        (Calls(sender), active)
    }

    /// Until `stop` says so or every [`Calls`] is gone. The decision under way is finished first.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut leadership = self.quorum.leadership();
        loop {
            let call = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                Ok(()) = leadership.changed() => None,
                call = self.calls.recv() => match call {
                    Some(call) => Some(call),
                    None => break,
                },
            };
            match call {
                Some(call) => self.serve(call).await,
                None => self.welcome_lead().await,
            }
        }
        self.calls.close();
        while let Some(call) = self.calls.recv().await {
            refuse(call, CallError::Stopping);
        }
    }

    /// A new leader does not wait for a call: it takes up work at once.
    async fn welcome_lead(&mut self) {
        let now = *self.quorum.leadership().borrow();
        if matches!(now, Leadership::Leading { .. })
            && let Err(error) = self.take_up_work().await
        {
            tracing::warn!(%error, "this controller leads, but could not take up work; the next call tries again");
        }
    }

    async fn serve(&mut self, call: Call) {
        match self.take_up_work().await {
            Ok(()) => self.carry_out(call).await,
            Err(error) => refuse(call, error),
        }
    }

    /// Makes sure that the image holds everything decided before, by whomever.
    async fn take_up_work(&mut self) -> Result<(), CallError> {
        let leadership = *self.quorum.leadership().borrow();
        let Leadership::Leading { epoch } = leadership else {
            self.active_epoch = None;
            return Err(CallError::NotActive);
        };
        if self.active_epoch == Some(epoch) {
            // An isolated leader knows nothing new, and must not go on answering as if it did.
            return if self.quorum.is_confirmed() { Ok(()) } else { Err(CallError::Unconfirmed) };
        }
        self.quorum.ensure_linearizable().await?;
        let new_cluster_id = ClusterId(Uuid::from_random_bits(self.random.next_u128()));
        let decision = self.state.feed.image().decide_activate(new_cluster_id, &self.policy);
        self.commit(&decision.records).await?;
        if let Err(error) = self.quorum.announce_endpoint().await {
            tracing::warn!(%error, "the other controllers were not told this one's address");
        }
        tracing::info!(%epoch, cluster_id = %decision.response, "this node is the active controller");
        self.active_epoch = Some(epoch);
        Ok(())
    }

    async fn carry_out(&mut self, call: Call) {
        let Decided { records, answer } = call(Ok(&self.state.feed.image()));
        let outcome = self.commit(&records).await;
        if let Err(CallError::Uncommitted(ProposeError::OutcomeUnknown { .. })) = &outcome {
            // Whatever became of it must be in the image before the next decision.
            self.active_epoch = None;
        }
        answer(outcome);
    }

    async fn commit(&self, records: &[Record]) -> Result<LogIndex, CallError> {
        if records.is_empty() {
            return Ok(self.state.feed.image().position().index);
        }
        let facts = records.iter().map(encode_record).collect();
        Ok(self.quorum.propose(facts).await?)
    }
}

fn refuse(call: Call, error: CallError) {
    (call(Err(error)).answer)(Ok(LogIndex::ZERO));
}
