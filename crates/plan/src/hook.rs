//! Hooks: which are run by whom, and when.

use serde::{Deserialize, Serialize};
use spec::Spec;

use crate::step::{Act, Step};

/// A program of the host's, or for `startContainer` of the container's, that is run at one moment of a container's life.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Hook {
    /// Where the document has it: `hooks.prestart[0]`.
    pub field: String,
    /// The file that is executed, absolute.
    pub path: String,
    /// Its whole argument vector; never empty.
    pub args: Vec<String>,
    /// Its whole environment; none for the one that the container's program gets.
    #[serde(default)]
    pub env: Option<Vec<String>>,
    /// Seconds until it is killed; none where it may take for ever.
    #[serde(default)]
    pub timeout: Option<u64>,
}

impl Hook {
    /// Which one it is, as runc tells it and others look for it: `prestart hook #0`.
    pub fn words(&self) -> String {
        let place = self.field.strip_prefix("hooks.").and_then(|rest| rest.strip_suffix(']'));
        match place.and_then(|place| place.split_once('[')) {
            Some((kind, at)) => format!("{kind} hook #{at}"),
            None => self.field.clone(),
        }
    }
}

/// Hooks that are run after init was let go, by whichever command comes to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Later {
    /// Once the program runs.
    #[serde(default)]
    pub poststart: Vec<Hook>,
    /// Once the container is no more.
    #[serde(default)]
    pub poststop: Vec<Hook>,
}

/// All hooks of a document, each as the act or the step that it becomes.
#[derive(Debug, Default)]
pub(crate) struct Moments {
    /// `prestart` and `createRuntime`, by the parent, while init waits with its mounts made.
    pub(crate) outside: Vec<Act>,
    /// `createContainer`, by init before it enters its root.
    pub(crate) before_root: Vec<Step>,
    /// `startContainer`, by init before it becomes the program.
    pub(crate) before_program: Vec<Step>,
    /// The rest.
    pub(crate) later: Later,
}

impl Moments {
    pub(crate) fn of(spec: &Spec) -> Self {
        let Some(hooks) = &spec.hooks else { return Self::default() };
        let prestart = each("prestart", &hooks.prestart);
        let create_runtime = each("createRuntime", &hooks.create_runtime);
        let start_container = each("startContainer", &hooks.start_container).map(|hook| {
            // As runc has it, and for this kind alone: who says nothing of the environment gets the program's.
            Hook { env: hook.env.filter(|env| !env.is_empty()), ..hook }
        });
        Self {
            outside: prestart.chain(create_runtime).map(Act::Hook).collect(),
            before_root: each("createContainer", &hooks.create_container).map(Step::CreateHook).collect(),
            before_program: start_container.map(Step::StartHook).collect(),
            later: Later {
                poststart: each("poststart", &hooks.poststart).collect(),
                poststop: each("poststop", &hooks.poststop).collect(),
            },
        }
    }

    /// Whether init and its parent must meet half-way: whoever runs hooks first has it written down.
    pub(crate) fn meets(&self) -> bool {
        !self.outside.is_empty() || !self.before_root.is_empty()
    }
}

fn each(kind: &'static str, hooks: &[spec::Hook]) -> impl Iterator<Item = Hook> {
    hooks.iter().enumerate().map(move |(at, hook)| Hook {
        field: format!("hooks.{kind}[{at}]"),
        path: hook.path.clone(),
        args: if hook.args.is_empty() { vec![hook.path.clone()] } else { hook.args.clone() },
        env: Some(hook.env.clone()),
        // What is not above 0 was refused with the document.
        timeout: hook.timeout.and_then(|seconds| u64::try_from(seconds).ok()),
    })
}
