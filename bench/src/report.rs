//! What is told: tables for people, one JSON document for machines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::place::Place;
use crate::runtime::{Case, Runtime};
use crate::sample::Calls;

/// Milliseconds of one runtime at one case with one pause between commands.
type Times = BTreeMap<(Duration, Case), Vec<(String, Vec<f64>)>>;

/// What was measured so far.
pub(crate) struct Report {
    machine: String,
    times: Times,
    rounds: BTreeMap<Duration, u32>,
    weights: Vec<Weight>,
}

struct Weight {
    name: String,
    path: String,
    version: String,
    bytes: u64,
    peak: u64,
    calls: Option<Calls>,
}

/// A row of numbers, told in milliseconds.
#[derive(Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) p99: f64,
}

impl Row {
    /// Of at least one number.
    pub(crate) fn of(times: &[f64]) -> Option<Self> {
        let mut sorted = times.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let lower = if sorted.len().is_multiple_of(2) { *sorted.get(middle.checked_sub(1)?)? } else { upper };
        // The nearest rank: the smallest number that 99 of 100 do not exceed.
        let rank = (sorted.len() * 99).div_ceil(100).checked_sub(1)?;
        Some(Self { median: lower.midpoint(upper), min: *sorted.first()?, p99: *sorted.get(rank)? })
    }
}

impl Report {
    pub(crate) fn new(place: &Place) -> Self {
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let machine = format!("Linux {kernel}, {processors} processors, {}, load {}", place.view, load());
        Self { machine, times: Times::new(), rounds: BTreeMap::new(), weights: Vec::new() }
    }

    pub(crate) fn add(&mut self, case: Case, gap: Duration, name: &str, took: Duration) {
        let rows = self.times.entry((gap, case)).or_default();
        let milliseconds = took.as_secs_f64() * 1000.0;
        match rows.iter_mut().find(|(known, _)| known == name) {
            Some((_, times)) => times.push(milliseconds),
            None => rows.push((name.into(), vec![milliseconds])),
        }
    }

    pub(crate) fn rounds(&mut self, gap: Duration, rounds: u32) {
        self.rounds.insert(gap, rounds);
    }

    pub(crate) fn weigh(&mut self, runtime: &Runtime, peak: u64, calls: Option<Calls>) {
        self.weights.push(Weight {
            name: runtime.name.clone(),
            path: runtime.path.display().to_string(),
            version: runtime.version.clone(),
            bytes: runtime.bytes,
            peak,
            calls,
        });
    }

    /// The floor's runs with this pause: what ratios are to.
    fn floor(&self, gap: Duration) -> Option<Row> {
        let rows = self.times.get(&(gap, Case::Run))?;
        let (_, times) = rows.iter().find(|(name, _)| name == "floor")?;
        Row::of(times)
    }

    /// Every row: pause, case, runtime, numbers, and their ratio to the floor's: of the medians, and of the
    /// fastest, which say the same on a quiet machine and are all there is to hold on to on a busy one.
    fn rows(&self) -> impl Iterator<Item = (Duration, Case, &str, Row, Option<(f64, f64)>)> {
        let order = |name: &str| self.weights.iter().position(|weight| weight.name == name);
        self.times.iter().flat_map(move |(&(gap, case), rows)| {
            let mut rows: Vec<_> = rows.iter().collect();
            rows.sort_by_key(|(name, _)| order(name));
            rows.into_iter().filter_map(move |(name, times)| {
                let row = Row::of(times)?;
                // One step of several has no floor to stand on.
                let whole = matches!(case, Case::Run | Case::Life);
                let floor = self.floor(gap).filter(|_| whole);
                let ratio = floor.map(|floor| (row.median / floor.median, row.min / floor.min));
                Some((gap, case, name.as_str(), row, ratio))
            })
        })
    }

    pub(crate) fn table(&self) -> String {
        let mut text = format!("{}; load now {}\n", self.machine, load());
        let mut last = None;
        for (gap, case, name, row, ratio) in self.rows() {
            if last != Some((gap, case)) {
                last = Some((gap, case));
                let apart = if gap.is_zero() {
                    "back to back".into()
                } else {
                    format!("{} ms apart", gap.as_millis())
                };
                let rounds = self.rounds.get(&gap).copied().unwrap_or(0);
                let title = format!("{}, {apart}, {rounds} rounds", case.name());
                let columns =
                    ["median ms", "min", "p99", "x floor", "min x"].map(|column| format!("{column:>10}"));
                line(&mut text, &format!("\n{title:<52}{}", columns.concat()));
            }
            let told = |ratio: Option<f64>| ratio.map_or("-".into(), |ratio| format!("{ratio:.2}"));
            let (by_median, by_min) = (told(ratio.map(|ratio| ratio.0)), told(ratio.map(|ratio| ratio.1)));
            let Row { median, min, p99 } = row;
            line(
                &mut text,
                &format!("  {name:<50}{median:>10.2}{min:>10.2}{p99:>10.2}{by_median:>10}{by_min:>10}"),
            );
        }

        let columns = ["calls", "checks", "peak MB", "size MB"].map(|column| format!("{column:>10}"));
        line(&mut text, &format!("\n{:<52}{}", "one run", columns.concat()));
        for weight in &self.weights {
            let count = |counted: Option<u64>| counted.map_or("-".into(), |count| count.to_string());
            let total = count(weight.calls.as_ref().map(Calls::total));
            let checks = count(weight.calls.as_ref().map(Calls::checks));
            let title = format!("{} ({})", weight.name, weight.version);
            let (peak, size) = (megabytes(weight.peak * 1024), megabytes(weight.bytes));
            line(&mut text, &format!("  {title:<50}{total:>10}{checks:>10}{peak:>10.2}{size:>10.2}"));
        }
        line(&mut text, "\nchecks: calls, among all, that only look or guard; told by name");
        for weight in &self.weights {
            let Some(calls) = &weight.calls else { continue };
            let mut names: Vec<_> = calls.by_name.iter().collect();
            names.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
            let most: Vec<_> = names.iter().take(12).map(|(name, count)| format!("{name} {count}")).collect();
            line(&mut text, &format!("{}: {}", weight.name, most.join(", ")));
        }
        text
    }

    pub(crate) fn json(&self) -> String {
        let rows = self.rows().map(|(gap, case, name, row, ratio)| {
            json!({
                "case": case.name(),
                "gap_ms": u64::try_from(gap.as_millis()).unwrap_or(u64::MAX),
                "rounds": self.rounds.get(&gap),
                "runtime": name,
                "median_ms": row.median,
                "min_ms": row.min,
                "p99_ms": row.p99,
                "median_to_floor": ratio.map(|ratio| ratio.0),
                "min_to_floor": ratio.map(|ratio| ratio.1),
            })
        });
        let runtimes = self.weights.iter().map(|weight| {
            json!({
                "name": weight.name,
                "path": weight.path,
                "version": weight.version,
                "bytes": weight.bytes,
                "peak_kib": weight.peak,
                "calls": weight.calls.as_ref().map(|calls| json!({
                    "total": calls.total(),
                    "checks": calls.checks(),
                    "by_name": calls.by_name,
                })),
            })
        });
        let document = json!({
            "machine": self.machine,
            "times": rows.collect::<Vec<Value>>(),
            "runtimes": runtimes.collect::<Vec<Value>>(),
        });
        format!("{document:#}\n")
    }
}

fn line(text: &mut String, line: &str) {
    // Writing to a string does not fail.
    _ = writeln!(text, "{line}");
}

#[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// What else this machine was doing, as the average of a minute.
fn load() -> String {
    let loads = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    loads.split(' ').next().unwrap_or("unknown").into()
}

#[cfg(test)]
mod tests {
    use super::Row;

    #[test]
    fn the_middle_of_an_even_count_lies_between_two() {
        let row = Row { median: 2.5, min: 1.0, p99: 4.0 };
        assert_eq!(Row::of(&[4.0, 1.0, 3.0, 2.0]), Some(row));
    }

    #[test]
    fn the_slowest_of_a_hundred_is_not_the_99th() {
        let times: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(Row::of(&times).map(|row| row.p99), Some(99.0));
        assert_eq!(Row::of(&[]), None);
    }
}
