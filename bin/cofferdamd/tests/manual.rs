//! The manual page, made from the table of flags and from the text in `pages/`, compared whole with `man/`:
//! `BLESS=1 cargo test -p cofferdamd --test manual` writes it anew. And the example of a configuration, which must be one.
//!
//! The parts of a page are those of cofferdam's: one manner, one code.
#![allow(clippy::expect_used, clippy::panic)] // A test may end where its files are not there or not as they should be.

#[path = "../../cofferdam/tests/manual/parts.rs"]
#[allow(dead_code, reason = "a page without commands")]
mod parts;
#[path = "../../cofferdam/tests/manual/roff.rs"]
mod roff;
#[path = "../../cofferdam/tests/manual/source.rs"]
mod source;

use std::fs;
use std::path::PathBuf;

use cofferdamd::flags::TABLE;
use parts::{flags, head_of_section, section, see_also};
use roff::blocks;
use source::Source;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn source() -> Source {
    Source::read(&fs::read_to_string(path("pages/cofferdamd.md")).expect("the page's text"))
}

fn page(source: &Source) -> String {
    let mut page = head_of_section("cofferdamd", "COFFERDAMD", 8);
    page += &section("NAME", &format!("cofferdamd \\- {}\n", TABLE.about));
    page += &section("SYNOPSIS", "\\fBcofferdamd\\fR [\\fIFLAGS\\fR]\n");
    page += &section("DESCRIPTION", &blocks(source.section("DESCRIPTION")));
    page += &section("OPTIONS", &flags(TABLE.global.iter(), source));
    for name in ["SIGNALS", "EXIT STATUS", "FILES", "EXAMPLES"] {
        page += &section(name, &blocks(source.section(name)));
    }
    roff::wrapped(&(page + &section("SEE ALSO", &see_also(source.see_also()))))
}

#[test]
fn the_page_is_as_the_table_and_its_text_have_it() {
    let (name, text) = ("man/cofferdamd.8", page(&source()));
    if std::env::var_os("BLESS").is_some() {
        fs::write(path(name), &text).expect("it can be written");
    }
    let there = fs::read_to_string(path(name)).unwrap_or_default();
    assert_eq!(text, there, "{name}: BLESS=1 cargo test -p cofferdamd --test manual");
}

#[test]
fn no_flag_is_told_that_is_not_in_the_table() {
    for flag in source().flags() {
        assert!(TABLE.global.iter().any(|known| known.long == flag), "--{flag}");
    }
}
