//! The language of man(7), as much of it as the pages need.

use std::fmt::Write as _;

use super::source::Block;

/// One line of text, with its words in bold and italics.
pub(crate) fn text(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(['`', '*']) {
        let (before, marked) = rest.split_at(at);
        out.push_str(&references(before));
        let mark = &marked[..1];
        let (inner, after) =
            marked[1..].split_once(mark).unwrap_or_else(|| panic!("{mark} is not closed: {line}"));
        let font = if mark == "`" { 'B' } else { 'I' };
        write!(out, "\\f{font}{}\\fR", literal(inner)).expect("into a string");
        rest = after;
    }
    out.push_str(&references(rest));
    guarded(out)
}

/// What is typed: a hyphen there is a minus sign, which can be copied.
pub(crate) fn literal(word: &str) -> String {
    word.replace('\\', "\\e").replace('-', "\\-")
}

/// A page as it is referred to, `ps(1)`, has its name in bold.
fn references(text: &str) -> String {
    let text = text.replace('\\', "\\e");
    let words = text.split_inclusive(' ').map(|word| {
        let end = word
            .find('(')
            .filter(|at| *at > 0 && word[*at + 1..].starts_with(|sign: char| sign.is_ascii_digit()));
        match end {
            Some(at) => format!("\\fB{}\\fR{}", word[..at].replace('-', "\\-"), &word[at..]),
            None => word.to_owned(),
        }
    });
    words.collect()
}

/// A line that begins with one of these would be a request.
fn guarded(line: String) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}

/// The page with no line of text longer than a screen is wide, so that a change of it is seen where it is. Requests and
/// examples are as they are.
pub(crate) fn wrapped(page: &str) -> String {
    const WIDTH: usize = 78;
    let mut out = String::new();
    let mut is_code = false;
    for line in page.lines() {
        is_code = line == ".EX" || is_code && line != ".EE";
        let mut rest = line.to_owned();
        while !is_code && !rest.starts_with('.') && rest.len() > WIDTH {
            let end = rest.char_indices().map(|(at, _)| at).take_while(|at| *at <= WIDTH).last().unwrap_or(0);
            let Some(at) = rest[..end].rfind(' ').or_else(|| rest.find(' ')) else { break };
            out.push_str(&rest[..at]);
            out.push('\n');
            rest = guarded(rest[at + 1..].to_owned());
        }
        out.push_str(&rest);
        out.push('\n');
    }
    out
}

/// A sentence, from a few words of the table.
pub(crate) fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let end = if words.ends_with(['.', '?']) { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

/// The blocks of a section.
pub(crate) fn blocks(blocks: &[Block]) -> String {
    let mut out = String::new();
    for block in blocks {
        match block {
            Block::Text(paragraph) => writeln!(out, ".PP\n{}", text(paragraph)),
            Block::Item(term, told) => writeln!(out, ".TP\n{}\n{}", text(term), text(&sentence(told))),
            Block::Code(lines) => {
                let lines: Vec<_> = lines.iter().map(|line| guarded(literal(line))).collect();
                writeln!(out, ".PP\n.RS 4\n.EX\n{}\n.EE\n.RE", lines.join("\n"))
            }
        }
        .expect("into a string");
    }
    out
}
