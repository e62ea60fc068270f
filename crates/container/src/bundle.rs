//! From a bundle on disk to a plan.

use cgroup::Systemd;
use plan::systemd::{Bus, Manager};
use plan::{Host, Kept, Plan, Request};
use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use rustix::process::{chdir, getcwd};
use spec::{NamespaceKind, Resources, Spec};
use sys::{Called, Doing, Errno, read_whole};

use crate::{Containers, Error, Kind};

/// What is asked of `create` and `run`.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// The container's id.
    pub id: String,
    /// The bundle as typed; the working directory without it.
    pub bundle: Option<String>,
    /// `--rootless`: whether control groups may be left out that the caller may not make and nobody asked for; found out
    /// without it.
    pub rootless: Option<bool>,
    /// `--systemd-cgroup`: where the service managers may be that are to make the control groups, the best first.
    pub systemd: Option<Vec<Bus>>,
    /// Keep the caller's session keyring.
    pub keep_keyring: bool,
    /// Move the root instead of pivoting into it.
    pub no_pivot: bool,
    /// The directory of the notify socket, for a program whose service manager wants to hear from it.
    pub notify: Option<String>,
    /// Sockets from descriptor 3 on that somebody listens at for the program.
    pub listen_fds: u32,
    /// Descriptors after those that the program keeps.
    pub preserve_fds: u32,
    /// Whether the program is looked after by a first process of ours, which tells by the last of those descriptors how
    /// it ended.
    pub attended: bool,
    /// Where init's number is written, absolute.
    pub pid_file: Option<String>,
    /// Whether the program waits for `start`.
    pub gated: bool,
    /// Whether how init ended is kept, by a process that outlives us.
    pub keep_status: bool,
    /// Whether nobody of ours stays with the program.
    pub detached: bool,
    /// Who gets the master end of the program's terminal.
    pub console_socket: Option<String>,
    /// Whether it goes over the line of our [`Door`](crate::Door).
    pub console_line: bool,
    /// Who gets a pidfd of init.
    pub pidfd_socket: Option<String>,
}

/// More is no configuration: it is an accident, or an attack on our memory.
const LARGEST: usize = 32 << 20;

/// Reads the bundle's config.json, asks the host what it can do, and compiles. Changes to the bundle's directory.
pub fn plan_bundle(order: &Order) -> Result<Plan, Error> {
    plan_with(order, |_| Kept::Nowhere)
}

impl Containers {
    /// [`plan_bundle`] for a container that is then created here: its filter need not be compiled again if it is kept below
    /// the state root.
    pub fn plan(&self, order: &Order) -> Result<Plan, Error> {
        plan_with(order, |spec| plan::filter_key(spec).map_or(Kept::Nowhere, |key| self.kept_filter(&key)))
    }
}

fn plan_with(order: &Order, kept: impl FnOnce(&Spec) -> Kept) -> Result<Plan, Error> {
    crate::check_id(&order.id)?;
    let bundle = enter(order.bundle.as_deref())?;
    let text = read_document("config.json", "config.json: the bundle has none")?;
    let spec = Spec::parse(&text)?;
    spec.check()?;
    let mut host: Host = probe::host()?;
    host.cgroups.rootless = order.rootless.unwrap_or(host.cgroups.rootless);
    host.cgroups.systemd = order.systemd.as_deref().map(manager).transpose()?;
    if plan::has_labels(&spec) {
        host.modules = probe::modules();
    }
    let request = Request {
        id: order.id.clone(),
        bundle,
        keeps_groups: joins_denied(&spec)?,
        keep_keyring: order.keep_keyring,
        no_pivot: order.no_pivot,
        notify: order.notify.clone(),
        listen_fds: order.listen_fds,
        preserve_fds: order.preserve_fds,
        attended: order.attended,
        keep_status: order.keep_status,
        gated: order.gated,
        detached: order.detached,
        console_socket: order.console_socket.clone(),
        console_line: order.console_line,
        pidfd_socket: order.pidfd_socket.clone(),
        pid_file: order.pid_file.clone(),
        filter: kept(&spec),
    };
    Ok(plan::compile(&spec, &host, &request)?)
}

/// Where the host's service manager may be, the best first: what somebody has set comes before what is found where it always
/// is.
pub fn host_buses(set: Option<String>) -> Vec<Bus> {
    let found = [("/run/systemd/private", true), ("/run/dbus/system_bus_socket", false)];
    let found = found.map(|(path, is_direct)| Bus {
        address: format!("unix:path={path}"),
        is_direct,
        is_user: false,
    });
    let set = set.map(|address| Bus { address, is_direct: false, is_user: false });
    set.into_iter().chain(found).collect()
}

/// The first of these service managers that can be reached.
pub fn manager(buses: &[Bus]) -> Result<Manager, Error> {
    Ok(Systemd::look(buses).doing(|| "--systemd-cgroup")?)
}

/// Whether the document joins a user namespace that denies setgroups(2), where its path tells a process that knows.
fn joins_denied(spec: &Spec) -> Result<bool, Error> {
    let namespaces = spec.linux.as_ref().map(|linux| linux.namespaces.as_slice()).unwrap_or_default();
    let users = namespaces.iter().find(|one| one.kind == NamespaceKind::User);
    let path = users.and_then(|users| users.path.as_deref()).unwrap_or_default();
    let pid = path.strip_prefix("/proc/").and_then(|rest| rest.strip_suffix("/ns/user"));
    match pid.filter(|pid| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit())) {
        // Of one that is gone the namespace cannot be joined either, which is then the error.
        Some(pid) => Ok(probe::denies_groups(pid).or_else(|failed| match failed.errno() {
            Some(Errno::NOENT) => Ok(false),
            _ => Err(failed),
        })?),
        None => Ok(false),
    }
}

/// The bundle's path, absolute and without links, as the kernel tells it.
fn enter(bundle: Option<&str>) -> Result<String, Error> {
    if let Some(bundle) = bundle.filter(|bundle| !bundle.is_empty()) {
        chdir(bundle).called(|| format!("chdir({bundle:?})")).doing(|| "open the bundle")?;
    }
    let here = getcwd(Vec::new()).called(|| "getcwd()").doing(|| "open the bundle")?;
    here.into_string().map_err(|_| Error::new(Kind::Invalid, "the bundle's path is not UTF-8"))
}

/// Reads a document of limits, as `update` takes it: the `linux.resources` of a config.json. `-` is standard input.
pub fn read_resources(path: &str) -> Result<Resources, Error> {
    let (name, text) = match path {
        "-" => ("standard input", read_stream()?),
        path => (path, read_document(path, &format!("{path}: there is no such file"))?),
    };
    Resources::parse(&text).map_err(|invalid| Error::new(Kind::Invalid, format!("{name}: {invalid}")))
}

fn read_stream() -> Result<Vec<u8>, Error> {
    let text = read_whole(rustix::stdio::stdin(), "standard input", 4096, LARGEST)?;
    if text.len() > LARGEST {
        return Err(Error::new(Kind::Invalid, format!("standard input: has more than {LARGEST} bytes")));
    }
    Ok(text)
}

/// A document as it stands in a file; `missing` tells that there is no such file.
pub(crate) fn read_document(path: &str, missing: &str) -> Result<Vec<u8>, Error> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let config = match openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Err(Error::new(Kind::Invalid, missing)),
        opened => opened.called(|| format!("open({path:?})"))?,
    };
    let size = fstat(&config).called(|| format!("fstat({path:?})"))?.st_size;
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    // One more than it has: the end comes with the first read.
    let text = if size > LARGEST { Vec::new() } else { read_whole(&config, path, size + 1, LARGEST)? };
    match size.max(text.len()) {
        size if size > LARGEST => {
            Err(Error::new(Kind::Invalid, format!("{path}: has {size} bytes, more than {LARGEST}")))
        }
        _ => Ok(text),
    }
}
