//! Numbers of bytes as people write them.

/// A number of bytes: a number, or one with a unit, and then perhaps with a fraction. `20M` is a thousand thousands twenty
/// times, `20Mi` or `20MiB` is 1024 times 1024 twenty times; great and small letters are the same.
pub fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let (letter, base) = match unit.strip_suffix('i') {
        Some(letter) => (letter, 1024u64),
        None => (unit, 1000),
    };
    let power = match letter {
        "" if base == 1000 => 0,
        letter => 1 + ["k", "m", "g", "t", "p", "e"].iter().position(|known| *known == letter)?,
    };
    times(number, base.checked_pow(power.try_into().ok()?)?)
}

/// A decimal number so many times, whole; what is less than one is left out.
fn times(number: &str, unit: u64) -> Option<u64> {
    let Some((whole, fraction)) = number.split_once('.') else {
        return number.parse::<u64>().ok()?.checked_mul(unit);
    };
    // 18 digits tell the smallest unit from the next byte, and their product with the largest is a u128.
    let fraction = Some(fraction).filter(|_| unit > 1 && (1..=18).contains(&fraction.len()))?;
    let part =
        fraction.parse::<u128>().ok()? * u128::from(unit) / 10u128.pow(fraction.len().try_into().ok()?);
    whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(part.try_into().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_two_kinds() {
        for (text, bytes) in [
            ("4096", Some(4096)),
            ("20M", Some(20_000_000)),
            ("20mib", Some(20 << 20)),
            ("1 Kb", Some(1000)),
            ("7b", Some(7)),
            ("1.5M", Some(1_500_000)),
            ("0.5Ki", Some(512)),
            ("0.0001k", Some(0)),
            ("15E", Some(15_000_000_000_000_000_000)),
            ("15.999999999999999999Ei", Some(18_446_744_073_709_551_614)),
            ("16Ei", None),
            ("1.5", None),
            ("1.M", None),
            (".5M", None),
            ("1.2.3M", None),
            ("1.+5M", None),
            ("i", None),
            ("-1", None),
            ("+1", None),
            ("", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
    }
}
