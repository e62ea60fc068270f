//! A page: what the table has and what was written by hand, in the order of man-pages(7).

use cofferdam::flags::{GLOBAL, HELP, VERBS, Verb};

use super::parts::{flags, head, section, see_also, synopsis};
use super::roff::{blocks, sentence, text, wrapped};
use super::source::Source;

pub(crate) fn of_program(source: &Source) -> String {
    let mut page = head("cofferdam", "COFFERDAM");
    page += &section("NAME", "cofferdam \\- run containers on Linux\n");
    page += &section(
        "SYNOPSIS",
        "\\fBcofferdam\\fR [\\fIFLAGS\\fR] \\fICOMMAND\\fR [\\fIFLAGS\\fR] [\\fIARGUMENTS\\fR]\n",
    );
    page += &section("DESCRIPTION", &blocks(source.section("DESCRIPTION")));
    page += &section("COMMANDS", &commands());
    page += &section("OPTIONS", &flags(GLOBAL.iter(), source));
    for name in ["EXIT STATUS", "FILES", "ENVIRONMENT", "EXAMPLES"] {
        page += &section(name, &blocks(source.section(name)));
    }
    let pages = VERBS.iter().map(|verb| format!("cofferdam-{}(1)", verb.name));
    wrapped(&(page + &section("SEE ALSO", &see_also(pages.chain(source.see_also()).collect()))))
}

pub(crate) fn of_verb(verb: &Verb, source: &Source) -> String {
    let mut page = head("cofferdam", &format!("COFFERDAM-{}", verb.name.to_uppercase()));
    page += &section("NAME", &format!("cofferdam\\-{} \\- {}\n", verb.name, verb.about));
    page += &section("SYNOPSIS", &synopsis("cofferdam", verb));
    let long = Source::read(&format!("# DESCRIPTION\n\n{}\n", verb.long));
    let told = [&long, source].map(|text| blocks(text.section("DESCRIPTION")));
    page += &section("DESCRIPTION", &told.concat());
    page += &section("OPTIONS", &flags(verb.flags.iter().chain([&HELP]), source));
    let mut other = |name, otherwise: &str| match source.section(name) {
        [] if otherwise.is_empty() => {}
        [] => page += &section(name, &blocks(Source::read(otherwise).section(name))),
        own => page += &section(name, &blocks(own)),
    };
    let is_of_containers = is_of_containers(verb);
    other("EXIT STATUS", EXIT_STATUS);
    other("FILES", if is_of_containers { FILES } else { "" });
    other("ENVIRONMENT", if is_of_containers { ENVIRONMENT } else { "" });
    other("EXAMPLES", "");
    let pages = ["cofferdam(1)".to_owned()].into_iter().chain(source.see_also());
    wrapped(&(page + &section("SEE ALSO", &see_also(pages.collect()))))
}

/// A command that is refused by its name: what it will take, so that nobody looks for it elsewhere.
pub(crate) fn of_unbuilt(verb: &Verb) -> String {
    const TEXT: &str = "# DESCRIPTION\n\nThis command is not built yet: it is refused by its name. Its flags are those of runc(8).\n";
    of_verb(verb, &Source::read(TEXT))
}

/// Whether it looks into the state root.
pub(crate) fn is_of_containers(verb: &Verb) -> bool {
    verb.usage.starts_with("ID") || ["list", "try"].contains(&verb.name)
}

const EXIT_STATUS: &str =
    "# EXIT STATUS\n\n- `0`: it is done.\n- `1`: it is not; the reason stands on standard error.\n";
const FILES: &str =
    "# FILES\n\n- `/run/cofferdam/ID`: the container's record, if `--root` names no other place.\n";
const ENVIRONMENT: &str =
    "# ENVIRONMENT\n\n- `XDG_RUNTIME_DIR`: for others than root, what is in `/run` is in this directory.\n";

fn commands() -> String {
    let items = VERBS.iter().map(|verb| {
        let note = if verb.unbuilt { " Not built yet." } else { "" };
        format!(".TP\n\\fBcofferdam\\-{}\\fR(1)\n{}{note}\n", verb.name, text(&sentence(verb.about)))
    });
    items.collect()
}
