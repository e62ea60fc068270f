//! What two runtimes say, made comparable, and the table of differences that are meant to be.
//!
//! docs/differences.md is prose for people with one Markdown table in it: command, states, stream, what runc says, what
//! we say, and why. [`Table::judge`] holds it against what was seen: a difference that is not listed fails, and so does
//! a line of the table that no longer is one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// In place of an empty text.
const NOTHING: &str = "(nothing)";
/// In place of the end of a line.
const BREAK: &str = "⏎";
/// In place of the list of all states that a command was tried in.
const ALL: &str = "all";
/// In place of a command: a row for whichever commands it is so of.
const ANY: &str = "(any)";

/// One place where the two said different things.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The command as typed.
    pub command: String,
    /// The state that the container was in.
    pub state: String,
    /// `exit`, `stdout`, `stderr`, `file`, or `state` for the container's state afterwards.
    pub stream: String,
    /// What runc says there.
    pub runc: String,
    /// What the runtime under test says.
    pub ours: String,
}

/// Differences that are listed, with the reason of each.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    line: usize,
    command: String,
    states: Vec<String>,
    stream: String,
    runc: String,
    ours: String,
}

impl Table {
    /// Reads the table out of the document: the rows between its head and the first line that is no row.
    pub fn parse(document: &str) -> Result<Self, String> {
        let mut lines = document.lines().enumerate().map(|(at, line)| (at + 1, line));
        if !lines.any(|(_, line)| line.starts_with("| command |")) {
            return Err("there is no table that begins with `| command |`".into());
        }
        let rows = lines.skip(1).take_while(|(_, line)| line.starts_with('|'));
        Ok(Self { rows: rows.map(|(at, line)| Row::parse(at, line)).collect::<Result<_, _>>()? })
    }

    /// Complaints: what was seen and is not listed, and what is listed and was not seen. `tried` holds each pair of
    /// command and state that was tried; lines about others are left alone.
    pub fn judge(&self, seen: &BTreeSet<Difference>, tried: &BTreeSet<(String, String)>) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut listed = BTreeSet::new();
        for row in &self.rows {
            if row.command == ANY {
                for state in &row.states {
                    let found: Vec<_> =
                        seen.iter().filter(|seen| row.is_like(seen, state)).cloned().collect();
                    if found.is_empty() {
                        complaints.push(format!(
                            "line {}: stale: no longer so for any command and a container that is {state}",
                            row.line
                        ));
                    }
                    listed.extend(found);
                }
                continue;
            }
            let all: Vec<_> =
                tried.iter().filter(|(command, _)| *command == row.command).map(|(_, state)| state).collect();
            if all.is_empty() {
                complaints.push(format!(
                    "line {}: there is no command `{}` among those tried",
                    row.line, row.command
                ));
            }
            let everywhere = row.states == [ALL];
            for state in all.into_iter().filter(|state| everywhere || row.states.contains(state)) {
                let difference = row.of(state);
                if !seen.contains(&difference) {
                    complaints.push(format!(
                        "line {}: stale: no longer so for a container that is {state}",
                        row.line
                    ));
                }
                listed.insert(difference);
            }
        }
        let unlisted: BTreeSet<_> = seen.difference(&listed).cloned().collect();
        complaints.extend(lines(&unlisted, tried).into_iter().map(|line| format!("not listed: {line}")));
        complaints
    }
}

impl Row {
    fn parse(at: usize, line: &str) -> Result<Self, String> {
        let cells = cells(line);
        let [command, states, stream, runc, ours, why] = cells.as_slice() else {
            return Err(format!("line {at}: {} cells where 6 are needed", cells.len()));
        };
        if why.is_empty() {
            return Err(format!("line {at}: says not why"));
        }
        let states = states.split(',').map(|state| state.trim().to_owned()).collect();
        let (command, stream) = (unquote(command), stream.clone());
        Ok(Self { line: at, command, states, stream, runc: unquote(runc), ours: unquote(ours) })
    }

    /// Whether the row, which may be one for any command, lists this difference for this state.
    fn is_like(&self, seen: &Difference, state: &str) -> bool {
        let Difference { state: found, stream, runc, ours, .. } = seen;
        (&**found, stream, runc, ours) == (state, &self.stream, &self.runc, &self.ours)
    }

    fn of(&self, state: &str) -> Difference {
        Difference {
            command: self.command.clone(),
            state: state.to_owned(),
            stream: self.stream.clone(),
            runc: self.runc.clone(),
            ours: self.ours.clone(),
        }
    }
}

/// The rows that list `seen`, to be pasted into the table and completed with the reason. States in which the same is
/// said share a row.
pub fn lines(seen: &BTreeSet<Difference>, tried: &BTreeSet<(String, String)>) -> Vec<String> {
    let mut rows: BTreeMap<[&str; 4], Vec<&str>> = BTreeMap::new();
    for difference in seen {
        let key = [&*difference.command, &*difference.stream, &*difference.runc, &*difference.ours];
        rows.entry(key).or_default().push(&difference.state);
    }
    let row = |([command, stream, runc, ours], states): ([&str; 4], Vec<&str>)| {
        let all = tried.iter().filter(|(tried, _)| tried == command).count();
        let states = if states.len() == all { ALL.to_owned() } else { states.join(", ") };
        format!("| {} | {states} | {stream} | {} | {} | |", quote(command), quote(runc), quote(ours))
    };
    rows.into_iter().map(row).collect()
}

/// The cells of a row; `\|` is a bar that does not end a cell.
fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut letters = line.trim().trim_start_matches('|').chars().peekable();
    while let Some(letter) = letters.next() {
        let cell = cells.last_mut().expect("there is always a last cell");
        match letter {
            '\\' if letters.next_if_eq(&'|').is_some() => cell.push('|'),
            '|' => cells.push(String::new()),
            other => cell.push(other),
        }
    }
    // What follows the last bar is no cell.
    cells.pop();
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

fn quote(text: &str) -> String {
    if text.is_empty() {
        return NOTHING.into();
    }
    let text = text.replace('\n', BREAK).replace('|', "\\|");
    // Markdown takes off the one space that stands at either side within a double fence.
    if text.contains('`') { format!("`` {text} ``") } else { format!("`{text}`") }
}

fn unquote(cell: &str) -> String {
    if cell == NOTHING {
        return String::new();
    }
    let inner = |before: &str, after: &str| cell.strip_prefix(before)?.strip_suffix(after);
    let text = inner("`` ", " ``").or_else(|| inner("`", "`")).unwrap_or(cell);
    text.replace(BREAK, "\n")
}

/// The places where two texts differ, as pairs of what stands in the one and what in the other.
pub fn hunks(one: &str, other: &str) -> Vec<(String, String)> {
    let split = |text: &str| -> Vec<String> {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        if let Some(last) = lines.last_mut()
            && !text.ends_with('\n')
        {
            last.push_str(" (no newline)");
        }
        lines
    };
    let (one, other) = (split(one), split(other));
    // How many lines the rests of both texts have in common, in order, by where the rests begin.
    let mut common = vec![vec![0_usize; other.len() + 1]; one.len() + 1];
    for i in (0..one.len()).rev() {
        for j in (0..other.len()).rev() {
            common[i][j] = if one[i] == other[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let mut hunks = Vec::new();
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let (mut i, mut j) = (0, 0);
    while i < one.len() || j < other.len() {
        if i < one.len() && j < other.len() && one[i] == other[j] {
            if !left.is_empty() || !right.is_empty() {
                hunks.push((left.join("\n"), right.join("\n")));
                (left, right) = (Vec::new(), Vec::new());
            }
            (i, j) = (i + 1, j + 1);
        } else if j == other.len() || (i < one.len() && common[i + 1][j] >= common[i][j + 1]) {
            left.push(one[i].clone());
            i += 1;
        } else {
            right.push(other[j].clone());
            j += 1;
        }
    }
    if !left.is_empty() || !right.is_empty() {
        hunks.push((left.join("\n"), right.join("\n")));
    }
    hunks
}

/// A text without what may differ from run to run, and without what differs by the rules that docs/differences.md
/// tells in words: `names` holds what is to be replaced by what, in that order; times become `TIME`, spaces that pad
/// columns one space, a help text that was asked for `[usage]`, and the envelopes that errors come in are opened.
pub fn normal(text: &str, names: &[(String, &str)]) -> String {
    let mut normal = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
        if body.starts_with("Incorrect Usage") {
            break;
        }
        if is_usage(body) {
            // One line on what the program is for may stand before it.
            return "[usage]\n".into();
        }
        if body.starts_with("hint: ") {
            continue;
        }
        if body.starts_with(r#"{"type":"stats","#) {
            // What a container uses is another figure every time; `tests/tests/events.rs` compares the keys.
            normal.push_str(r#"{"type":"stats"}"#);
            normal.push_str(end);
            continue;
        }
        let mut body = open_envelope(body);
        for (name, stand_in) in names {
            body = replace_word(&body, name, stand_in);
        }
        for version in VERSIONS {
            for colon in [":", ": "] {
                let told = |version: &str| format!("\"ociVersion\"{colon}\"{version}\"");
                body = body.replace(&told(version), &told("VERSION"));
            }
        }
        normal.push_str(&plain_spaces(&plain_times(&plain_column(&body))));
        normal.push_str(end);
    }
    normal
}

/// The versions of the runtime specification that the two speak.
const VERSIONS: [&str; 2] = ["1.0.2-dev", "1.3.0"];

/// True for the line that a help text begins with.
fn is_usage(line: &str) -> bool {
    line.starts_with("NAME:") || line.starts_with("USAGE:") || line.starts_with("Usage:")
}

/// `time="…" level=error msg="…"` and `NAME: …` both become what they carry; other levels are kept. In a line of JSON
/// the message alone is opened.
fn open_envelope(line: &str) -> String {
    if let Some(rest) = line.strip_prefix("time=\"")
        && let Some((_, rest)) = rest.split_once("\" level=")
        && let Some((level, message)) = rest.split_once(" msg=")
    {
        let message = match message.strip_prefix('"').and_then(|message| message.strip_suffix('"')) {
            // Go quotes like JSON does, for all that appears in messages.
            Some(_) => serde_json::from_str(message).unwrap_or_else(|_| message.to_owned()),
            None => message.to_owned(),
        };
        let message = without_wish(message.trim_end_matches('\n'));
        return if level == "error" { message } else { format!("{level}: {message}") };
    }
    if line.starts_with("{\"level\":")
        && let Ok(mut log) = serde_json::from_str::<serde_json::Value>(line)
        && let Some(message) = log["msg"].as_str().map(without_wish)
    {
        log["msg"] = message.into();
        return log.to_string();
    }
    let line = line.strip_prefix("cofferdam: ").unwrap_or(line);
    match line.strip_prefix("warning: ") {
        Some(warning) => format!("warning: {}", without_wish(warning)),
        None => without_wish(line),
    }
}

/// An error without the command that failed: `runc create failed: `, before which `runc: ` may stand, there, and
/// `create ID: ` here.
fn without_wish(message: &str) -> String {
    // Without a command yet it is the program's path.
    if let Some((program, rest)) = message.split_once(": ")
        && (program == "runc" || program.ends_with("/runc"))
    {
        return rest.to_owned();
    }
    if let Some(rest) = message.strip_prefix("exec failed: ") {
        return rest.strip_prefix("unable to start container process: ").unwrap_or(rest).to_owned();
    }
    let verbs = [
        "create", "delete", "events", "exec", "kill", "pause", "ps", "resume", "run", "start", "state",
        "update",
    ];
    for verb in verbs {
        if let Some(rest) = message.strip_prefix(&format!("runc {verb} failed: ")) {
            return rest.strip_prefix("unable to start container process: ").unwrap_or(rest).to_owned();
        }
        if let Some((_, rest)) = message
            .strip_prefix(verb)
            .filter(|rest| rest.starts_with(' '))
            .and_then(|rest| rest.split_once(": "))
        {
            return rest.to_owned();
        }
    }
    message.to_owned()
}

/// `line 1 column 652` without the number, which depends on how long a path is.
fn plain_column(text: &str) -> String {
    match text.split_once(" column ") {
        Some((before, after)) => {
            format!("{before} column N{}", after.trim_start_matches(|letter: char| letter.is_ascii_digit()))
        }
        None => text.to_owned(),
    }
}

/// Replaces `name` where it does not stand inside a longer word.
fn replace_word(text: &str, name: &str, stand_in: &str) -> String {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        let inside = before.chars().next_back().or_else(|| replaced.chars().next_back()).is_some_and(is_word)
            || after.chars().next().is_some_and(is_word);
        replaced.push_str(before);
        replaced.push_str(if inside { name } else { stand_in });
        rest = after;
    }
    replaced + rest
}

/// `2026-01-31T12:00:00.123Z`, `12:00` and `12:00:00` become `TIME`.
fn plain_times(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut word = String::new();
    for letter in text.chars() {
        if letter.is_ascii_alphanumeric() || matches!(letter, '-' | ':' | '.' | '+') {
            word.push(letter);
            continue;
        }
        plain.push_str(if is_time(&word) { "TIME" } else { &word });
        word.clear();
        plain.push(letter);
    }
    plain.push_str(if is_time(&word) { "TIME" } else { &word });
    plain
}

fn is_time(word: &str) -> bool {
    let shape: String =
        word.chars().map(|letter| if letter.is_ascii_digit() { '9' } else { letter }).collect();
    matches!(&*shape, "99:99" | "99:99:99") || shape.starts_with("9999-99-99T99:99:99")
}

/// Spaces that pad a column become one; those a line begins with stay.
fn plain_spaces(text: &str) -> String {
    let body = text.trim_start_matches(' ');
    let mut plain = text[..text.len() - body.len()].to_owned();
    for word in body.split(' ').filter(|word| !word.is_empty()) {
        if !plain.trim_start_matches(' ').is_empty() {
            plain.push(' ');
        }
        plain.push_str(word);
    }
    plain
}

/// Complaints as one text.
pub fn tell(complaints: &[String]) -> String {
    complaints.iter().fold(String::new(), |mut told, complaint| {
        writeln!(told, "{complaint}").expect("a string takes everything");
        told
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(state: &str, runc: &str, ours: &str) -> Difference {
        let [command, state, stream, runc, ours] =
            ["kill ID A|B", state, "stderr", runc, ours].map(str::to_owned);
        Difference { command, state, stream, runc, ours }
    }

    fn document(rows: &[String]) -> String {
        let rows: Vec<_> = rows.iter().map(|row| row.replace("| |", "| because |")).collect();
        format!(
            "# Prose\n\n| command | states | stream | runc | we | why |\n|---|---|---|---|---|---|\n{}\n\nend\n",
            rows.join("\n")
        )
    }

    fn tried() -> BTreeSet<(String, String)> {
        ["none", "created", "paused"].map(|state| ("kill ID A|B".to_owned(), state.to_owned())).into()
    }

    #[test]
    fn rows_that_were_printed_are_read_back() {
        let seen = BTreeSet::from([
            difference("none", "", "a | `b`\nc"),
            difference("created", "`x", "y`"),
            difference("paused", "`x", "y`"),
        ]);
        let table = Table::parse(&document(&lines(&seen, &tried()))).expect("a table");
        assert_eq!(table.judge(&seen, &tried()), Vec::<String>::new());
    }

    #[test]
    fn the_same_in_all_states_is_one_row() {
        let seen: BTreeSet<_> = ["none", "created", "paused"].map(|state| difference(state, "x", "y")).into();
        assert_eq!(lines(&seen, &tried()), [r"| `kill ID A\|B` | all | stderr | `x` | `y` | |"]);
    }

    #[test]
    fn a_stale_row_and_an_unlisted_difference_are_complaints() {
        let listed = BTreeSet::from([difference("none", "x", "y")]);
        let seen = BTreeSet::from([difference("none", "x", "z")]);
        let table = Table::parse(&document(&lines(&listed, &tried()))).expect("a table");
        assert_eq!(
            table.judge(&seen, &tried()),
            [
                "line 5: stale: no longer so for a container that is none",
                r"not listed: | `kill ID A\|B` | none | stderr | `x` | `z` | |"
            ]
        );
    }

    #[test]
    fn a_row_may_be_for_any_command_and_is_stale_without_one() {
        let seen = BTreeSet::from([difference("none", "x", "y"), difference("paused", "x", "y")]);
        let row = |states: &str| {
            let row = format!("| (any) | {states} | stderr | `x` | `y` | |");
            Table::parse(&document(&[row])).expect("a table")
        };
        assert_eq!(row("none, paused").judge(&seen, &tried()), Vec::<String>::new());
        assert_eq!(
            row("none, paused, created").judge(&seen, &tried()),
            ["line 5: stale: no longer so for any command and a container that is created"]
        );
        assert_eq!(row("none").judge(&seen, &tried()).len(), 1, "paused is not listed");
    }

    #[test]
    fn a_row_without_a_reason_is_refused() {
        let document = "| command | states | stream | runc | we | why |\n|---|---|---|---|---|---|\n| a | none | exit | 1 | 2 | |\n";
        assert_eq!(Table::parse(document).map(|_| ()), Err("line 3: says not why".into()));
    }

    #[test]
    fn only_the_lines_that_differ_are_told() {
        assert_eq!(hunks("a\nb\nc\n", "a\nx\nc\n"), [("b".into(), "x".into())]);
        assert_eq!(hunks("a\n", "a\nb\n"), [(String::new(), "b".into())]);
        assert_eq!(hunks("a\n", "a"), [("a".into(), "a (no newline)".into())]);
        assert_eq!(hunks("a\nb\n", "a\nb\n"), []);
    }

    #[test]
    fn envelopes_times_and_names_are_taken_off() {
        let names = [("/tmp/b".to_owned(), "BUNDLE"), ("web".to_owned(), "ID"), ("42".to_owned(), "PID")];
        let normal = |text: &str| normal(text, &names);
        assert_eq!(
            normal("time=\"2026-01-31T12:00:00Z\" level=error msg=\"no \\\"web\\\"\\n\"\n"),
            "no \"ID\"\n"
        );
        assert_eq!(normal("time=\"2026-01-31T12:00:00Z\" level=warning msg=plain\n"), "warning: plain\n");
        assert_eq!(normal("cofferdam: start web: website\n"), "website\n");
        assert_eq!(normal("cofferdam: warning: delete web: odd\n"), "warning: odd\n");
        assert_eq!(
            normal("time=\"2026-01-31T12:00:00Z\" level=error msg=\"runc run failed: web\"\n"),
            normal("cofferdam: run web: web\n")
        );
        assert_eq!(
            normal("{\"level\":\"error\",\"msg\":\"kill web: no\",\"time\":\"2026-01-31T12:00:00Z\"}\n"),
            "{\"level\":\"error\",\"msg\":\"no\",\"time\":\"TIME\"}\n"
        );
        assert_eq!(normal("{\"ociVersion\":\"1.3.0\"}"), normal("{\"ociVersion\":\"1.0.2-dev\"}"));
        assert_eq!(normal("end at line 1 column 652\nhint: try\n"), "end at line 1 column N\n");
        assert_eq!(
            normal("web    42   /tmp/b  2026-01-31T12:00:00.12Z 12:01 421\n"),
            "ID PID BUNDLE TIME TIME 421\n"
        );
        assert_eq!(normal("what for\n\nNAME:\n   all of it\n"), "[usage]\n");
        assert_eq!(normal("Incorrect Usage.\n\nNAME:\n   all of it\n"), "");
        assert_eq!(normal("  \"pid\": 42,\n"), "  \"pid\": PID,\n");
    }
}
