//! Making the groups and writing what the plan says.

use std::os::fd::{AsFd, OwnedFd};

use plan::cgroup::{CgroupPlan, DeviceProgram, Rule, Setting, Version};
use rustix::fs::OFlags;
use sys::{DeviceFilter, Doing, Errno, Failed};

use crate::end::together;
use crate::place::{Bases, Made, Place, is_gone};
use crate::{Cgroup, Group, Mark};

/// How often a directory above ours may vanish between our look and our mkdir(2).
const TRIES: usize = 8;

impl Cgroup {
    /// Makes every group of the plan and writes its settings. Whatever was made is removed again when something
    /// fails.
    pub fn create(plan: &CgroupPlan) -> Result<Self, Failed> {
        Self::create_around(plan, None, None)
    }

    /// The same where somebody else has made some of them, around this process of ours; and with a mark on what we make.
    pub fn create_around(
        plan: &CgroupPlan,
        resident: Option<i32>,
        mark: Option<&Mark>,
    ) -> Result<Self, Failed> {
        let mut cgroup = Self { groups: Vec::with_capacity(plan.groups.len()), omitted: Vec::new() };
        let mut bases = Bases::default();
        // The last one first: it bears the mark, which names the others, and it is the last to be removed.
        let mut to_bear = mark;
        for group in plan.groups.iter().rev() {
            if let Err(failed) = cgroup.add(group, resident, to_bear.take(), &mut bases) {
                let failed = match plan.asked {
                    Some(field) if is_forbidden(&failed) => {
                        let why = "needs control groups, and these the caller may not make";
                        failed.while_doing(&format!("{field}: {why}"))
                    }
                    _ => failed,
                };
                return Err(cgroup.undo(failed));
            }
        }
        cgroup.groups.reverse();
        match mark.map_or(Ok(()), |mark| cgroup.narrow(mark)) {
            Ok(()) => Ok(cgroup),
            Err(failed) => Err(cgroup.undo(failed)),
        }
    }

    /// What was left out because we may not do it and nobody had asked for it by name: a group that a rootless
    /// caller may not make, a device program that would let everything pass or that a rootless caller may not load.
    pub fn omitted(&self) -> &[Failed] {
        &self.omitted
    }

    fn add(
        &mut self,
        plan: &plan::cgroup::Group,
        resident: Option<i32>,
        mark: Option<&Mark>,
        bases: &mut Bases,
    ) -> Result<(), Failed> {
        let mut group = Group {
            version: plan.version,
            controllers: plan.controllers.clone(),
            place: bases.place(&plan.mount, &plan.path)?,
            ancestors: Vec::new(),
            is_new: false,
        };
        let filled = match group.make() {
            Err(failed) if !plan.required && is_forbidden(&failed) => {
                self.omitted.push(failed);
                return Ok(());
            }
            Ok(()) => {
                let marked = mark.map_or(Ok(()), |mark| group.bear(mark));
                marked.and_then(|()| group.fill(plan, resident))
            }
            Err(failed) => Err(failed),
        };
        self.groups.push(group);
        self.omitted.extend(filled?);
        Ok(())
    }

    /// The mark speaks for what we made. Of groups that were there already it says nothing; most often there are none.
    fn narrow(&self, mark: &Mark) -> Result<(), Failed> {
        let Some(bearer) = self.groups.last().filter(|group| group.is_new) else { return Ok(()) };
        if mark.unit.is_some() || self.groups.iter().all(|group| group.is_new) {
            return Ok(());
        }
        let mut mark = mark.clone();
        mark.groups.groups.retain(|known| {
            let is_it =
                |group: &Group| group.place.mounted() == known.mount && group.place.path() == known.path;
            self.groups.iter().any(|group| group.is_new && is_it(group))
        });
        bearer.mark(&mark)
    }

    /// Gives the group of the unified tree its controllers, where it was made without them: as long as a process is in the
    /// one above, the kernel hands none down (cgroups(7), "no internal processes"). One that cannot be had is an error.
    pub fn hand_down(&self, controllers: &[String]) -> Result<(), Failed> {
        let Some(group) = self.unified() else { return Ok(()) };
        group.enable(controllers)?;
        let there = group.place.read("cgroup.controllers")?;
        match controllers.iter().find(|one| !there.split_whitespace().any(|there| there == *one)) {
            Some(lacking) => {
                let path = group.place.path();
                Err(Failed::refused(format!("{path}: the {lacking} controller is not handed down to it")))
            }
            None => Ok(()),
        }
    }

    /// Writes settings to the group of the unified tree.
    pub fn write_unified(&self, settings: &[Setting]) -> Result<(), Failed> {
        self.unified().map_or(Ok(()), |group| group.set(settings, &mut |_, _, _| {}))
    }

    /// Removes what was made; what was there before stays.
    fn undo(&self, failed: Failed) -> Failed {
        let new = self.groups.iter().filter(|group| group.is_new).collect();
        let mut refused = self.remove_groups(new);
        refused.extend(self.groups.iter().filter_map(|group| group.remove_ancestors().err()));
        match together(refused) {
            Ok(()) => failed,
            Err(undoing) => failed.while_doing(&format!("(what was made could not be removed: {undoing})")),
        }
    }
}

fn is_forbidden(failed: &Failed) -> bool {
    matches!(failed.errno(), Some(Errno::PERM | Errno::ACCESS | Errno::ROFS))
}

impl Group {
    /// Most often the directory above is there, and one call does it.
    fn make(&mut self) -> Result<(), Failed> {
        for _ in 0..TRIES {
            match self.place.make(self.place.path())? {
                Made::NoParent => self.make_ancestors()?,
                made => {
                    self.is_new = made == Made::New;
                    return Ok(());
                }
            }
        }
        Err(Failed::refused(format!("{} vanishes as often as it is made", self.place.path())))
    }

    fn make_ancestors(&mut self) -> Result<(), Failed> {
        for path in self.place.above() {
            if self.place.make(path)? == Made::New && !self.ancestors.iter().any(|known| known == path) {
                self.ancestors.push(path.to_owned());
            }
        }
        Ok(())
    }

    /// Takes the mark, if we made this group, or a unit's manager did for us. What was there already stays as it is, unless it bears
    /// a mark of ours: those groups are somebody else's from now on.
    fn bear(&self, mark: &Mark) -> Result<(), Failed> {
        if self.is_new || mark.unit.is_some() || self.is_marked()? { self.mark(mark) } else { Ok(()) }
    }

    /// Says what could be left out.
    fn fill(&self, plan: &plan::cgroup::Group, resident: Option<i32>) -> Result<Option<Failed>, Failed> {
        if !self.is_new {
            self.check_unused(resident)?;
        }
        if plan.threaded {
            self.place.write("cgroup.type", "threaded").doing(|| "become threaded")?;
        }
        if plan.version == Version::V2 && !plan.controllers.is_empty() {
            self.enable(&plan.controllers)?;
        }
        if plan.copy_cpuset {
            for path in &self.ancestors {
                self.copy_cpuset(path, true)?;
            }
            self.copy_cpuset(self.place.path(), self.is_new)?;
        }
        let mut omitted = None;
        let may_forbid = |setting: &Setting| setting.rule == Rule::MayForbid;
        for settings in plan.settings.chunk_by(|one, next| may_forbid(one) == may_forbid(next)) {
            match self.set(settings, &mut |_, _, _| {}) {
                Err(failed) if settings.iter().any(may_forbid) && is_forbidden(&failed) => {
                    omitted = Some(failed);
                }
                set => set?,
            }
        }
        if let Some(owner) = plan.owner {
            self.hand_over(owner)?;
        }
        let Some(devices) = &plan.devices else { return Ok(omitted) };
        match self.guard(devices).doing(|| "linux.resources.devices") {
            Err(failed) if devices.optional && !is_gone(&failed) => Ok(Some(failed)),
            guarded => guarded.map(|()| None),
        }
    }

    /// A group that was there already is taken only when nobody lives in it: limits of ours would hit them, and
    /// removing it would kill them.
    fn check_unused(&self, resident: Option<i32>) -> Result<(), Failed> {
        let processes = self.processes()?.into_iter().filter(|pid| Some(*pid) != resident).count();
        if processes > 0 {
            let reason = format!("container's cgroup is not empty: {processes} process(es) found");
            return Err(Failed::refused(reason));
        }
        if self.is_frozen()? {
            return Err(Failed::refused("container's cgroup unexpectedly frozen"));
        }
        Ok(())
    }

    /// Gives a v2 group its controllers: every group above must hand them down. Most often they do already.
    fn enable(&self, wanted: &[String]) -> Result<(), Failed> {
        let there = self.place.read("cgroup.controllers")?;
        let lacks = |wanted: &&String| !there.split_whitespace().any(|there| there == *wanted);
        let lacking: Vec<String> = wanted.iter().filter(lacks).map(|one| format!("+{one}")).collect();
        if lacking.is_empty() {
            return Ok(());
        }
        // A threaded group above, or beside, lets no process be in a group that is not threaded too (cgroups(7), "Thread
        // mode"). Controllers that count by process are not to be had then: who has asked for one misses its file.
        if self.place.read("cgroup.type")?.trim() == "domain invalid" {
            self.place
                .write("cgroup.type", "threaded")
                .doing(|| "become threaded, as the groups around are")?;
        }
        for path in std::iter::once("").chain(self.place.above()) {
            const FILE: &str = "cgroup.subtree_control";
            if self.place.write_at(path, FILE, &lacking.join(" ")).is_err() {
                for one in &lacking {
                    // A controller that cannot be had is missed when something is written to it; one that
                    // nothing was asked of is not missed.
                    drop(self.place.write_at(path, FILE, one));
                }
            }
        }
        Ok(())
    }

    /// v1 begins a cpuset without CPUs and memory nodes, and nobody may join such a one.
    fn copy_cpuset(&self, path: &str, is_new: bool) -> Result<(), Failed> {
        let above = path.rsplit_once('/').map_or("", |(above, _)| above);
        for name in ["cpus", "mems"] {
            let (file, mut value) = self.cpuset_above(above, name)?;
            if is_new || self.place.read_at(path, &file)?.trim().is_empty() {
                if value.trim().is_empty() && !above.is_empty() {
                    self.copy_cpuset(above, false)?;
                    value = self.place.read_at(above, &file)?;
                }
                self.place.write_at(path, &file, value.trim())?;
            }
        }
        Ok(())
    }

    /// A file of a cpuset, and what it shows: `cpuset.cpus`, or `cpus` where the hierarchy is mounted with `noprefix`.
    fn cpuset_above(&self, above: &str, name: &str) -> Result<(String, String), Failed> {
        let file = format!("cpuset.{name}");
        match self.place.read_at(above, &file) {
            Err(failed) if failed.errno() == Some(Errno::NOENT) => {
                Ok((name.to_owned(), self.place.read_at(above, name)?))
            }
            read => Ok((file, read?)),
        }
    }

    /// Writes settings in order. Those that wait for others are tried again as long as any of them succeeds.
    ///
    /// `before` is told of each file, and of what is about to be written to it.
    pub(crate) fn set(
        &self,
        settings: &[Setting],
        before: &mut dyn FnMut(&Place, &str, &str),
    ) -> Result<(), Failed> {
        let mut open: Option<(&str, OwnedFd)> = None;
        let mut left: Vec<&Setting> = settings.iter().collect();
        loop {
            let tried = left.len();
            let mut again = Vec::new();
            let mut first = None;
            for setting in left {
                before(&self.place, &setting.file, &setting.value);
                match (&setting.rule, self.set_one(setting, &mut open)) {
                    (_, Ok(())) => {}
                    (Rule::Again, Err(failed)) if failed.errno() == Some(Errno::INVAL) => {
                        first.get_or_insert_with(|| self.explain(setting, failed));
                        again.push(setting);
                    }
                    (Rule::MayLack, Err(failed)) if failed.errno() == Some(Errno::NOENT) => {}
                    (Rule::OrElse { file, value }, Err(failed)) if failed.errno() == Some(Errno::NOENT) => {
                        before(&self.place, file, value);
                        self.place.write(file, value).doing(|| &setting.field)?;
                    }
                    (_, Err(failed)) => return Err(self.explain(setting, failed)),
                }
            }
            match first {
                None => return Ok(()),
                Some(failed) if again.len() == tried => return Err(failed),
                Some(_) => left = again,
            }
        }
    }

    /// Consecutive writes to one file share its descriptor: a device list has a dozen.
    fn set_one<'a>(&self, setting: &'a Setting, open: &mut Option<(&'a str, OwnedFd)>) -> Result<(), Failed> {
        if let Rule::AboveUse { file, limit } = &setting.rule {
            let used = self.place.read(file)?;
            if used.trim().parse::<u64>().is_ok_and(|used| used >= *limit) {
                let used = used.trim();
                return Err(Failed::refused(format!("{used} bytes are in use, the limit would be {limit}")));
            }
        }
        if open.as_ref().is_none_or(|(file, _)| *file != setting.file) {
            *open = Some((&setting.file, self.place.file(&setting.file, OFlags::WRONLY)?));
        }
        match open {
            Some((_, fd)) => self.place.write_to(fd.as_fd(), &setting.file, &setting.value),
            None => Ok(()),
        }
    }

    fn explain(&self, setting: &Setting, failed: Failed) -> Failed {
        let failed = match (setting.file.as_str(), failed.errno()) {
            ("memory.limit_in_bytes", Some(Errno::BUSY)) => {
                let shown =
                    |file| self.place.read(file).map_or("unknown".into(), |text| text.trim().to_owned());
                failed.while_doing(&format!(
                    "unable to set memory limit to {} (current usage: {}, peak usage: {})",
                    setting.value,
                    shown("memory.usage_in_bytes"),
                    shown("memory.max_usage_in_bytes")
                ))
            }
            (file, Some(Errno::NOENT)) if self.version == Version::V2 => {
                let controller = file.split('.').next().unwrap_or(file);
                failed.while_doing(&format!("the {controller} controller is not enabled for this group"))
            }
            _ => failed,
        };
        failed.while_doing(&setting.field)
    }

    /// The device program replaces those that an earlier life of the same group has left.
    fn guard(&self, devices: &DeviceProgram) -> Result<(), Failed> {
        let filter = DeviceFilter::load(&devices.program)?;
        let directory = self.place.directory()?;
        if self.is_new {
            return filter.attach(directory.as_fd());
        }
        match DeviceFilter::attached(directory.as_fd())?.as_slice() {
            [one] => filter.replace(directory.as_fd(), one),
            others => {
                filter.attach(directory.as_fd())?;
                others.iter().try_for_each(|one| one.detach(directory.as_fd()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, read_to_string, remove_dir_all, write};

    use super::*;

    type Failure = Box<dyn std::error::Error>;

    /// Files as a `noprefix` mount has them: a kernel lets nobody make one beside a mount of the same hierarchy, and may be built
    /// without.
    #[test]
    fn cpusets_have_short_names_where_the_mount_has() -> Result<(), Failure> {
        let mount = std::env::temp_dir().join(format!("cofferdam-noprefix-{}", std::process::id()));
        let group = mount.join("above/web");
        create_dir_all(&group)?;
        // The topmost has all of them, and groups that were just made have none.
        let values = ["0-1", "0", "", "", "", ""];
        let directories = [&mount, &mount.join("above"), &group];
        let files =
            directories.iter().flat_map(|directory| ["cpus", "mems"].map(|name| directory.join(name)));
        for (file, value) in files.zip(values) {
            write(file, format!("{value}\n"))?;
        }
        let place = Bases::default().place(&mount.to_string_lossy(), "above/web")?;
        let group = Group {
            version: Version::V1,
            controllers: vec!["cpuset".into()],
            place,
            ancestors: Vec::new(),
            is_new: true,
        };
        group.copy_cpuset("above/web", true)?;
        let shown = |file: &str| read_to_string(mount.join(file)).map(|text| text.trim().to_owned());
        assert_eq!(
            [shown("above/cpus")?, shown("above/mems")?],
            ["0-1", "0"],
            "what is empty above is filled too"
        );
        assert_eq!([shown("above/web/cpus")?, shown("above/web/mems")?], ["0-1", "0"]);

        let rule = Rule::OrElse { file: "cpus".into(), value: "1".into() };
        let setting =
            Setting { field: "cpu.cpus".into(), file: "cpuset.cpus".into(), value: "1".into(), rule };
        let mut written = Vec::new();
        group.set(&[setting], &mut |_, file, value| written.push(format!("{file}={value}")))?;
        assert_eq!(written, ["cpuset.cpus=1", "cpus=1"]);
        let seen =
            Cgroup { groups: vec![group], omitted: Vec::new() }.statistics()?.cpuset.unwrap_or_default();
        assert_eq!((seen.cpus, seen.mems), (vec![1], vec![0]));
        remove_dir_all(mount)?;
        Ok(())
    }
}
