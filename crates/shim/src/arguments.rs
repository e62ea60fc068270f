//! The command line, as containerd writes it: Go's flags, and one action after them.

/// What was typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) namespace: String,
    pub(crate) id: String,
    /// containerd's own socket; its name is part of ours.
    pub(crate) address: String,
    pub(crate) bundle: String,
    pub(crate) socket: String,
    /// Where events go; a flag of ours, for the server.
    pub(crate) events: String,
    /// What says nothing to us.
    pub(crate) unused: String,
    pub(crate) debug: bool,
    pub(crate) version: bool,
    pub(crate) info: bool,
    pub(crate) action: Action,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Action {
    Start,
    Delete,
    /// No word, or one that nobody knows: be the server.
    #[default]
    Serve,
}

impl Arguments {
    /// Reads them, or says what is wrong.
    pub(crate) fn read(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut read = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
                read.action = action(&word);
                return Ok(read);
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            if flag.is_empty() {
                read.action = words.next().as_deref().map_or(Action::Serve, action);
                return Ok(read);
            }
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            if let Some(switch) = read.switch(name) {
                *switch = value.as_deref().map_or(Ok(true), |value| truth(name, value))?;
                continue;
            }
            let slot = read.slot(name).ok_or_else(|| format!("flag provided but not defined: -{name}"))?;
            let value =
                value.or_else(|| words.next()).ok_or_else(|| format!("flag needs an argument: -{name}"))?;
            *slot = value;
        }
        Ok(read)
    }

    fn switch(&mut self, name: &str) -> Option<&mut bool> {
        Some(match name {
            "debug" => &mut self.debug,
            "v" | "version" => &mut self.version,
            "info" => &mut self.info,
            _ => return None,
        })
    }

    /// Where a value goes.
    fn slot(&mut self, name: &str) -> Option<&mut String> {
        Some(match name {
            "namespace" => &mut self.namespace,
            "id" => &mut self.id,
            "address" => &mut self.address,
            "bundle" => &mut self.bundle,
            "socket" => &mut self.socket,
            "events" => &mut self.events,
            "publish-binary" | "debug-socket" => &mut self.unused,
            _ => return None,
        })
    }
}

fn action(word: &str) -> Action {
    match word {
        "start" => Action::Start,
        "delete" => Action::Delete,
        _ => Action::Serve,
    }
}

/// As Go's strconv.ParseBool has it.
fn truth(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("invalid boolean value {value:?} for -{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments, String> {
        Arguments::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_are_written_in_all_of_gos_ways() -> Result<(), String> {
        let line =
            "-namespace k8s.io --id=web -address /run/c.sock -publish-binary /bin/containerd -debug start";
        let told = read(line)?;
        assert_eq!((told.namespace.as_str(), told.id.as_str()), ("k8s.io", "web"));
        assert_eq!((told.address.as_str(), told.debug), ("/run/c.sock", true));
        assert_eq!(told.action, Action::Start);
        assert_eq!(read("-debug=false -bundle /b delete")?.action, Action::Delete);
        assert_eq!(read("-id x")?.action, Action::Serve);
        assert_eq!(read("-id x -- delete")?.action, Action::Delete);
        // What follows an action is not looked at.
        assert_eq!(read("start -nonsense")?.action, Action::Start);
        assert!(read("-v")?.version && read("-version")?.version && read("-info")?.info);
        Ok(())
    }

    #[test]
    fn what_nobody_knows_is_refused() {
        for (line, why) in [
            ("-nonsense", "flag provided but not defined: -nonsense"),
            ("-id", "flag needs an argument: -id"),
            ("-debug=perhaps", "invalid boolean value \"perhaps\" for -debug"),
        ] {
            assert_eq!(read(line), Err(why.to_owned()));
        }
    }
}
