//! What a broker holds its session by: a stream to the active controller, whose two ends notice its end on their own.

use thalweg_metadata_core::HoldId;
use thalweg_types::{BrokerEpoch, NodeId};

use super::{Asked, Broker};
use crate::env::{Env, Event};
use crate::message::{Ask, FIRST_CONTROLLER, Host};
use crate::rng::Rng;

pub(crate) struct Holds {
    pub(crate) are_used: bool,
    /// At which controller, by which stream.
    present: Option<(usize, HoldId)>,
    rng: Rng,
}

impl Holds {
    pub(super) fn new(seed: u64, host: Host) -> Self {
        Self { are_used: false, present: None, rng: Rng::new(seed, &format!("holds {host}")) }
    }

    /// The controller learns of it soon, late, or never: a machine that vanishes sends nothing.
    pub(super) fn process_ends(&mut self, env: &mut Env, broker: Host) {
        if let Some((controller, hold)) = self.present.take()
            && !self.rng.chance(200)
        {
            let delay = env.network.notice();
            let at = FIRST_CONTROLLER + controller;
            env.after(delay, Event::HoldEnds { at, broker, hold });
        }
    }

    /// Only the connection does, and both ends notice.
    pub(crate) fn break_off(&mut self, env: &mut Env, broker: Host) {
        if let Some((controller, hold)) = self.present {
            for at in [broker, FIRST_CONTROLLER + controller] {
                let delay = env.network.notice();
                env.after(delay, Event::HoldEnds { at, broker, hold });
            }
        }
    }
}

impl Broker {
    /// Opens the stream if there is none to the controller asked now, and now and then a second one.
    pub(super) fn hold_session(&mut self, env: &mut Env, session: (NodeId, BrokerEpoch)) {
        if !self.holds.are_used {
            return;
        }
        let is_held = self.holds.present.is_some_and(|(at, _)| at == self.controller);
        if !is_held || self.holds.rng.chance(30) {
            let hold = HoldId(env.fresh_id());
            let (node, epoch) = session;
            self.asked.retain(|_, asked| !matches!(asked, Asked::Hold { .. }));
            self.ask(env, Asked::Hold { hold }, Ask::Hold { node, epoch, hold });
        }
    }

    pub(super) fn handle_held(&mut self, env: &mut Env, hold: HoldId) {
        self.holds.present = Some((self.controller, hold));
        self.lease.reassure();
        self.refresh_lease(env);
    }

    /// Says at once that it lives, and does not rely on being heard.
    pub(crate) fn handle_hold_ended(&mut self, env: &mut Env, hold: HoldId) {
        let Some(session) = self.session else { return };
        if self.holds.present.take_if(|(_, present)| *present == hold).is_none() {
            return;
        }
        self.lease.doubt(self.moment(env));
        self.refresh_lease(env);
        self.beat(env, session);
    }
}
