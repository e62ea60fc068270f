//! Lists of small numbers, as cpuset(7) writes CPUs and memory nodes: `0-3,7`.

/// Each entry as its first and last number; or the entry that is none. Blanks and empty entries say nothing.
pub fn numbers(list: &str) -> Result<Vec<(u16, u16)>, &str> {
    let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries.map(|entry| range(entry).ok_or(entry)).collect()
}

fn range(entry: &str) -> Option<(u16, u16)> {
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    let (low, high) = entry.split_once('-').unwrap_or((entry, entry));
    let (low, high) = (number(low)?, number(high)?);
    (low <= high).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn a_list_is_read_as_the_kernel_writes_it() {
        assert_eq!(numbers("0-3, 7,"), Ok(vec![(0, 3), (7, 7)]));
        assert_eq!(numbers(""), Ok(vec![]));
        assert_eq!(numbers("65535"), Ok(vec![(65535, 65535)]));
        for (list, wrong) in [("1,3-2", "3-2"), ("65536", "65536"), ("+1", "+1"), ("0-", "0-"), ("a", "a")] {
            assert_eq!(numbers(list), Err(wrong), "{list}");
        }
    }
}
