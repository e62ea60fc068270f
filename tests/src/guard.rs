//! The daemon's guard, spoken to in its own words.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use daemon::words::{Failure, Heard, Installed, LARGEST_TOLD, Line, Start, Status, Told, UNASKED, Word};

use crate::{LIMIT, Packages, ready_within, until};

/// A guard that runs, with its directories beside the packages that it is given.
#[derive(Debug)]
pub struct Guard<'a> {
    packages: &'a Packages,
    child: Child,
    socket: UnixStream,
    line: Line,
    number: u64,
    /// What was told unasked and not looked at yet.
    told: Vec<Told>,
}

impl<'a> Guard<'a> {
    /// Writes a configuration, and begins: `repo` is a repository of a directory, whose key is `k.pub` where the host has
    /// a device mapper, and `mem` one in memory. `program` is the guard.
    pub fn begin(packages: &'a Packages, program: &Path) -> Self {
        Self::begin_with(packages, program, &[])
    }

    /// The same with flags.
    pub fn begin_with(packages: &'a Packages, program: &Path, flags: &[&str]) -> Self {
        for name in ["run", "socket", "repo"] {
            fs::create_dir_all(packages.path(name)).expect("a directory");
        }
        let directory = packages.path("");
        let directory = directory.display();
        let key = if Path::new("/dev/mapper/control").exists() {
            format!("key = \"{directory}k.pub\"\n")
        } else {
            String::new()
        };
        let text = format!(
            "run_dir = \"{directory}run\"\ndata_dir = \"{directory}data\"\nsocket_dir = \"{directory}socket\"\n\
             cgroup = \"{id}\"\n\
             [repositories.mem]\ntype = \"mem\"\ncapacity_num = 1\n\
             [repositories.repo]\ntype = {{ fs = {{ dir = \"{directory}repo\" }} }}\n{key}",
            id = packages.id,
        );
        fs::write(packages.path("daemon.toml"), text).expect("a configuration");
        let (socket, theirs) = UnixStream::pair().expect("a pair of sockets");
        let log = File::options().create(true).append(true).open(packages.path("log")).expect("a log");
        let child = Command::new(program)
            .arg(packages.path("daemon.toml"))
            .args(flags)
            .stdin(OwnedFd::from(theirs))
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .env("COFFERDAM_TEST", &packages.id)
            .spawn()
            .expect("run the guard");
        let line = Self::line(&socket, packages);
        Self { packages, child, socket, line, number: UNASKED, told: Vec::new() }
    }

    fn line(socket: &UnixStream, packages: &Packages) -> Line {
        assert!(ready_within(socket, LIMIT), "no talker was forked: {}", log_of(packages));
        let line = sys::receive_fd(socket.as_fd());
        Line::of(line.unwrap_or_else(|failed| panic!("{failed}: {}", log_of(packages))), LARGEST_TOLD)
            .expect("a line")
    }

    /// Waits for the next talker, whose line is ours from then on.
    pub fn next_talker(&mut self) {
        self.line = Self::line(&self.socket, self.packages);
    }

    /// The guard's number.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a number")
    }

    /// The talker's number: it alone of the guard's children is nobody's.
    pub fn talker(&self) -> i32 {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("its children");
        let is_talker = |pid: &i32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.contains("Uid:\t65534")
        };
        children.split(' ').filter_map(|pid| pid.parse().ok()).find(is_talker).expect("a talker")
    }

    /// What it has logged, and its containers.
    pub fn log(&self) -> String {
        log_of(self.packages)
    }

    /// Says a word, and waits for nothing; its number.
    pub fn say(&mut self, word: &Word, with: Vec<OwnedFd>) -> u64 {
        self.number += 1;
        self.line.say(self.number, word, with).expect("say a word");
        self.number
    }

    /// Says what nobody understands.
    pub fn say_nonsense(&mut self) {
        let said = rustix::io::write(&self.line, b".{");
        assert_eq!(said, Ok(2));
    }

    /// Says a word, and waits for its answer.
    #[track_caller]
    pub fn ask(&mut self, word: &Word, with: Vec<OwnedFd>) -> Told {
        let number = self.say(word, with);
        self.answer(number)
    }

    /// The answer to a word.
    #[track_caller]
    pub fn answer(&mut self, number: u64) -> Told {
        loop {
            match self.hear() {
                Some((told, answered)) if answered == number => return told,
                Some((told, UNASKED)) => self.told.push(told),
                Some((told, other)) => panic!("{told:?} answers {other}, not {number}"),
                None => {
                    let _gone = crate::gone_within(self.pid(), Duration::from_secs(5));
                    panic!("the guard hung up ({:?}): {}", self.child.try_wait(), self.log());
                }
            }
        }
    }

    /// The next of all that is told, with its number; none once the line is closed.
    #[track_caller]
    pub fn hear(&mut self) -> Option<(Told, u64)> {
        loop {
            match self.line.hear::<Told>() {
                Ok(Heard::Word(told, _)) => return Some((told.what, told.number)),
                Ok(Heard::End) => return None,
                Ok(Heard::Nothing) => {
                    assert!(ready_within(&self.line, LIMIT), "nothing is told: {}", self.log());
                }
                Err(failed) => panic!("{failed}"),
            }
        }
    }

    /// The next thing that is told unasked.
    #[track_caller]
    pub fn news(&mut self) -> Told {
        if !self.told.is_empty() {
            return self.told.remove(0);
        }
        match self.hear() {
            Some((told, UNASKED)) => told,
            other => panic!("{other:?} is no news: {}", self.log()),
        }
    }

    /// Says a word, which must be done.
    #[track_caller]
    pub fn done(&mut self, word: &Word) {
        let told = self.ask(word, Vec::new());
        assert_eq!(told, Told::Done, "{word:?}: {}", self.log());
    }

    /// Says a word, which must fail.
    #[track_caller]
    pub fn refused(&mut self, word: &Word) -> Failure {
        match self.ask(word, Vec::new()) {
            Told::Failed(failure) => failure,
            told => panic!("{word:?}: {told:?}"),
        }
    }

    /// Installs a file: its container, or why not.
    #[track_caller]
    pub fn install(&mut self, file: &str, repository: &str) -> Result<String, Failure> {
        let bytes = fs::read(self.packages.path(file)).expect("a package");
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
        let size = bytes.len() as u64;
        let number = self.say(&Word::Install { repository: repository.to_owned(), size }, vec![read]);
        // The pipe is closed where the guard refuses at once.
        let _broken = std::io::Write::write_all(&mut File::from(write), &bytes);
        match self.answer(number) {
            Told::Installed(Installed { container, .. }) => Ok(container),
            Told::Failed(failure) => Err(failure),
            told => panic!("{told:?}"),
        }
    }

    /// Mounts a package and starts it; the number of its first process.
    #[track_caller]
    pub fn start(&mut self, container: &str) -> i32 {
        self.done(&Word::Mount { container: container.to_owned(), is_to_run: true });
        self.start_mounted(Start { container: container.to_owned(), ..Start::default() }, Vec::new())
    }

    /// Starts a package that is mounted.
    #[track_caller]
    pub fn start_mounted(&mut self, start: Start, with: Vec<OwnedFd>) -> i32 {
        match self.ask(&Word::Start(start), with) {
            Told::Started { pid } => i32::try_from(pid).expect("a number"),
            told => panic!("{told:?}: {}", self.log()),
        }
    }

    /// Waits for a container's end, which is the next thing that is told.
    #[track_caller]
    pub fn ended(&mut self, container: &str) -> Status {
        match self.news() {
            Told::Exited { container: ended, status } if ended == container => status,
            told => panic!("{told:?} is not the end of {container}: {}", self.log()),
        }
    }

    /// All packages, by what is told of them.
    #[track_caller]
    pub fn survey(&mut self) -> Vec<Installed> {
        let number = self.say(&Word::Survey, Vec::new());
        let mut all = Vec::new();
        loop {
            match self.answer(number) {
                Told::Package(package) => all.push(package),
                Told::Surveyed { repositories } => {
                    assert_eq!(repositories, ["mem", "repo"]);
                    return all;
                }
                told => panic!("{told:?}"),
            }
        }
    }

    /// Waits until the log has these words in it.
    #[track_caller]
    pub fn logs(&self, words: &str) {
        until(|| self.log().contains(words), || format!("{words:?} in {}", self.log()));
    }

    /// Lets it go; its exit status.
    #[track_caller]
    pub fn leave(mut self, failure: Option<&str>) -> Option<i32> {
        self.say(&Word::Leave { failure: failure.map(str::to_owned) }, Vec::new());
        self.wait()
    }

    /// Waits for its end; the exit status.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        assert!(crate::gone_within(self.pid(), LIMIT), "it does not end: {}", self.log());
        self.child.wait().expect("an exit status").code()
    }

    /// Waits until so many installations are under way in the repository of a directory.
    #[track_caller]
    pub fn drafts(&self, count: usize) {
        let drafts = || {
            let all = fs::read_dir(self.packages.path("repo")).expect("a repository").flatten();
            all.filter(|entry| entry.file_name().to_string_lossy().ends_with(".part")).count()
        };
        until(|| drafts() == count, || format!("{count} drafts, of which there are {}", drafts()));
    }

    /// Sends it a signal.
    pub fn kill_by(&self, signal: i32) {
        let process = sys::Pidfd::open(self.pid()).expect("the guard");
        process.signal(signal).expect("send a signal");
    }

    /// Kills it, and nobody else.
    pub fn kill(mut self) {
        self.child.kill().expect("kill the guard");
        self.child.wait().expect("an exit status");
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            // A test has failed on its way: as good an end as any, so that nothing is left of it.
            let _asked = self.line.say(UNASKED, &Word::Leave { failure: None }, Vec::new());
            if !crate::gone_within(self.pid(), Duration::from_secs(10)) {
                let _killed = self.child.kill();
            }
            let _reaped = self.child.wait();
        }
    }
}

fn log_of(packages: &Packages) -> String {
    let path: PathBuf = packages.path("log");
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
