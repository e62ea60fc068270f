//! The host's processors, as the containers in a guest were given them: what the whole sandbox gets is what all of them have.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spec::numbers;

use crate::Refused;

/// What one container was given.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Processors, `0-3,7`; any without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// Memory nodes; any without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mems: Option<String>,
    /// Microseconds in each period; as much as there is without it, and where it is negative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<i64>,
    /// Microseconds; 100000 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
}

impl Share {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the sandbox gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpus {
    /// Processors; none where one of the containers may use any.
    pub cpus: Option<String>,
    /// Memory nodes, likewise.
    pub mems: Option<String>,
    /// Microseconds in each [`PERIOD`]; none where one of the containers has no limit.
    pub quota: Option<i64>,
}

/// What quotas are added up by, in microseconds: the kernel's own.
pub const PERIOD: u64 = 100_000;

/// The kernel takes no quota below this, in microseconds.
const LEAST: u64 = 1_000;

impl Cpus {
    /// All sets in one, and all quotas added. One container without a limit leaves none.
    pub fn of(shares: &BTreeMap<String, Share>) -> Result<Self, Refused> {
        let lists = |field: &str, of: fn(&Share) -> Option<&String>| {
            union(shares.iter().map(|(name, share)| (name, of(share))), field)
        };
        let mut quotas = Some(0_u64);
        for (name, share) in shares {
            let quota = quota_of(share).map_err(|why| Refused::asked(format!("--cpu-quota {name}={why}")))?;
            quotas = quotas.zip(quota).and_then(|(sum, quota)| sum.checked_add(quota));
        }
        let quota = quotas.filter(|_| !shares.is_empty()).and_then(|sum| i64::try_from(sum).ok());
        Ok(Self {
            cpus: lists("--cpus", |share| share.cpus.as_ref())?,
            mems: lists("--mems", |share| share.mems.as_ref())?,
            quota,
        })
    }

    /// The same with a quota of whole percents, at least as large, which is all that systemd keeps.
    #[must_use]
    pub fn in_percents(mut self) -> Self {
        self.quota = self.quota.map(|quota| quota.saturating_add(999) / 1000 * 1000);
        self
    }

    /// The processors, one by one; none where they are not named.
    pub fn each(&self) -> Option<Vec<u16>> {
        let ranges = numbers(self.cpus.as_deref()?).ok()?;
        Some(ranges.into_iter().flat_map(|(first, last)| first..=last).collect())
    }
}

fn quota_of(share: &Share) -> Result<Option<u64>, String> {
    let Some(quota) = share.quota else { return Ok(None) };
    let Ok(quota) = u64::try_from(quota) else { return Ok(None) };
    let period = share.period.unwrap_or(PERIOD);
    if !(1_000..=1_000_000).contains(&period) {
        return Err(format!("{quota}/{period}: a period has 1000 to 1000000 microseconds"));
    }
    let wide = u128::from(quota) * u128::from(PERIOD);
    let each = u64::try_from(wide.div_ceil(u128::from(period)))
        .map_err(|_| format!("{quota}/{period}: is more than there can be"))?;
    if each < LEAST {
        return Err(format!(
            "{quota}/{period}: the kernel takes no quota below {LEAST} microseconds in {PERIOD}"
        ));
    }
    Ok(Some(each))
}

fn union<'a>(
    lists: impl Iterator<Item = (&'a String, Option<&'a String>)>,
    flag: &str,
) -> Result<Option<String>, Refused> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    let (mut is_any, mut is_limited) = (false, false);
    for (name, list) in lists {
        let Some(list) = list else {
            is_any = true;
            continue;
        };
        is_limited = true;
        let told = |why: String| Refused::asked(format!("{flag} {name}={list}: {why}"));
        let more = numbers(list).map_err(|entry| told(format!("{entry:?} is no number or range")))?;
        if more.is_empty() {
            return Err(told("names none".into()));
        }
        ranges.extend(more);
    }
    Ok((is_limited && !is_any).then(|| written(ranges)))
}

/// Ranges that meet are one.
fn written(mut ranges: Vec<(u16, u16)>) -> String {
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if u32::from(first) <= u32::from(*end) + 1 => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    let told = |&(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    merged.iter().map(told).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(list: &[(&str, Option<&str>, Option<i64>)]) -> BTreeMap<String, Share> {
        let share = |&(name, cpus, quota): &(&str, Option<&str>, Option<i64>)| {
            (name.to_owned(), Share { cpus: cpus.map(str::to_owned), quota, ..Share::default() })
        };
        list.iter().map(share).collect()
    }

    /// Point 9 of the sandbox's list, its sets and sums.
    #[test]
    fn point_09_sets_are_united_and_quotas_added() {
        let cpus = |list: &[(&str, Option<&str>, Option<i64>)]| {
            Cpus::of(&shares(list)).map(|all| all.cpus).map_err(|no| no.to_string())
        };
        for (sets, whole) in [
            (&["0"][..], "0"),
            (&["0-1", "2-3"], "0-3"),
            (&["0-3", "1-2"], "0-3"),
            (&["7", "0-1,5", "6"], "0-1,5-7"),
            (&["65535", "65534"], "65534-65535"),
            (&["3,1,2"], "1-3"),
        ] {
            let names = ["a", "b", "c"];
            let list: Vec<_> =
                names.into_iter().zip(sets).map(|(name, set)| (name, Some(*set), None)).collect();
            assert_eq!(cpus(&list), Ok(Some(whole.to_owned())), "{sets:?}");
        }
        assert_eq!(cpus(&[("a", Some("0"), None), ("b", None, None)]), Ok(None), "b may run anywhere");
        assert_eq!(cpus(&[]), Ok(None));
        assert!(cpus(&[("a", Some("0,x"), None)]).is_err_and(|why| why.contains("--cpus a=0,x: \"x\"")));
        assert!(cpus(&[("a", Some(""), None)]).is_err());

        let quota = |list: &[(&str, Option<&str>, Option<i64>)]| {
            Cpus::of(&shares(list)).map(|all| all.quota).map_err(|no| no.to_string())
        };
        assert_eq!(quota(&[("a", None, Some(50_000)), ("b", None, Some(150_000))]), Ok(Some(200_000)));
        assert_eq!(
            quota(&[("a", None, Some(50_000)), ("b", None, None)]),
            Ok(None),
            "an absent limit is no limit"
        );
        assert_eq!(quota(&[("a", None, Some(50_000)), ("b", None, Some(-1))]), Ok(None));
        assert!(quota(&[("a", None, Some(1))]).is_err());
        let other = Share { quota: Some(20_000), period: Some(50_000), ..Share::default() };
        let all = Cpus::of(&BTreeMap::from([("a".into(), other.clone()), ("b".into(), other)]));
        assert_eq!(all.map(|all| all.quota), Ok(Some(80_000)), "periods are made the same");
    }
}
