//! The manual pages: that readers of such take them without a complaint, and that their examples are so.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests::{Bundle, Container, Runtime, needs};

fn folder(name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bin/cofferdam").join(name);
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("the folder is there").flatten().map(|file| file.path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{name}: is empty");
    files
}

/// Runs a reader over a page; what it complained of.
fn read(line: &[&str], page: &Path) -> String {
    let output = Command::new(line[0]).args(&line[1..]).arg(page).env("MANWIDTH", "100").output();
    let output = output.expect("the reader starts");
    assert!(!output.stdout.is_empty() || line[0] == "mandoc", "{}: nothing is shown", page.display());
    // mandoc lints on standard output.
    let told = if line[0] == "mandoc" { output.stdout } else { output.stderr };
    String::from_utf8_lossy(&told).into_owned()
}

#[test]
fn root_no_reader_complains_of_a_page() {
    needs!(Man, Mandoc);
    for page in folder("man").into_iter().chain(folder("../cofferctl/man")) {
        assert_eq!(read(&["mandoc", "-T", "lint"], &page), "");
        assert_eq!(read(&["man", "--warnings", "-E", "UTF-8", "-l"], &page), "", "{}", page.display());
    }
}

/// The commands below `# EXAMPLES`, without the words between.
fn examples(page: &Path) -> String {
    let text = fs::read_to_string(page).expect("read the page's text");
    let lines = text.lines().skip_while(|line| *line != "# EXAMPLES").skip(1);
    let lines = lines.take_while(|line| !line.starts_with("# ")).filter_map(|line| line.strip_prefix("    "));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// What a reader of these pages has at hand: web1 in the state that the command is for.
fn prepare(command: &str, web: &Container) {
    if ["start", "exec", "state", "list", "ps", "kill", "delete", "pause", "resume", "update", "events"]
        .contains(&command)
    {
        web.create().success();
    }
    if ["exec", "state", "list", "ps", "kill", "delete", "pause", "resume", "update", "events"]
        .contains(&command)
    {
        web.start().success();
    }
    if command == "resume" {
        web.call(&["pause", "ID"]).success();
    }
}

/// Runs the examples of each page one after another in bash, as they stand but for the names.
#[test]
fn root_every_example_works() {
    needs!(Root, Busybox, Bash);
    let runtime = Runtime::under_test();
    let help = Command::new(runtime.program()).arg("--help").output().expect("the runtime starts").stdout;
    let help = String::from_utf8(help).expect("help is text");
    let unbuilt = help.split_once("Not built yet").map_or("", |(_, unbuilt)| unbuilt);
    for page in folder("pages") {
        let command = page.file_stem().expect("a page has a name").to_str().expect("in ASCII").to_owned();
        if unbuilt.lines().any(|line| line.trim_start().split(' ').next() == Some(&command)) {
            continue;
        }
        let script = examples(&page);
        assert!(script.contains("cofferdam"), "{command}: no example");
        let web = Bundle::new("web").shell("sleep 300");
        let hello = Bundle::new("hello");
        let container = web.container(&runtime);
        prepare(&command, &container);

        let dir = |bundle: &Bundle| bundle.dir().display().to_string();
        let script = script
            .replace("/srv/web", &dir(&web))
            .replace("/srv/hello", &dir(&hello))
            .replace("/tmp/containers", &format!("{}/containers", dir(&web)))
            .replace("/tmp/bundle", &format!("{}/bundle", dir(&web)))
            .replace("> /tmp/", &format!("> {}/", dir(&web)))
            .replace(". /tmp/", &format!(". {}/", dir(&web)))
            .replace("web1", web.id())
            .replace("hello1", hello.id());
        // `cofferdam` is the runtime under test, with a state root of the test's.
        let (program, root) = (runtime.program().display(), web.state_root());
        let script = format!("cofferdam() {{ {program} --root {} \"$@\"; }}\n{script}", root.display());
        // A file, not a pipe: what stays in the background would keep a pipe open.
        let told = web.dir().join("told");
        let file = || fs::File::options().create(true).append(true).open(&told).expect("make a file");
        let status = Command::new("bash")
            .args(["-euxo", "pipefail", "-c", &script])
            .env(tests::MARKER, web.id())
            .current_dir(web.dir())
            .stdin(Stdio::null())
            .stdout(file())
            .stderr(file())
            .status()
            .expect("bash starts");
        let told = fs::read_to_string(&told).expect("read what was told");
        assert!(status.success(), "{command}: {status}\n{told}");
        if container.status().is_some() {
            container.delete_force().success();
        }
    }
}
