//! The program: what it is given, and what its process gives up and becomes before.

use std::collections::BTreeMap;

use spec::Process;

use crate::step::{Capabilities, Program, Step};
use crate::{Manner, Refused, clean};

pub(crate) fn program(process: &Process) -> Program {
    let mut env: Vec<String> = Vec::with_capacity(process.env.len() + 1);
    let mut places = BTreeMap::new();
    for pair in &process.env {
        let name = pair.split_once('=').map_or(pair.as_str(), |(name, _)| name);
        let place = *places.entry(name).or_insert(env.len());
        // The last of a name wins, in the place of the first.
        match env.get_mut(place) {
            Some(known) => known.clone_from(pair),
            None => env.push(pair.clone()),
        }
    }
    let has_home = has_home(&env);
    if !has_home {
        env.retain(|pair| !pair.starts_with("HOME="));
    }
    Program { args: process.args.clone(), env, cwd: clean::absolute(&process.cwd) }
}

impl Program {
    /// Sets a variable, in the place of one of this name.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        let pair = format!("{name}={value}");
        let is_it = |known: &&mut String| known.split_once('=').is_some_and(|(known, _)| known == name);
        match self.env.iter_mut().find(is_it) {
            Some(known) => *known = pair,
            None => self.env.push(pair),
        }
    }
}

fn has_home(env: &[String]) -> bool {
    env.iter().any(|pair| pair.strip_prefix("HOME=").is_some_and(|home| !home.is_empty()))
}

/// What the process gives up and becomes, the same for a container's first and for those that join it later.
pub(crate) struct Confined {
    pub(crate) steps: Vec<Step>,
    pub(crate) warnings: Vec<String>,
}

impl Confined {
    /// `bounding_now` is what it can give up. Without `umask` it keeps its own.
    pub(crate) fn compile(
        process: &Process,
        bounding_now: u64,
        program: &Program,
        manner: &Manner,
        umask: Option<u32>,
    ) -> Result<Self, Refused> {
        let (mut steps, mut warnings) = (Vec::new(), manner.warnings());
        if !has_home(&program.env) {
            steps.push(Step::Home(process.user.uid));
        }
        steps.push(Step::Go(program.cwd.clone()));
        let limits = process.rlimits.iter();
        steps.extend(limits.map(|limit| Step::Limit {
            kind: limit.kind,
            soft: limit.soft,
            hard: limit.hard,
        }));
        steps.extend(umask.map(Step::Umask));
        steps.extend(manner.profile());
        if process.no_new_privileges {
            steps.push(Step::NoNewPrivileges);
        }
        steps.extend(manner.steps()?);
        steps.extend(manner.program_label());
        let user = &process.user;
        let identity = Step::Become { uid: user.uid, gid: user.gid, groups: user.additional_gids.clone() };
        // Without the object there are none, as with runc: not those that our caller happens to have.
        let none = spec::Capabilities::default();
        let asked = process.capabilities.as_ref().unwrap_or(&none);
        let mut unknown = Vec::new();
        let mut set = |names: &[String]| {
            let mut bits = 0;
            for name in names {
                match spec::capability(name) {
                    Some(number) => bits |= 1 << number,
                    None => unknown.push(name.clone()),
                }
            }
            bits
        };
        let bounding: u64 = set(&asked.bounding);
        let kept = Capabilities {
            effective: set(&asked.effective),
            permitted: set(&asked.permitted),
            inheritable: set(&asked.inheritable),
            ambient: set(&asked.ambient),
        };
        // The kernel keeps over execve(2) only what is permitted and inheritable too; runc's own template asks for more,
        // and runc drops it without a word.
        let raised = kept.ambient & kept.permitted & kept.inheritable;
        if raised != kept.ambient {
            let lost = (0_usize..64).filter(|bit| (kept.ambient & !raised) & (1 << bit) != 0);
            let lost: Vec<&str> = lost.filter_map(|bit| spec::CAPABILITIES.get(bit).copied()).collect();
            let why = "not both permitted and inheritable";
            let lost = lost.join(", ");
            warnings
                .push(format!("process.capabilities.ambient: can't raise ambient capability {lost}: {why}"));
        }
        let kept = Capabilities { ambient: raised, ..kept };
        unknown.sort();
        unknown.dedup();
        if !unknown.is_empty() {
            warnings.push(format!("process.capabilities: ignoring unknown {}", unknown.join(", ")));
        }
        let dropped = bounding_now & !bounding;
        steps.extend((dropped != 0).then_some(Step::Bound(dropped)));
        steps.push(identity);
        steps.push(Step::Capabilities(kept));
        Ok(Self { steps, warnings })
    }
}
