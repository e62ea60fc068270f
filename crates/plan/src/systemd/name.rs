//! Names of units, and where their control groups are.

use super::Manager;
use crate::Refused;

const FIELD: &str = "linux.cgroupsPath";

/// A unit's name is no longer, `.scope` included.
const LONGEST: usize = 255;

/// Where a container's unit is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) unit: String,
    pub(super) slice: String,
    pub(super) group: String,
}

/// From `slice:prefix:name` to a unit. An empty slice is the manager's default, and so is an empty path, with the
/// container's id as the name.
pub(super) fn place(given: Option<&str>, manager: &Manager, id: &str) -> Result<Place, Refused> {
    let parts: Vec<&str> = given.map_or(vec!["", "cofferdam", id], |path| path.split(':').collect());
    let [slice, prefix, name] = parts[..] else {
        let given = given.unwrap_or_default();
        let why = format!(
            "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {given:?} instead"
        );
        return Err(Refused::new(FIELD, why));
    };
    let default = if manager.bus.is_user { "user.slice" } else { "system.slice" };
    let slice = if slice.is_empty() { default } else { slice };
    let above = expand(slice).ok_or_else(|| refused(slice, "is no name of a slice"))?;
    let (unit, path) = if name.strip_suffix(".slice").is_some() {
        // Where a slice is, its own name tells.
        let path = expand(name).filter(|path| !path.is_empty());
        (name.to_owned(), path.ok_or_else(|| refused(name, "is no name of a slice"))?)
    } else {
        let unit = scope(prefix, name)?;
        let path = format!("{above}/{}", escaped_group(&unit));
        (unit, path)
    };
    if unit.len() > LONGEST {
        return Err(refused(&unit, &format!("a unit's name has at most {LONGEST} bytes")));
    }
    Ok(Place { unit, slice: slice.to_owned(), group: format!("{}{path}", manager.group) })
}

fn refused(name: &str, why: &str) -> Refused {
    Refused::new(FIELD, format!("{name:?}: {why}"))
}

fn scope(prefix: &str, name: &str) -> Result<String, Refused> {
    for part in [prefix, name] {
        if part.contains(|letter: char| letter == '/' || letter.is_control()) {
            return Err(refused(part, "has a character that no unit may have"));
        }
    }
    match (prefix, name) {
        (_, "") => Err(refused(name, "a unit needs a name")),
        ("", name) => Ok(format!("{}.scope", escaped(name))),
        (prefix, name) => Ok(format!("{}-{}.scope", escaped(prefix), escaped(name))),
    }
}

/// As systemd-escape(1) writes what may not stand in a unit's name, but for dashes, and for backslashes, by which
/// a caller has escaped it already.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_' | b'.' | b'\\' => escaped.push(byte.into()),
            byte => {
                escaped.push_str("\\x");
                for half in [byte >> 4, byte & 15] {
                    escaped.extend(char::from_digit(half.into(), 16));
                }
            }
        }
    }
    escaped
}

/// Where a slice is: `a-b.slice` is `/a.slice/a-b.slice`, and `-.slice` the root, `""`. None where that is no name of a
/// slice.
pub fn expand(slice: &str) -> Option<String> {
    let name = slice.strip_suffix(".slice")?;
    if name == "-" {
        return Some(String::new());
    }
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.\\:".contains(&byte);
    if slice.len() > LONGEST || !name.bytes().all(is_good) || name.split('-').any(str::is_empty) {
        return None;
    }
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    let mut path = String::new();
    for part in ends.filter_map(|end| name.get(..end)) {
        path.push('/');
        path.push_str(&escaped_group(&format!("{part}.slice")));
    }
    Some(path)
}

/// systemd's name for a unit's directory: one that the kernel could take for a file of its own is marked.
fn escaped_group(unit: &str) -> String {
    const CONTROLLERS: [&str; 13] = [
        "cpu",
        "cpuacct",
        "cpuset",
        "io",
        "blkio",
        "memory",
        "devices",
        "pids",
        "bpf-firewall",
        "bpf-devices",
        "bpf-foreign",
        "bpf-socket-bind",
        "bpf-restrict-network-interfaces",
    ];
    let is_file =
        |controller: &&str| unit.strip_prefix(*controller).is_some_and(|rest| rest.starts_with('.'));
    let is_odd = unit.starts_with(['_', '.']) || unit.starts_with("cgroup.");
    if is_odd || CONTROLLERS.iter().any(is_file) { format!("_{unit}") } else { unit.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systemd::Bus;

    fn told(given: Option<&str>, manager: &Manager) -> Result<(String, String, String), String> {
        place(given, manager, "we+b")
            .map(|place| (place.unit, place.slice, place.group))
            .map_err(|refused| refused.to_string())
    }

    #[test]
    fn a_path_of_three_parts_is_a_unit() {
        let host = Manager::default();
        for (given, unit, slice, group) in [
            (None, "cofferdam-we\\x2bb.scope", "system.slice", "/system.slice/cofferdam-we\\x2bb.scope"),
            (Some(":libpod:a"), "libpod-a.scope", "system.slice", "/system.slice/libpod-a.scope"),
            (Some("machine.slice::a"), "a.scope", "machine.slice", "/machine.slice/a.scope"),
            (Some("-.slice:p:a"), "p-a.scope", "-.slice", "/p-a.scope"),
            (
                Some("kube-burst-pod1_2.slice:crio:0af"),
                "crio-0af.scope",
                "kube-burst-pod1_2.slice",
                "/kube.slice/kube-burst.slice/kube-burst-pod1_2.slice/crio-0af.scope",
            ),
            (Some("memory.slice:p:a"), "p-a.scope", "memory.slice", "/_memory.slice/p-a.scope"),
            (Some("a.slice::_x"), "_x.scope", "a.slice", "/a.slice/__x.scope"),
            (Some("a.slice:p:b-c.slice"), "b-c.slice", "a.slice", "/b.slice/b-c.slice"),
            (Some("a.slice:p q:x@y"), "p\\x20q-x\\x40y.scope", "a.slice", "/a.slice/p\\x20q-x\\x40y.scope"),
        ] {
            assert_eq!(told(given, &host), Ok((unit.into(), slice.into(), group.into())), "{given:?}");
        }
        let bus = Bus { is_user: true, ..Bus::default() };
        let user = Manager { bus, group: "/user.slice/user@7.service".into(), ..Manager::default() };
        let group = "/user.slice/user@7.service/user.slice/a.scope";
        assert_eq!(told(Some("::a"), &user), Ok(("a.scope".into(), "user.slice".into(), group.into())));
    }

    #[test]
    fn everything_else_is_refused() {
        let long = format!("::{}", "a".repeat(250));
        for given in [
            "a",
            "/a/b",
            "a.slice:b",
            "a.slice:b:c:d",
            "a:b:c",
            "a.slice:b:",
            "-a.slice:b:c",
            "a-.slice:b:c",
            "a--b.slice:b:c",
            ".slice:b:c",
            "--.slice:b:c",
            "a/b.slice:b:c",
            "a.slice:b/c:d",
            "a.slice:b:c/d",
            "a.slice:b:c\nd",
            "a b.slice:c:d",
            "::-.slice",
            "::a--b.slice",
            "a.slice:b:../c",
            &long,
        ] {
            assert!(told(Some(given), &Manager::default()).is_err(), "{given}");
        }
    }
}
