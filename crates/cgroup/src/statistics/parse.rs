//! The kernel's texts as numbers. Pure. What is not understood is passed over: kernels add lines and keys.

use std::collections::BTreeMap;

use super::{Pressure, Stall, Throttling, Transfer};

/// The only number of a file; `max` is the highest.
pub(super) fn number(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(u64::MAX),
        digits => digits.parse().ok(),
    }
}

/// Numbers with blanks between.
pub(super) fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Lines of `key value`.
pub(super) fn keyed(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), number(value)?))
    };
    text.lines().filter_map(pair).collect()
}

/// Lines of `name key=value key=value`.
pub(super) fn nested(text: &str) -> BTreeMap<String, BTreeMap<String, u64>> {
    let line = |line: &str| {
        let (name, rest) = line.split_once(' ')?;
        let pair = |word: &str| {
            let (key, value) = word.split_once('=')?;
            Some((key.to_owned(), number(value)?))
        };
        Some((name.to_owned(), rest.split_whitespace().filter_map(pair).collect()))
    };
    text.lines().filter_map(line).collect()
}

/// Pages of one kind, by memory node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePages {
    /// On all nodes.
    pub total: u64,
    /// On each, in order.
    pub by_node: Vec<u64>,
}

/// v1's `memory.numa_stat`: `total=44611 N0=32631 N1=7501`.
pub(super) fn numa(text: &str) -> BTreeMap<String, NodePages> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (kind, total) = words.next()?.split_once('=')?;
        let by_node =
            words.filter_map(|word| word.strip_prefix('N')?.split_once('=')?.1.parse().ok()).collect();
        Some((kind.to_owned(), NodePages { total: total.parse().ok()?, by_node }))
    };
    text.lines().filter_map(line).collect()
}

/// `0-3,7`.
pub(super) fn list(text: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u16>().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

/// `cpuacct.usage_all`: a head that names the columns, then a line for each processor. Programs, and the kernel.
pub(super) fn per_cpu(text: &str) -> (Vec<u64>, Vec<u64>) {
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let column = |name| head.iter().position(|column| *column == name);
    let (Some(user), Some(kernel)) = (column("user"), column("system")) else { return Default::default() };
    lines
        .filter_map(|line| {
            let fields = numbers(line);
            Some((*fields.get(user)?, *fields.get(kernel)?))
        })
        .unzip()
}

/// `cpu.stat` of v1, in nanoseconds; of v2, in microseconds.
pub(super) fn throttling(stat: &BTreeMap<String, u64>) -> Throttling {
    let of = |key: &str| stat.get(key).copied().unwrap_or(0);
    let time = |v1: &str, v2: &str| of(v1).max(of(v2).saturating_mul(1000));
    Throttling {
        periods: of("nr_periods"),
        throttled: of("nr_throttled"),
        time: time("throttled_time", "throttled_usec"),
        bursts: of("nr_bursts"),
        burst_time: time("burst_time", "burst_usec"),
    }
}

/// v1's lines: `8:0 Read 4096`, `8:0 4096`, and a sum of all at the end.
pub(super) fn transfers(text: &str) -> Vec<Transfer> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = device(words.next()?)?;
        let (operation, value) = match (words.next()?, words.next()) {
            (operation, Some(value)) => (operation, value),
            (value, None) => ("", value),
        };
        Some(Transfer { major, minor, operation: operation.to_owned(), value: value.parse().ok()? })
    };
    text.lines().filter_map(line).collect()
}

/// v2's `io.stat`: bytes, and operations, in v1's words.
pub(super) fn io(text: &str) -> (Vec<Transfer>, Vec<Transfer>) {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for (name, counts) in nested(text) {
        let Some((major, minor)) = device(&name) else { continue };
        for (key, is_bytes, operation) in [
            ("rbytes", true, "Read"),
            ("wbytes", true, "Write"),
            ("dbytes", true, "Discard"),
            ("rios", false, "Read"),
            ("wios", false, "Write"),
            ("dios", false, "Discard"),
        ] {
            let Some(&value) = counts.get(key) else { continue };
            let list = if is_bytes { &mut bytes } else { &mut operations };
            list.push(Transfer { major, minor, operation: operation.to_owned(), value });
        }
    }
    (bytes, operations)
}

fn device(name: &str) -> Option<(u64, u64)> {
    let (major, minor) = name.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `some avg10=0.12 avg60=0.00 avg300=0.00 total=4501`.
pub(crate) fn pressure(text: &str) -> Pressure {
    let stall = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        let of = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let part =
            |key: &str| of(key).and_then(|value| value.parse().ok()).filter(|part: &f64| part.is_finite());
        Some(Stall {
            avg10: part("avg10")?,
            avg60: part("avg60")?,
            avg300: part("avg300")?,
            total: of("total")?.parse().ok()?,
        })
    };
    Pressure { some: stall("some"), full: stall("full") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_numbers() {
        for (text, expected) in [
            ("0\n", Some(0)),
            ("9223372036854771712\n", Some(9_223_372_036_854_771_712)),
            ("max\n", Some(u64::MAX)),
            ("-1\n", None),
            ("", None),
            ("1 2\n", None),
            ("18446744073709551616\n", None),
        ] {
            assert_eq!(number(text), expected, "{text:?}");
        }
        assert_eq!(numbers("10040912 4338134 \n"), [10_040_912, 4_338_134]);
        assert_eq!(numbers("\n"), [0; 0]);
    }

    #[test]
    fn keys_of_later_kernels_are_kept_and_strange_lines_are_passed_over() {
        let seen = keyed("anon 4096\nworkingset_of_tomorrow 7\nhigh max\n\nno_value\nword x\ntwo words 5\n");
        let expected = [("anon", 4096), ("high", u64::MAX), ("workingset_of_tomorrow", 7)];
        assert_eq!(seen, expected.map(|(key, value)| (key.to_owned(), value)).into());
    }

    #[test]
    fn pages_by_node() {
        let seen = numa("total=5 N0=3 N1=2\nhierarchical_anon=7 N0=7\nnonsense\nbad=x N0=1\n");
        let pages = |total, by_node: &[u64]| NodePages { total, by_node: by_node.to_vec() };
        let expected = [("total", pages(5, &[3, 2])), ("hierarchical_anon", pages(7, &[7]))];
        assert_eq!(seen, expected.map(|(kind, pages)| (kind.to_owned(), pages)).into());
    }

    #[test]
    fn lists_of_processors() {
        for (text, expected) in [
            ("0-1\n", &[0, 1][..]),
            ("0\n", &[0]),
            ("0-2,7,9-9\n", &[0, 1, 2, 7, 9]),
            ("\n", &[]),
            ("3-1\n", &[]),
            ("x,2\n", &[2]),
            ("70000\n", &[]),
        ] {
            assert_eq!(list(text), expected, "{text:?}");
        }
    }

    #[test]
    fn time_by_processor() {
        let text = "cpu user system\n0 4000000 4000000\n1 0 8000000\n";
        assert_eq!(per_cpu(text), (vec![4_000_000, 0], vec![4_000_000, 8_000_000]));
        // Columns go by their names.
        assert_eq!(per_cpu("cpu system user guest\n0 1 2 3\n"), (vec![2], vec![1]));
        for text in ["", "cpu\n0\n", "cpu user system\n0 5\n"] {
            assert_eq!(per_cpu(text), (vec![], vec![]), "{text:?}");
        }
    }

    #[test]
    fn throttling_is_in_nanoseconds_on_both() {
        let expected = Throttling { periods: 9, throttled: 4, time: 5_000_000, bursts: 1, burst_time: 2000 };
        let v1 = "nr_periods 9\nnr_throttled 4\nthrottled_time 5000000\nnr_bursts 1\nburst_time 2000\n";
        let v2 = "usage_usec 7\nuser_usec 3\nsystem_usec 4\nnr_periods 9\nnr_throttled 4\nthrottled_usec 5000\n\
                  nr_bursts 1\nburst_usec 2\n";
        assert_eq!(throttling(&keyed(v1)), expected);
        assert_eq!(throttling(&keyed(v2)), expected);
        assert_eq!(throttling(&keyed("usage_usec 5\n")), Throttling::default());
    }

    fn told(transfers: &[Transfer]) -> String {
        let line = |one: &Transfer| format!("{}:{} {}={}", one.major, one.minor, one.operation, one.value);
        transfers.iter().map(line).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn transfers_of_v1() {
        for (text, expected) in [
            ("8:0 Read 4096\n8:0 Total 4096\nTotal 4096\n", "8:0 Read=4096, 8:0 Total=4096"),
            ("254:16 77\n", "254:16 =77"),
            ("Total 0\n", ""),
            ("", ""),
            ("8 Read 5\n8:x Read 5\n8:0\n8:0 Read x\n", ""),
        ] {
            assert_eq!(told(&transfers(text)), expected, "{text:?}");
        }
    }

    #[test]
    fn transfers_of_v2_are_told_in_v1s_words() {
        let text =
            "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=7\n8:0 \nloop0 rbytes=5\n";
        let (bytes, operations) = io(text);
        assert_eq!(told(&bytes), "254:0 Read=1, 254:0 Write=2, 254:0 Discard=5");
        assert_eq!(told(&operations), "254:0 Read=3, 254:0 Write=4, 254:0 Discard=6");
    }

    #[test]
    fn rdma_by_device() {
        let seen = nested("mlx4_0 hca_handle=2 hca_object=max\nocrdma1 hca_handle=x\n\n");
        assert_eq!(
            seen["mlx4_0"],
            [("hca_handle".to_owned(), 2), ("hca_object".to_owned(), u64::MAX)].into()
        );
        assert!(seen["ocrdma1"].is_empty());
    }

    #[test]
    fn pressures() {
        let both = pressure(
            "some avg10=0.12 avg60=1.00 avg300=100.00 total=4501\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9\n",
        );
        let some = both.some.unwrap_or_default();
        assert!((some.avg10 - 0.12).abs() < 1e-9 && (some.avg300 - 100.0).abs() < 1e-9);
        assert_eq!((some.total, both.full.map(|full| full.total)), (4501, Some(9)));
        // Before Linux 5.13 processors have no such line.
        assert_eq!(pressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n").full, None);
        for text in [
            "",
            "some\n",
            "some avg10=x avg60=0 avg300=0 total=1\n",
            "some avg10=inf avg60=0 avg300=0 total=1",
        ] {
            assert_eq!(pressure(text), Pressure::default(), "{text:?}");
        }
    }
}
