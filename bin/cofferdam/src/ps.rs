//! The processes of a container, out of what the host's ps prints.

use crate::flags::Misuse;

/// What `ps` prints: the heading and the lines of `output` whose PID is one of `pids`.
///
/// The heading tells where the PID stands in a line, in words: a column before it that can be empty, or hold
/// blanks, misleads runc in the same way.
pub fn table(output: &str, pids: &[i32]) -> Result<String, Misuse> {
    let mut lines = output.split('\n');
    let heading = lines.next().unwrap_or_default();
    let column = heading
        .split_whitespace()
        .position(|word| word == "PID")
        .ok_or_else(|| Misuse::new("couldn't find PID field in ps output"))?;
    let mut text = format!("{heading}\n");
    for line in lines.filter(|line| !line.is_empty()) {
        let word = line.split_whitespace().nth(column).unwrap_or_default();
        let pid: i32 = word.parse().map_err(|_| Misuse::new(format!("unable to parse pid: {word:?}")))?;
        if pids.contains(&pid) {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

/// What `ps --format json` prints.
pub fn json(pids: &[i32]) -> String {
    if pids.is_empty() {
        return "null\n".into();
    }
    let pids: Vec<_> = pids.iter().map(i32::to_string).collect();
    format!("[{}]\n", pids.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = include_str!("../tests/fixtures/ps-ef.txt");

    /// The same processes, by runc 1.1.5.
    #[test]
    fn the_lines_are_runcs() {
        assert_eq!(
            table(HOST, &[18984, 18973]).as_deref(),
            Ok(include_str!("../tests/fixtures/runc-1.1.5-ps.txt"))
        );
    }

    #[test]
    fn nobody_leaves_the_heading_alone() {
        assert_eq!(table(HOST, &[]).map(|text| text.lines().count()), Ok(1));
    }

    #[test]
    fn the_column_is_found_by_its_heading() {
        assert_eq!(
            table("  PID COMMAND\n    7 sh\n   70 cat\n", &[7]),
            Ok("  PID COMMAND\n    7 sh\n".into())
        );
        assert_eq!(table("COMMAND PID\nsh 7\ncat 70", &[70]), Ok("COMMAND PID\ncat 70\n".into()));
    }

    #[test]
    fn what_has_no_pid_is_refused() {
        let told = |output| table(output, &[1]).map_err(|misuse| misuse.to_string());
        assert_eq!(told("COMMAND\nsh\n"), Err("couldn't find PID field in ps output".into()));
        assert_eq!(told(""), Err("couldn't find PID field in ps output".into()));
        assert_eq!(told("PID\nsh\n"), Err("unable to parse pid: \"sh\"".into()));
        assert_eq!(told("USER PID\nroot\n"), Err("unable to parse pid: \"\"".into()));
    }

    #[test]
    fn json_is_as_go_writes_it() {
        assert_eq!(json(&[18973, 18984]), "[18973,18984]\n");
        assert_eq!(json(&[]), "null\n");
    }
}
