//! Control groups below a container's own, as `exec --cgroup` names them.

use std::collections::BTreeMap;

use crate::cgroup::Version;
use crate::clean;

/// Which group below the container's a process joins, by controller or in every hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Below {
    /// This path in every hierarchy.
    Everywhere(String),
    /// A path for each of these v1 controllers; the container's own group in the other hierarchies.
    Each(BTreeMap<String, String>),
}

impl Below {
    /// Reads the words: `PATH` alone, or `CONTROLLER[,CONTROLLER]:PATH` as often as there are hierarchies. None where
    /// there are none; the error is runc's sentence about the word that is wrong.
    pub fn parse(words: &[String]) -> Result<Option<Self>, String> {
        let mut each = BTreeMap::new();
        for word in words {
            let Some((controllers, path)) = word.split_once(':') else {
                return match words {
                    [path] => Ok(Some(Self::Everywhere(path.clone()))),
                    _ => Err(format!("invalid --cgroup argument: {word} (missing <controller>: prefix)")),
                };
            };
            for controller in controllers.split(',') {
                if controller.is_empty() {
                    return Err(format!("invalid --cgroup argument: {word} (empty <controller> prefix)"));
                }
                if each.insert(controller.to_owned(), path.to_owned()).is_some() {
                    let why = format!("controller {controller} specified multiple times");
                    return Err(format!("invalid --cgroup argument(s): {why}"));
                }
            }
        }
        Ok(Some(Self::Each(each)).filter(|_| !words.is_empty()))
    }

    /// The place of one of the container's groups with this in mind: at `path` or below it, relative to the mount.
    pub fn place(&self, version: Version, controllers: &[String], path: &str) -> Result<String, String> {
        let named = match self {
            Self::Everywhere(below) => Some(below),
            Self::Each(_) if version == Version::V2 => None,
            Self::Each(each) => {
                let mut named = controllers.iter().filter_map(|controller| each.get_key_value(controller));
                let first = named.next();
                if let Some((one, _)) = first
                    && let Some((other, _)) =
                        named.find(|(_, path)| first.is_some_and(|(_, own)| own != *path))
                {
                    return Err(format!("invalid --cgroup arguments: {one} and {other} share a hierarchy"));
                }
                first.map(|(_, below)| below)
            }
        };
        let Some(below) = named else { return Ok(path.to_owned()) };
        let place = clean::absolute(&format!("/{path}/{below}"));
        let is_below = |rest: &str| rest.is_empty() || rest.starts_with('/');
        match place.strip_prefix('/').filter(|place| place.strip_prefix(path).is_some_and(is_below)) {
            Some(place) => Ok(place.to_owned()),
            None => Err(format!("{below} is not a sub cgroup path")),
        }
    }

    /// Fails where a controller is named that is in none of the container's v1 hierarchies.
    pub fn knows(&self, controllers: &[String]) -> Result<(), String> {
        let Self::Each(each) = self else { return Ok(()) };
        match each.keys().find(|named| !controllers.contains(named)) {
            Some(unknown) => Err(format!("unknown controller {unknown} in SubCgroupPaths")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Below;
    use crate::cgroup::Version;

    fn parse(words: &[&str]) -> Result<Option<Below>, String> {
        Below::parse(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    fn place(words: &[&str], version: Version, controllers: &[&str]) -> Result<String, String> {
        let controllers: Vec<String> = controllers.iter().map(|&name| name.to_owned()).collect();
        let below = parse(words)?.ok_or("no words")?;
        below.knows(&controllers)?;
        below.place(version, &controllers, "user/web")
    }

    #[test]
    fn a_path_alone_is_for_every_hierarchy() {
        assert_eq!(parse(&[]), Ok(None));
        for version in [Version::V1, Version::V2] {
            assert_eq!(place(&["a"], version, &["cpu"]).as_deref(), Ok("user/web/a"));
            assert_eq!(place(&["/"], version, &["cpu"]).as_deref(), Ok("user/web"));
            assert_eq!(place(&["/a//./b/../c"], version, &["cpu"]).as_deref(), Ok("user/web/a/c"));
            assert_eq!(place(&["../web/a"], version, &["cpu"]).as_deref(), Ok("user/web/a"));
        }
        assert!(parse(&["a", "b"]).is_err());
    }

    #[test]
    fn nothing_outside_the_container_is_below_it() {
        // runc 1.1.5 compares letters, and takes the last of these.
        for path in ["..", "a/../..", "/../../x", "../webb", "../web2/a"] {
            let told = format!("{path} is not a sub cgroup path");
            assert_eq!(place(&[path], Version::V1, &["cpu"]), Err(told.clone()));
            assert_eq!(place(&[&format!("cpu:{path}")], Version::V1, &["cpu"]), Err(told));
        }
    }

    #[test]
    fn a_controller_is_named_once_and_must_be_there() {
        assert_eq!(place(&["cpu,memory:a"], Version::V1, &["memory", "cpu"]).as_deref(), Ok("user/web/a"));
        assert_eq!(place(&["cpu:a"], Version::V2, &["cpu"]).as_deref(), Ok("user/web"));
        let refused = [
            (&[":a"][..], "invalid --cgroup argument: :a (empty <controller> prefix)"),
            (&["cpu,:a"], "invalid --cgroup argument: cpu,:a (empty <controller> prefix)"),
            (&["cpu:a", "cpu:a"], "invalid --cgroup argument(s): controller cpu specified multiple times"),
            (&["cpu:a", "b"], "invalid --cgroup argument: b (missing <controller>: prefix)"),
            (&["moon:a"], "unknown controller moon in SubCgroupPaths"),
            (&["cpu:a", "cpuacct:b"], "invalid --cgroup arguments: cpu and cpuacct share a hierarchy"),
        ];
        for (words, told) in refused {
            assert_eq!(place(words, Version::V1, &["cpu", "cpuacct"]), Err(told.to_owned()));
        }
    }
}
