//! Where create meets init half-way, and where its hooks are run.

use plan::Hook;
use spec::Status;
use sys::Failed;

use super::{Making, written};
use crate::hooks::{self, Aftermath, state_of};
use crate::{Error, Kind, Written};

impl Making<'_> {
    /// Hooks are to be run now: `delete` must find init, and knows from here on that it owes those of poststop.
    pub(super) fn meet(&mut self, record: Option<&mut Written>) -> Result<(), Error> {
        let record = record.ok_or_else(|| Failed::refused("the plan has hooks before a record"))?;
        let born = self.born()?;
        born.meet(self.signals(), || self.died())?;
        record.init = Some(written(born.pid, &born.process)?);
        record.hooks_begun = true;
        self.entry()?.write(record)?;
        self.undo.aftermath = Aftermath::of(record);
        Ok(())
    }

    pub(super) fn hook(&self, hook: &Hook, record: Option<&Written>) -> Result<(), Error> {
        let (Some(record), Some(blocked)) = (record, &self.undo.blocked) else {
            return Err(Failed::refused("the plan has a hook before init").into());
        };
        let state = state_of(record, Status::Creating, self.born()?.pid);
        hooks::run([hook], &state, blocked.manner())
    }

    /// The program runs. The lock is let go, since a hook may well ask us for something that waits for it.
    pub(super) fn poststart(&mut self, record: &Written) -> Result<(), Error> {
        let Some(blocked) = self.undo.blocked.as_ref().filter(|_| !record.hooks.poststart.is_empty()) else {
            return Ok(());
        };
        if let Some(entry) = self.undo.entry.take() {
            entry.release()?;
        }
        let state = state_of(record, Status::Running, self.born()?.pid);
        let Err(error) = hooks::run(&record.hooks.poststart, &state, blocked.manner()) else {
            return Ok(());
        };
        match self.containers.lock(&record.id) {
            Ok(entry) => self.undo.entry = Some(entry),
            // Somebody, a hook perhaps, was faster with taking it away.
            Err(gone) if gone.kind() == Kind::NotFound => self.undo.aftermath = None,
            Err(second) => return Err(error.and_then(&second)),
        }
        Err(error)
    }
}
