//! The plan: what will be done, as data, before anything is done.
//!
//! Touches: nothing.
//! Never:   opens a file, reads a clock, asks the kernel; what it must know of the host is in [`Host`].
//! Begin with [`compile()`].

mod agent;
mod below;
pub mod cgroup;
mod clean;
mod compile;
mod console;
mod device;
mod exec;
mod hook;
mod host;
mod label;
mod manner;
pub mod map;
mod mount;
mod notify;
mod refuse;
pub mod resources;
mod rootless;
pub mod sandbox;
mod seccomp;
mod step;
pub mod systemd;
mod tell;
mod update;

pub use agent::{Agent, Discard, Handover};
pub use below::Below;
pub use compile::{Plan, compile};
pub use exec::{ExecPlan, ExecRequest, compile_exec};
pub use hook::{Hook, Later};
pub use host::{Caller, Host, Inner, Request};
pub use label::{Label, Modules, has_labels};
pub use manner::Manner;
pub use map::{Handle, Idmap, Maps};
pub use mount::{Links, Mount, Propagation, PropagationKind, Remount, Source};
pub use refuse::Refused;
pub use seccomp::{Filter, Kept, filter_key};
pub use step::{Act, Capabilities, Console, Master, Node, Numbers, Program, Scheduling, Step, Walk};
pub use update::{DeviceChange, Hierarchy, Update, compile_managed_update, compile_update};
