//! The manual pages, made from the table of flags and from the texts in `pages/`, compared whole with `man/`.
//!
//! `BLESS=1 cargo test -p cofferdam --test manual` writes them anew. What is in `man/` is what `make install` puts in
//! place: the generator is here, in a test, so that the program carries no text that it never prints and a packager
//! needs no other program to be built. Each page in `pages/` is plain to read; see [`source`] for its form.
#![allow(clippy::expect_used, clippy::panic)] // A test may end where its files are not there or not as they should be.

#[path = "manual/page.rs"]
mod page;
#[path = "manual/parts.rs"]
mod parts;
#[path = "manual/roff.rs"]
mod roff;
#[path = "manual/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use cofferdam::flags::{Flag, GLOBAL, VERBS};
use source::Source;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn source(name: &str) -> Source {
    let path = folder("pages").join(format!("{name}.md"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Source::read(&text)
}

/// The text of each page by its name without the section: `cofferdam-run`.
fn pages() -> Vec<(String, String)> {
    let program = ("cofferdam".to_owned(), page::of_program(&source("cofferdam")));
    let verbs = VERBS.iter().map(|verb| {
        let text =
            if verb.unbuilt { page::of_unbuilt(verb) } else { page::of_verb(verb, &source(verb.name)) };
        (format!("cofferdam-{}", verb.name), text)
    });
    [program].into_iter().chain(verbs).collect()
}

fn names(folder_name: &str) -> BTreeSet<String> {
    let files = fs::read_dir(folder(folder_name)).expect("the folder is there");
    files.map(|file| file.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn each_page_is_as_the_table_and_its_text_have_it() {
    let mut made = BTreeSet::new();
    for (name, text) in pages() {
        let file = format!("{name}.1");
        let path = folder("man").join(&file);
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, &text).expect("the page can be written");
        }
        let there = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, there, "{file}: BLESS=1 cargo test -p cofferdam --test manual");
        made.insert(file);
    }
    assert_eq!(names("man"), made, "pages of commands that are no more");
}

#[test]
fn no_text_is_left_over() {
    // One that is not built yet may have its text already.
    let known = VERBS.iter().map(|verb| verb.name).chain(["cofferdam"]).map(|name| format!("{name}.md"));
    let left: Vec<_> = names("pages").difference(&known.collect()).cloned().collect();
    assert!(left.is_empty(), "texts of commands that are no more: {left:?}");
}

fn told(text: &str, flags: &[Flag], page: &str) {
    for flag in flags.iter().filter(|flag| !flag.hidden) {
        let long = format!("\\-\\-{}", flag.long.replace('-', "\\-"));
        assert!(text.contains(&long), "{page}: --{}", flag.long);
    }
}

#[test]
fn every_flag_of_the_table_is_on_its_page() {
    for ((name, text), flags) in
        pages().iter().zip([GLOBAL].into_iter().chain(VERBS.iter().map(|verb| verb.flags)))
    {
        told(text, flags, name);
    }
}

/// Where the text says more about a flag than the table, there is such a flag.
#[test]
fn no_flag_is_told_that_is_not_in_the_table() {
    let verbs = VERBS.iter().filter(|verb| !verb.unbuilt).map(|verb| (verb.name, verb.flags));
    for (name, flags) in verbs.chain([("cofferdam", GLOBAL)]) {
        for told in source(name).flags() {
            assert!(flags.iter().any(|flag| !flag.hidden && flag.long == told), "{name}: --{told}");
        }
    }
}

#[test]
fn each_page_has_its_sections() {
    let head = |section: &str| format!("\n.SH {section}\n");
    let of_all = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"];
    for (name, text) in pages() {
        for section in of_all {
            assert!(text.contains(&head(section)), "{name}: {section}");
        }
        let verb = VERBS.iter().find(|verb| Some(verb.name) == name.strip_prefix("cofferdam-"));
        if verb.is_none_or(|verb| !verb.unbuilt) {
            assert!(text.contains(&head("EXAMPLES")), "{name}: EXAMPLES");
        }
        if verb.is_none_or(page::is_of_containers) {
            assert!(text.contains(&head("FILES")) && text.contains(&head("ENVIRONMENT")), "{name}: FILES");
        }
    }
}

/// What a page refers to of ours is there.
#[test]
fn see_also_leads_somewhere() {
    let known: Vec<String> = pages().into_iter().map(|(name, _)| name).collect();
    for verb in VERBS.iter().filter(|verb| !verb.unbuilt) {
        for other in source(verb.name).see_also() {
            let (name, _) = other.split_once('(').expect("a page has a section");
            let is_ours = name.starts_with("cofferdam");
            assert!(!is_ours || known.iter().any(|known| known == name), "{}: {other}", verb.name);
            assert_ne!(name.strip_prefix("cofferdam-"), Some(verb.name), "{name}: itself");
        }
    }
}

#[test]
fn a_line_that_roff_would_take_for_a_request_is_none() {
    assert_eq!(roff::text(".config\\x"), "\\&.config\\ex");
    assert_eq!(roff::text("'so"), "\\&'so");
    assert_eq!(roff::text("`--id` of *ID*, see ps(1)"), "\\fB\\-\\-id\\fR of \\fIID\\fR, see \\fBps\\fR(1)");
    assert_eq!(roff::literal("a-b\\n"), "a\\-b\\en");
}

#[test]
fn a_source_is_read_by_sections() {
    let source = Source::read(
        "# DESCRIPTION\n\nOne\nline.\n\n- `a`: first\n- `b`: second\n\n    code x\n\n    code y\n",
    );
    let blocks = source.section("DESCRIPTION");
    assert_eq!(blocks.len(), 4, "{blocks:?}");
    assert_eq!(
        roff::blocks(blocks),
        ".PP\nOne line.\n.TP\n\\fBa\\fR\nFirst.\n.TP\n\\fBb\\fR\nSecond.\n.PP\n.RS 4\n.EX\ncode x\n\ncode y\n.EE\n.RE\n"
    );
}
