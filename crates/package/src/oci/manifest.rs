//! From an image's configuration to a manifest.

use std::fmt::Write as _;

use serde_json::Value;

use super::layer::{find_program, text_of};
use super::{Image, items};
use crate::error::Error;
use crate::version::Version;

/// What whoever packs wants to be otherwise than the image tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// What the package is called.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// The user that its program runs as.
    pub uid: Option<u16>,
    /// The group.
    pub gid: Option<u16>,
}

/// Who runs what an image wants to be run by root: a package has no root.
const NOT_ROOT: u16 = 1000;

impl Image {
    /// Writes a manifest that runs the image's program with its environment, user, working directory and volume. Files
    /// of root's become those of whoever runs it in place of root.
    pub fn manifest(&mut self, wishes: &Wishes) -> Result<String, Error> {
        let config = self.config["config"].clone();
        let cwd = config["WorkingDir"].as_str().filter(|cwd| !cwd.is_empty()).unwrap_or("/").to_owned();
        let env: Vec<(String, String)> = words(&config["Env"])
            .into_iter()
            .map(|one| {
                one.split_once('=')
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .unwrap_or((one, String::new()))
            })
            .collect();
        let command: Vec<String> = [words(&config["Entrypoint"]), words(&config["Cmd"])].concat();
        let (program, args) = command
            .split_first()
            .ok_or_else(|| Error::invalid("the image has neither entrypoint nor command"))?;
        let path = env.iter().find(|(key, _)| key == "PATH").map_or(PATH, |(_, value)| value.as_str());
        let init = find_program(&self.tree, program, path, &cwd).ok_or_else(|| {
            Error::invalid(format!("the image's program {} is not in it", spec::quoted(program)))
        })?;
        let (uid, gid) = self.user(config["User"].as_str().unwrap_or_default(), wishes)?;
        let (name, version) = self.name(wishes)?;

        let mut text = format!("name: {name}\nversion: {version}\ninit: {}\n", quote(&init));
        // Writing to a string cannot fail.
        let mut line = |what: String| writeln!(text, "{what}").unwrap_or_default();
        if !args.is_empty() {
            line(format!("args: [{}]", args.iter().map(|arg| quote(arg)).collect::<Vec<_>>().join(", ")));
        }
        if !env.is_empty() {
            line("env:".to_owned());
            for (key, value) in &env {
                line(format!("  {}: {}", quote(key), quote(value)));
            }
        }
        line(format!("uid: {uid}\ngid: {gid}\nmounts:"));
        line("  /dev: {type: dev}\n  /proc: {type: proc}\n  /run: {type: tmpfs, size: 16MiB}\n  /tmp: {type: tmpfs, size: 64MiB}".to_owned());
        let volumes: Vec<&String> =
            config["Volumes"].as_object().map(|all| all.keys().collect()).unwrap_or_default();
        match volumes.as_slice() {
            [] => {}
            [volume] => line(format!("  {}: {{type: persist}}", quote(volume))),
            _ => {
                return Err(Error::unsupported(format!(
                    "the image has {} volumes, and a package one directory that persists; write a manifest for it",
                    volumes.len()
                )));
            }
        }
        line("io: {stdout: inherit, stderr: inherit}".to_owned());
        if cwd != "/" {
            line(format!("custom: {{cofferdam: {{cwd: {}}}}}", quote(&cwd)));
        }
        Ok(text)
    }

    /// Who runs it. `1000:1000`, `www-data`, `www-data:adm` are looked up in the image's own lists.
    fn user(&mut self, user: &str, wishes: &Wishes) -> Result<(u16, u16), Error> {
        let (user, group) = user.split_once(':').map_or((user, None), |(user, group)| (user, Some(group)));
        let unknown = |what: &str, name: &str| {
            Error::invalid(format!("the image knows no {what} {}", spec::quoted(name)))
        };
        let (mut uid, mut gid) = match user {
            "" => (0, 0),
            user => match (user.parse::<u32>(), self.entry("/etc/passwd", user)) {
                (Ok(uid), _) => (uid, 0),
                (_, Some(fields)) => {
                    let number = |at: usize| fields.get(at).and_then(|field| field.parse().ok());
                    (number(2).ok_or_else(|| unknown("user", user))?, number(3).unwrap_or(0))
                }
                _ => return Err(unknown("user", user)),
            },
        };
        if let Some(group) = group {
            let by_name = || self.entry("/etc/group", group).and_then(|fields| fields.get(2)?.parse().ok());
            gid = group.parse().ok().or_else(by_name).ok_or_else(|| unknown("group", group))?;
        }
        let (is_root, is_roots) = (uid == 0, gid == 0);
        if is_root {
            uid = wishes.uid.unwrap_or(NOT_ROOT).into();
        }
        if is_roots {
            gid = wishes.gid.unwrap_or(NOT_ROOT).into();
        }
        for node in self.tree.nodes_mut() {
            if is_root && node.uid == 0 {
                node.uid = uid;
            }
            if is_roots && node.gid == 0 {
                node.gid = gid;
            }
        }
        let narrow = |what: &str, id: u32| {
            u16::try_from(id)
                .map_err(|_| Error::unsupported(format!("a {what} {id}: a package's are below 65536")))
        };
        Ok((
            narrow("user", wishes.uid.map_or(uid, u32::from))?,
            narrow("group", wishes.gid.map_or(gid, u32::from))?,
        ))
    }

    /// The fields of a name in one of the lists of users and groups.
    fn entry(&self, list: &str, name: &str) -> Option<Vec<String>> {
        let text = text_of(&self.tree, list)?;
        let mut entries = text.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
        entries.find(|fields| fields.first().is_some_and(|first| first == name))
    }

    fn name(&self, wishes: &Wishes) -> Result<(String, Version), Error> {
        let reference = self.reference.as_deref().unwrap_or_default();
        let last = reference.rsplit('/').next().unwrap_or_default();
        let (name, tag) = last.split_once(':').unwrap_or((last, ""));
        let name = wishes.name.clone().unwrap_or_else(|| name.to_owned());
        if name.is_empty() {
            return Err(Error::invalid("the image does not say what it is called: --name does"));
        }
        let version = match &wishes.version {
            Some(version) => Version::parse(version)?,
            // Most tags are no versions as a package has them.
            None => Version::parse(tag).unwrap_or(Version { major: 0, minor: 0, patch: 1 }),
        };
        Ok((name, version))
    }
}

/// Where programs are looked for by whom nobody told.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn words(value: &Value) -> Vec<String> {
    items(value).filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A text in quotes, as JSON and YAML both read it.
fn quote(text: &str) -> String {
    Value::from(text).to_string()
}
