//! Which control groups a process is in that joins a container: the container's own, those below that `--cgroup` names, or
//! init's, where the container's takes nobody any more.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use tests::{Bundle, Container, Runtime, Snapshot, needs};

fn running<'a>(bundle: &'a Bundle, runtime: &Runtime) -> Container<'a> {
    let container = bundle.container(runtime);
    container.create().success();
    container.start().success();
    container
}

/// One group of a process: its controllers as the kernel lists them (none for the unified tree), and its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    controllers: String,
    dir: PathBuf,
}

/// The groups of a process.
fn groups(pid: i32) -> Vec<Group> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
    let place = |controllers: &str| {
        mounts.lines().find_map(|line| {
            let (mount, kind) = line.split_once(" - ")?;
            let mut kind = kind.split(' ');
            let options: Vec<_> = match kind.next()? {
                "cgroup2" => vec![""],
                "cgroup" => kind.nth(1)?.split(',').collect(),
                _ => return None,
            };
            controllers.split(',').all(|one| options.contains(&one)).then(|| mount.split(' ').nth(4))?
        })
    };
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("read the groups of a process");
    let group = |line: &str| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let dir = Path::new(place(controllers)?).join(path.trim_start_matches('/'));
        Some(Group { controllers: controllers.to_owned(), dir })
    };
    text.lines().filter_map(group).collect()
}

/// Runs a process that stays, and says which groups it is in; the error is what was printed.
fn joined(container: &Container<'_>, bundle: &Bundle, flags: &[&str]) -> Result<Vec<Group>, String> {
    let file = bundle.dir().join("exec.pid");
    let told = file.to_str().expect("the bundle's path is ASCII");
    let words = [&["exec", "--detach", "--pid-file", told], flags, &["ID", "/bin/sleep", "1000"]].concat();
    let output = container.call(&words);
    if output.code != 0 {
        assert_eq!((output.code, output.stderr.lines().count()), (255, 1), "one clear error: {output}");
        return Err(output.stderr.trim_end().to_owned());
    }
    Ok(groups(fs::read_to_string(&file).expect("the pid file").parse().expect("a number")))
}

fn below(groups: &[Group], name: &str) -> Vec<Group> {
    groups.iter().map(|group| Group { dir: group.dir.join(name), ..group.clone() }).collect()
}

#[test]
fn root_exec_joins_the_group_below_the_containers_that_is_named() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("exec-below").shell("exec sleep 1000");
    let before = Snapshot::take(&bundle);
    let container = running(&bundle, &Runtime::under_test());
    let own = groups(container.pid().expect("init lives"));
    assert!(!own.is_empty());
    let inner = below(&own, "inner");
    for (above, group) in own.iter().zip(&inner) {
        fs::create_dir(&group.dir).expect("make a group");
        // A new cpuset of version 1 has no CPU, and takes nobody.
        for file in ["cpuset.cpus", "cpuset.mems"].iter().filter(|_| group.controllers == "cpuset") {
            fs::copy(above.dir.join(file), group.dir.join(file)).expect("hand on the CPUs");
        }
    }
    for path in ["inner", "/inner", "./inner/", "inner/../inner"] {
        assert_eq!(joined(&container, &bundle, &["--cgroup", path]).as_ref(), Ok(&inner), "{path}");
    }
    for path in ["/", ".", ""] {
        assert_eq!(joined(&container, &bundle, &["--cgroup", path]).as_ref(), Ok(&own), "{path:?}");
    }
    let refused = |flags: &[&str], why: &str| {
        let told = joined(&container, &bundle, flags).expect_err("it is refused");
        assert_eq!(told, format!("cofferdam: exec {}: {why}", bundle.id()));
    };
    for path in ["..", "../..", "/../x", "inner/../.."] {
        refused(&["--cgroup", path], &format!("{path} is not a sub cgroup path"));
    }
    refused(&["--cgroup", "moon:inner"], "unknown controller moon in SubCgroupPaths");
    refused(&["--cgroup", ":inner"], "invalid --cgroup argument: :inner (empty <controller> prefix)");
    refused(
        &["--cgroup", "a", "--cgroup", "b"],
        "invalid --cgroup argument: a (missing <controller>: prefix)",
    );
    let told = joined(&container, &bundle, &["--cgroup", "nowhere"]).expect_err("there is no such group");
    assert!(told.contains("/nowhere") && told.contains("(os error 2)"), "{told}");
    // By controller: a prefix is version 1's.
    let v1: Vec<_> = own.iter().filter(|group| !group.controllers.is_empty()).collect();
    if let [first, .., last] = v1.as_slice() {
        let wanted: Vec<_> = own
            .iter()
            .zip(&inner)
            .map(|(own, inner)| if own == *first || own == *last { inner } else { own }.clone())
            .collect();
        let both = format!("{},{}:inner", first.controllers, last.controllers);
        assert_eq!(joined(&container, &bundle, &["--cgroup", &both]).as_ref(), Ok(&wanted));
        let (one, other) = (format!("{}:inner", first.controllers), format!("{}:/inner", last.controllers));
        let flags = ["--cgroup", one.as_str(), "--cgroup", other.as_str()];
        assert_eq!(joined(&container, &bundle, &flags).as_ref(), Ok(&wanted));
    }
    container.delete_force().success();
    before.assert_same();
}

/// Moves init into a group below its container's unified one, which then hands a controller on, if it has one: from then
/// on that takes nobody (`EBUSY`). Says the new group, and whether that is so.
fn lead_init_away(container: &Container<'_>) -> Option<(Group, bool)> {
    let init = container.pid().expect("init lives");
    let own = groups(init).into_iter().find(|group| group.controllers.is_empty())?;
    let leaf = Group { dir: own.dir.join("leaf"), ..own.clone() };
    fs::create_dir(&leaf.dir).expect("make a group");
    fs::write(leaf.dir.join("cgroup.procs"), init.to_string()).expect("move init");
    let controllers = fs::read_to_string(own.dir.join("cgroup.controllers")).expect("read the controllers");
    let first = controllers.split_whitespace().next();
    if let Some(controller) = first {
        fs::write(own.dir.join("cgroup.subtree_control"), format!("+{controller}")).expect("hand it on");
    }
    Some((leaf, first.is_some()))
}

#[test]
fn root_exec_follows_init_out_of_a_group_that_takes_nobody() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("exec-follows").shell("exec sleep 1000");
    let before = Snapshot::take(&bundle);
    let container = running(&bundle, &Runtime::under_test());
    let Some((leaf, takes_nobody)) = lead_init_away(&container) else {
        return tests::skipped("no unified control groups");
    };
    if !takes_nobody {
        return tests::skipped("no controller in the unified control groups");
    }
    let found = joined(&container, &bundle, &[]).expect("it is born beside init");
    assert!(found.contains(&leaf), "{found:?}");
    // Who names a group gets that one or none.
    let told = joined(&container, &bundle, &["--cgroup", "/"]).expect_err("that group takes nobody");
    assert!(told.contains("CLONE_INTO_CGROUP") && told.contains("(os error 16)"), "{told}");
    container.delete_force().success();
    before.assert_same();
}

/// The kernel's answers that only some hosts give, given in its place.
#[cfg(target_arch = "x86_64")]
mod answered {
    use super::*;
    use tests::trace::answer;

    #[test]
    fn root_exec_follows_init_whatever_the_group_says() {
        needs!(Root, Busybox);
        let bundle = Bundle::new("exec-answered").shell("exec sleep 1000");
        let before = Snapshot::take(&bundle);
        let container = running(&bundle, &Runtime::under_test());
        let Some((leaf, takes_nobody)) = lead_init_away(&container) else {
            return tests::skipped("no unified control groups");
        };
        // EINVAL says that the kernel knows no birth into a group: the child is moved, and that fails like birth does.
        for (errno, follows) in [
            (libc::EBUSY, true),
            (libc::EOPNOTSUPP, true),
            (libc::EACCES, true),
            (libc::EINVAL, takes_nobody),
            (libc::E2BIG, takes_nobody),
        ] {
            let words = ["exec", "ID", "/bin/cat", "/proc/self/cgroup"];
            let output = answer(container.command(&words), libc::SYS_clone3, errno);
            let path =
                output.success().stdout.lines().find_map(|line| line.strip_prefix("0::")).expect("it tells");
            assert_eq!(leaf.dir.ends_with(path.trim_start_matches('/')), follows, "{errno}: {path}");
        }
        for errno in [libc::EAGAIN, libc::ENOMEM] {
            let output = answer(container.command(&["exec", "ID", "/bin/true"]), libc::SYS_clone3, errno);
            output.code(255);
            assert_eq!(output.stderr.lines().count(), 1, "{output}");
            assert!(output.stderr.contains(&format!("(os error {errno})")), "{output}");
        }
        container.delete_force().success();
        before.assert_same();
    }

    #[test]
    fn root_a_container_is_moved_where_it_cannot_be_born() {
        needs!(Root, Busybox);
        let bundle = Bundle::new("moved").args(&["/bin/cat", "/proc/self/cgroup"]);
        let before = Snapshot::take(&bundle);
        let container = bundle.container(&Runtime::under_test());
        let run = || container.command(&["run", "--bundle", "BUNDLE", "ID"]);
        let plain = run().run();
        let moved = answer(run(), libc::SYS_clone3, libc::EINVAL);
        assert_eq!(moved.success().stdout, plain.success().stdout);
        before.assert_same();
    }
}
