//! The active controller: one task that decides, one decision at a time.
//!
//! A decision is made on the image that holds everything decided before it. So the task proposes, waits until its facts are applied,
//! answers, and only then looks at the next call; when it does not know what became of a proposal, it first finds out. Callers may go away
//! at any time: what they asked for is carried through or not at all, and never leaves the next decision on an old image.

use std::sync::Arc;
use std::time::Duration;

use thalweg_env::{Clock, Random};
use thalweg_metadata_core::{
    Decision, Error as Refusal, Image, Policy, Record, SessionTiming, Sessions,
};
use thalweg_metadata_feed::encode_record;
use thalweg_raft::{Leadership, ProposeError, Quorum};
use thalweg_types::{ClusterId, LogIndex, Moment, Uuid};
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::CallError;
use crate::machine::State;

/// Calls that wait for the task. Each waits for one flush, so this is a fraction of a second's work.
const CALLS_WAITING_MAX: usize = 256;

/// How soon a leader that could not take up work tries again, if no call makes it try before.
const TAKE_UP_INTERVAL: Duration = Duration::from_secs(1);

/// Hands calls to the task. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Calls(mpsc::Sender<Call>);

/// A decision to make on the given image, or the reason why none can be made.
type Call = Box<dyn FnOnce(Result<At<'_>, CallError>) -> Decided + Send>;

/// What decisions are made on.
struct At<'a> {
    image: &'a Image,
    sessions: &'a mut Sessions,
    now: Moment,
}

/// A decision made: what to commit, and whom to tell the outcome.
struct Decided {
    records: Vec<Record>,
    answer: Answer,
}

type Answer = Box<dyn FnOnce(Result<LogIndex, CallError>) + Send>;

/// What the task wakes up for.
enum Event {
    Called(Call),
    Led,
    /// A session may have ended.
    Due,
}

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
    /// Who is alive, as this node has heard it since it took up work.
    sessions: Sessions,
    session_timing: SessionTiming,
    clock: Arc<dyn Clock>,
}

impl Calls {
    /// Decides, commits, applies. The index is one at which the response holds.
    pub(crate) async fn decide<R, F>(&self, decide: F) -> Result<(LogIndex, R), CallError>
    where
        R: Send + 'static,
        F: FnOnce(&Image) -> Result<Decision<R>, Refusal> + Send + 'static,
    {
        self.decide_in_session(|image, _, _| decide(image)).await
    }

    /// The same, for what depends on who is alive or says so.
    pub(crate) async fn decide_in_session<R, F>(
        &self,
        decide: F,
    ) -> Result<(LogIndex, R), CallError>
    where
        R: Send + 'static,
        F: FnOnce(&Image, &mut Sessions, Moment) -> Result<Decision<R>, Refusal> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let call: Call = Box::new(move |at| {
            // A caller that went away does not want to know.
            let tell = |outcome| drop(sender.send(outcome));
            match at.and_then(|At { image, sessions, now }| Ok(decide(image, sessions, now)?)) {
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
        clock: Arc<dyn Clock>,
        session_timing: SessionTiming,
    ) -> (Calls, Self) {
        let (sender, calls) = mpsc::channel(CALLS_WAITING_MAX);
        let sessions = Sessions::take_over(&Image::default(), session_timing, Moment(0));
        let active = Self {
            quorum,
            state,
            random,
            policy,
            calls,
            active_epoch: None,
            sessions,
            session_timing,
            clock,
        };
        (Calls(sender), active)
    }

    /// Until `stop` says so or every [`Calls`] is gone. The decision under way is finished first.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut leadership = self.quorum.leadership();
        let mut passed_over = 0;
        loop {
            let next = self.until_next_session_ends();
            let overdue = next.is_some_and(|next| next.is_zero());
            passed_over = if overdue { passed_over + 1 } else { 0 };
            if passed_over > CALLS_WAITING_MAX {
                // Whatever waited when the session ended has been looked at.
                passed_over = 0;
                self.fence_silent().await;
                continue;
            }
            // Calls before sessions: a heartbeat that waits here is a sign of life.
            let event = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                Ok(()) = leadership.changed() => Event::Led,
                call = self.calls.recv() => match call {
                    Some(call) => Event::Called(call),
                    None => break,
                },
                () = tokio::time::sleep(next.unwrap_or_default()), if next.is_some() => Event::Due,
            };
            match event {
                Event::Called(call) => self.serve(call).await,
                Event::Led => self.welcome_lead().await,
                Event::Due => self.fence_silent().await,
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
        // Nobody has been heard of yet: everybody has a whole timeout.
        let image = self.state.feed.image();
        self.sessions = Sessions::take_over(&image, self.session_timing, self.now());
        Ok(())
    }

    fn now(&self) -> Moment {
        Moment(self.clock.monotonic_ns() / 1_000_000)
    }

    /// `None`: there is none, or this is not the active controller.
    fn until_next_session_ends(&self) -> Option<Duration> {
        if !matches!(*self.quorum.leadership().borrow(), Leadership::Leading { .. }) {
            return None;
        }
        if self.active_epoch.is_none() {
            // It leads but could not take up work, or has lost sight of a decision.
            return Some(TAKE_UP_INTERVAL);
        }
        let due = self.sessions.next_deadline()?;
        Some(Duration::from_millis(due.ms_since(self.now())))
    }

    /// Fences the brokers that have been silent for too long (R11).
    async fn fence_silent(&mut self) {
        if self.take_up_work().await.is_err() {
            // Whoever is active keeps sessions of its own.
            self.active_epoch = None;
            return;
        }
        let expired = self.sessions.take_expired(&self.state.feed.image(), self.now());
        for node_id in expired {
            let fenced = match self.state.feed.image().decide_fence(node_id) {
                Ok(decision) => self.commit(&decision.records).await,
                Err(refusal) => Err(refusal.into()),
            };
            match fenced {
                Ok(_) => tracing::warn!(%node_id, "node fenced: it was not heard of in time"),
                Err(error) => {
                    tracing::warn!(%node_id, %error, "a silent node was not fenced yet");
                    // With new sessions, it is tried again after another timeout.
                    self.active_epoch = None;
                    return;
                }
            }
        }
    }

    async fn carry_out(&mut self, call: Call) {
        let now = self.now();
        let image = self.state.feed.image();
        let at = At { image: &image, sessions: &mut self.sessions, now };
        let Decided { records, answer } = call(Ok(at));
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
