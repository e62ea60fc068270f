//! Completion as each shell does it: the script that the program prints, read by the shell itself.
//!
//! No test here but the last needs root; they need the runtime, which `make check` does not build, and so bear the name.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests::{Bundle, Runtime, needs};

/// A directory with the runtime in it under the name that people type, with the scripts, and with something to find.
struct Desk {
    dir: PathBuf,
}

impl Desk {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("cdt-{}-{name}", std::process::id()));
        let desk = Self { dir };
        for inner in ["bin", "scripts", "files/bundle"] {
            fs::create_dir_all(desk.dir.join(inner)).expect("make the test's directories");
        }
        fs::write(desk.dir.join("files/image.tar"), "").expect("make a file");
        symlink(Runtime::under_test().program(), desk.dir.join("bin/cofferdam")).expect("link the runtime");
        for (shell, file) in [("bash", "cofferdam.bash"), ("zsh", "_cofferdam"), ("fish", "cofferdam.fish")] {
            let script = desk.run(&["cofferdam", "completion", shell]);
            fs::write(desk.dir.join("scripts").join(file), script).expect("write the script");
        }
        desk
    }

    fn script(&self, name: &str) -> String {
        self.dir.join("scripts").join(name).display().to_string()
    }

    /// Runs a program to its end, in the directory with the files, and with nothing of our environment; what it printed.
    fn run(&self, line: &[&str]) -> String {
        let path = std::env::var("PATH").expect("PATH is text");
        let output = Command::new("env")
            .args(["-i", "TERM=dumb"])
            .arg(format!("HOME={}", self.dir.display()))
            .arg(format!("PATH={}:{path}", self.dir.join("bin").display()))
            .args(line)
            .current_dir(self.dir.join("files"))
            .stdin(Stdio::null())
            .output()
            .expect("the program starts");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && err.is_empty(), "{line:?}: {}\n{out}\n{err}", output.status);
        out.into_owned()
    }

    /// What bash would offer for these words, the last of which is being typed.
    fn bash(&self, words: &[&str]) -> String {
        // compopt tells readline what it looks for itself, and only while that has called: here it is noted down.
        const DRIVE: &str = r#"source "$1"; shift
            compopt() { COMPREPLY+=("compopt $*"); }
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
            "$(complete -p cofferdam | sed 's/.*-F \([^ ]*\) .*/\1/')"
            printf '%s\n' "${COMPREPLY[@]}""#;
        let script = self.script("cofferdam.bash");
        self.run(&[&["bash", "--norc", "-c", DRIVE, "bash", &script, "cofferdam"], words].concat())
    }

    /// What fish would offer for this line.
    fn fish(&self, line: &str) -> String {
        let script = self.script("cofferdam.fish");
        self.run(&["fish", "--no-config", "-c", "source $argv[1]; complete -C $argv[2]", &script, line])
    }

    /// What a line becomes in an interactive zsh on a terminal of its own when Tab is pressed at its end.
    fn zsh(&self, line: &str) -> String {
        const DRIVE: &str = r#"zmodload zsh/zpty
            zpty zsh 'zsh -f -i'
            zpty -w -n zsh "fpath=($1 \$fpath); autoload -U compinit; compinit -u -D
                written() { print -r -- \$BUFFER > $2; exit }
                zle -N written; bindkey '^X' written; bindkey '^I' complete-word"$'\n'"$3"$'\t\x18'
            while zpty -r zsh ignored; do :; done
            cat "$2""#;
        let (scripts, out) = (self.dir.join("scripts"), self.dir.join("out"));
        let (scripts, out) = (scripts.display().to_string(), out.display().to_string());
        self.run(&["zsh", "-f", "-c", DRIVE, "zsh", &scripts, &out, line])
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).expect("remove the test's directory");
    }
}

#[test]
fn root_the_scripts_are_those_of_the_tree() {
    let desk = Desk::new("tree");
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bin/cofferdam/completions");
    let files: Vec<_> = fs::read_dir(tree).expect("the scripts are there").flatten().collect();
    assert_eq!(files.len(), 3);
    for file in files {
        let name = file.file_name().into_string().expect("a name that is text");
        let text = fs::read_to_string(file.path()).expect("read a script");
        assert_eq!(fs::read_to_string(desk.script(&name)).expect("read what was printed"), text, "{name}");
    }
}

#[test]
fn root_bash_completes_by_the_script() {
    needs!(Bash);
    let desk = Desk::new("bash");
    assert_eq!(desk.bash(&["sta"]), "start\nstate\n");
    assert_eq!(desk.bash(&["--debug", "list", "--for"]), "--format\n");
    assert_eq!(desk.bash(&["list", "--format", "=", ""]), "json\ntable\n");
    assert_eq!(desk.bash(&["list", "--format", "="]), "json\ntable\n");
    assert_eq!(desk.bash(&["create", "--bundle", ""]), "compopt -o dirnames\n");
    assert_eq!(desk.bash(&["try", "--tar", "im"]), "compopt -o default\n");
    assert_eq!(desk.bash(&["create", ""]), "\n");
}

#[test]
fn root_fish_completes_by_the_script() {
    needs!(Fish);
    let desk = Desk::new("fish");
    assert_eq!(desk.fish("cofferdam paus"), "pause\tfreeze all processes of a container\n");
    assert_eq!(desk.fish("cofferdam --debug list --for"), "--format\ttable or json\n");
    assert_eq!(desk.fish("cofferdam list --format=j"), "--format=json\n");
    assert_eq!(desk.fish("cofferdam list --format "), "json\ntable\n");
    assert_eq!(desk.fish("cofferdam create --bundle "), "bundle/\tDirectory\n");
    assert_eq!(desk.fish("cofferdam create --bundle=b"), "--bundle=bundle/\tDirectory\n");
    assert_eq!(desk.fish("cofferdam try --tar im"), "image.tar\n");
    assert_eq!(desk.fish("cofferdam create "), "");
}

#[test]
fn root_zsh_completes_by_the_script() {
    needs!(Zsh);
    let desk = Desk::new("zsh");
    for (line, whole) in [
        ("cofferdam paus", "cofferdam pause \n"),
        ("cofferdam --debug list --form", "cofferdam --debug list --format \n"),
        ("cofferdam list --format=j", "cofferdam list --format=json \n"),
        ("cofferdam create --bundle ", "cofferdam create --bundle bundle/\n"),
        ("cofferdam create --bundle=b", "cofferdam create --bundle=bundle/\n"),
        ("cofferdam try --tar im", "cofferdam try --tar image.tar \n"),
        ("cofferdam create ", "cofferdam create \n"),
    ] {
        assert_eq!(desk.zsh(line), whole, "{line}");
    }
}

/// Read by each shell that is here: the id of a container that there is, from the state root that the line names.
#[test]
fn root_ids_are_completed() {
    needs!(Root, Busybox, Bash, Fish, Zsh);
    let bundle = Bundle::new("shells");
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    let (root, id) = (bundle.state_root().display().to_string(), bundle.id());
    let (begun, _) = id.split_at(id.len() - 3);
    let desk = Desk::new("ids");
    assert_eq!(desk.bash(&["--root", &root, "start", begun]), format!("{id}\n"));
    assert_eq!(desk.fish(&format!("cofferdam --root={root} start ")), format!("{id}\tcontainer\n"));
    let line = format!("cofferdam --root {root} delete ");
    assert_eq!(desk.zsh(&line), format!("{line}{id} \n"));
    // A state root that is not there is no reason to disturb who types.
    assert_eq!(desk.bash(&["--root", "/nonexistent/state", "start", ""]), "\n");
    container.delete_force().success();
}
