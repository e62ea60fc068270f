//! Where create hands the listener of init's filter to the agent.

use plan::Agent;
use spec::Status;
use sys::Failed;

use super::Making;
use crate::agent::Line;
use crate::hooks::state_of;
use crate::{Error, Written};

impl Making<'_> {
    /// Init waits meanwhile: it makes no call that the agent could not be asked about. The agent is called only now: one
    /// that serves its callers in turn would else wait for our hooks.
    pub(super) fn answer(&self, agent: &Agent, record: Option<&Written>) -> Result<(), Error> {
        let record = record.ok_or_else(|| Failed::refused("the plan has an agent before a record"))?;
        let born = self.born()?;
        let listener = born.listener(self.signals(), || self.died())?;
        let state = state_of(record, Status::Creating, born.pid);
        Ok(Line::to(agent)?.give(listener, born.pid, state)?)
    }
}
