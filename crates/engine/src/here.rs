//! A task on this kernel: the rooms below, in a worker.

use container::{Containers, ExecOrder, Order, Removed, host_buses};
use spec::Resources;
use sys::Mask;

use crate::task::{Create, Exec, Streams};
use crate::work::Bench;
use crate::{Error, Kind, Watched, Work, layers};

/// A container of the host's kernel, below a state root.
#[derive(Clone, Debug)]
pub struct Here {
    /// The state root.
    pub root: String,
    /// The container's id.
    pub id: String,
    /// The signal mask that every program gets, and every hook.
    pub mask: Mask,
    /// Where somebody says that the host's systemd is to be found (`DBUS_SYSTEM_BUS_ADDRESS`).
    pub bus: Option<String>,
}

impl Here {
    fn containers(&self) -> Containers {
        Containers::under(&self.root)
    }

    fn at(&self, bench: &mut Bench) -> Result<Containers, Error> {
        Ok(self.containers().at(bench.door()?))
    }

    /// Work without streams and terminal.
    fn plainly(&self, act: impl FnOnce(&Containers) -> Result<Vec<String>, Error>) -> Result<Work, Error> {
        Work::begin(&Streams::default(), false, &self.mask, |_| act(&self.containers()))
    }

    pub(crate) fn create(
        &self,
        order: Create,
        streams: &Streams<'_>,
        prepare: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Work, Error> {
        let (terminal, more) = (order.terminal, streams.more.len());
        if terminal && more > 0 {
            return Err(Error::new(Kind::Invalid, "a program with a terminal gets no other descriptors"));
        }
        let more = u32::try_from(more).map_err(|_| Error::new(Kind::Invalid, "too many descriptors"))?;
        Work::begin(streams, terminal, &self.mask, |bench| {
            prepare()?;
            self.make(order, more, bench)
        })
    }

    fn make(&self, order: Create, more: u32, bench: &mut Bench) -> Result<Vec<String>, Error> {
        let rootfs = format!("{}/rootfs", order.bundle);
        layers::mount(&rootfs, &order.layers)?;
        let has_layers = !order.layers.is_empty();
        self.make_in(order, more, bench).map_err(|error| match layers::detach(&rootfs) {
            Err(second) if has_layers => error.and_then(&second),
            _ => error,
        })
    }

    fn make_in(&self, order: Create, more: u32, bench: &mut Bench) -> Result<Vec<String>, Error> {
        let containers = self.at(bench)?;
        let order = Order {
            id: self.id.clone(),
            pid_file: order.pid_file.then(|| format!("{}/init.pid", order.bundle)),
            bundle: Some(order.bundle),
            systemd: order.systemd.then(|| host_buses(self.bus.clone())),
            keep_keyring: order.keep_keyring,
            no_pivot: order.no_pivot,
            gated: !order.at_once,
            detached: true,
            console_line: order.terminal,
            preserve_fds: more,
            attended: order.attended,
            ..Order::default()
        };
        let plan = containers.plan(&order)?;
        let created = containers.create(&plan)?;
        let warnings = created.warnings.clone();
        created.leave()?;
        Ok(warnings)
    }

    pub(crate) fn start(&self) -> Result<Work, Error> {
        self.plainly(|containers| Ok(containers.start(&self.id, None).map(|()| Vec::new())?))
    }

    pub(crate) fn exec(&self, order: Exec, streams: &Streams<'_>) -> Result<Work, Error> {
        Work::begin(streams, order.terminal, &self.mask, |bench| {
            let containers = self.at(bench)?;
            let order = ExecOrder {
                id: self.id.clone(),
                text: Some(order.process),
                terminal: order.terminal,
                console_line: order.terminal,
                detached: true,
                ..ExecOrder::default()
            };
            let executed = containers.exec(&order)?;
            let warnings = executed.warnings.clone();
            executed.leave()?;
            Ok(warnings)
        })
    }

    pub(crate) fn kill(&self, signal: i32, all: bool) -> Result<Work, Error> {
        self.plainly(|containers| {
            let told =
                if all { containers.kill_all(&self.id, signal) } else { containers.kill(&self.id, signal) };
            Ok(told.map(|()| Vec::new())?)
        })
    }

    pub(crate) fn pause(&self) -> Result<Work, Error> {
        self.plainly(|containers| Ok(containers.pause(&self.id).map(|()| Vec::new())?))
    }

    pub(crate) fn resume(&self) -> Result<Work, Error> {
        self.plainly(|containers| Ok(containers.resume(&self.id).map(|()| Vec::new())?))
    }

    pub(crate) fn update(&self, resources: &[u8]) -> Result<Work, Error> {
        self.plainly(|containers| {
            let asked = Resources::parse(resources)
                .map_err(|invalid| Error::new(Kind::Invalid, format!("resources: {invalid}")))?;
            Ok(containers.update(&self.id, &asked)?)
        })
    }

    pub(crate) fn delete(&self, rootfs: Option<&str>) -> Result<Work, Error> {
        self.plainly(|_| self.delete_now(rootfs))
    }

    /// What cannot be removed does not keep the rest.
    pub(crate) fn delete_now(&self, rootfs: Option<&str>) -> Result<Vec<String>, Error> {
        let removed = self.containers().delete(&self.id, true).map_err(Error::from);
        let detached = rootfs.map_or(Ok(()), layers::detach);
        match (removed, detached) {
            (Ok(removed), Ok(())) => Ok(match removed {
                Removed::Whole(warnings) => warnings,
                Removed::Unreadable(why) => vec![why],
                Removed::Empty | Removed::Nothing => Vec::new(),
            }),
            (Err(error), Ok(())) => Err(error),
            (Ok(_), Err(failed)) => Err(failed.into()),
            (Err(error), Err(failed)) => Err(error.and_then(&failed)),
        }
    }

    pub(crate) fn is_there(&self) -> Result<bool, Error> {
        match self.containers().find(&self.id) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == container::Kind::NotFound => Ok(false),
            // A record that cannot be read is one more thing to remove.
            Err(error) if error.kind() == container::Kind::Invalid => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn has_own_pids(&self) -> Result<bool, Error> {
        Ok(self.containers().find(&self.id)?.record.own_pids)
    }

    pub(crate) fn processes(&self) -> Result<Vec<i32>, Error> {
        Ok(self.containers().processes(&self.id)?)
    }

    pub(crate) fn watched(&self) -> Result<Watched, Error> {
        Ok(self.containers().watched(&self.id)?)
    }
}
