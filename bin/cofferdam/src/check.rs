//! What this host can do for containers, told to a person: from what was found to lines, with nothing read on the way.
//!
//! A line says what is, and, where something is not as it could be, what happens then and what to do. Begin with
//! [`Report::of`].

mod callers;
mod groups;
mod kernel;
mod people;

use std::fmt;

use probe::survey::Survey;
use serde::Serialize;

/// All lines, and what they come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether a container can run: nothing is missing.
    pub runs: bool,
    /// In the order in which a person would ask.
    pub lines: Vec<Line>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What it belongs to: `kernel`, `caller`, and so on.
    pub about: &'static str,
    /// What it is.
    pub name: String,
    /// How it stands.
    pub grade: Grade,
    /// What is, what happens without it, what to do.
    pub told: String,
}

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// Containers run, with less.
    Degraded,
    /// No container runs.
    Missing,
    /// Neither good nor bad.
    Note,
}

impl Report {
    /// Judges what was found.
    pub fn of(survey: &Survey) -> Self {
        let lines = [
            kernel::lines(survey),
            people::namespaces(survey),
            people::caller(survey),
            groups::lines(survey),
            callers::lines(survey),
        ];
        let lines: Vec<Line> = lines.into_iter().flatten().collect();
        Self { runs: lines.iter().all(|line| line.grade != Grade::Missing), lines }
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    fn count(&self, grade: Grade) -> usize {
        self.lines.iter().filter(|line| line.grade == grade).count()
    }
}

impl Grade {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
            Self::Note => "note",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.lines.iter().map(|line| line.name.len()).max().unwrap_or(0);
        let mut about = "";
        for line in &self.lines {
            if line.about != about {
                let gap = if about.is_empty() { "" } else { "\n" };
                about = line.about;
                writeln!(to, "{gap}{about}")?;
            }
            writeln!(to, "  {:8}  {:width$}  {}", line.grade.word(), line.name, line.told)?;
        }
        let degraded = match self.count(Grade::Degraded) {
            0 => String::new(),
            1 => "; 1 thing is degraded".to_owned(),
            more => format!("; {more} things are degraded"),
        };
        match self.count(Grade::Missing) {
            0 => writeln!(to, "\nContainers can run here{degraded}."),
            1 => writeln!(to, "\nContainers cannot run here: 1 thing is missing{degraded}."),
            more => writeln!(to, "\nContainers cannot run here: {more} things are missing{degraded}."),
        }
    }
}

/// The lines of one subject, as they are gathered.
struct Lines {
    about: &'static str,
    lines: Vec<Line>,
}

impl Lines {
    fn new(about: &'static str) -> Self {
        Self { about, lines: Vec::new() }
    }

    fn add(&mut self, grade: Grade, name: impl Into<String>, told: impl Into<String>) {
        self.lines.push(Line { about: self.about, name: name.into(), grade, told: told.into() });
    }
}

#[cfg(test)]
mod tests;
