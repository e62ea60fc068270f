//! Points in time as other programs read them: RFC 3339, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Seconds since 1970.
    pub seconds: i64,
    /// And the part of a second, below 1 000 000 000.
    pub nanoseconds: u32,
}

impl Moment {
    /// What the host's clock says.
    pub fn now() -> Self {
        // A clock set before 1970 is told as 1970: a log line is no place to fail.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: since.subsec_nanos(),
        }
    }

    /// To the second: `2026-01-02T03:04:05Z`.
    pub fn rfc3339(self) -> String {
        let (day, second) = (self.seconds.div_euclid(86_400), self.seconds.rem_euclid(86_400));
        let (year, month, day) = civil(day);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }

    /// To the nanosecond, without zeros at the end, as Go's `RFC3339Nano` has it: `2026-01-02T03:04:05.25Z`.
    pub fn rfc3339_nano(self) -> String {
        let mut text = self.rfc3339();
        if self.nanoseconds > 0 {
            let digits = format!("{:09}", self.nanoseconds);
            text.truncate(text.len() - 1);
            text.push('.');
            text.push_str(digits.trim_end_matches('0'));
            text.push('Z');
        }
        text
    }
}

/// Year, month and day of the `days`-th day since 1970.
///
/// Years are counted from March, so that the odd day of a leap year is the last; then every month's
/// beginning is a straight line of 153 days in five months, and 400 years always have 146097 days.
fn civil(days: i64) -> (i64, i64, i64) {
    // 719468 days lie between the first of March of the year 0 and 1970.
    let days = days.saturating_add(719_468);
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year + i64::from(month > 9);
    (year, if month > 9 { month - 9 } else { month + 3 }, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanoseconds: u32) -> Moment {
        Moment { seconds, nanoseconds }
    }

    #[test]
    fn seconds_become_dates() {
        // From `date -u -d @SECONDS +%FT%TZ`.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_767_323_045, "2026-01-02T03:04:05Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(at(seconds, 7).rfc3339(), text);
        }
    }

    #[test]
    fn every_day_follows_the_day_before() {
        let long = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..200_000 {
            assert_eq!(civil(days), (year, month, day));
            let last = match month {
                2 => 28 + i64::from(long(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            (year, month, day) = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (_, day) if day == last => (year, month + 1, 1),
                (_, day) => (year, month, day + 1),
            };
        }
    }

    #[test]
    fn zeros_at_the_end_are_left_out() {
        assert_eq!(at(0, 0).rfc3339_nano(), "1970-01-01T00:00:00Z");
        assert_eq!(at(0, 250_000_000).rfc3339_nano(), "1970-01-01T00:00:00.25Z");
        assert_eq!(at(0, 1).rfc3339_nano(), "1970-01-01T00:00:00.000000001Z");
        assert_eq!(at(0, 227_433_428).rfc3339_nano(), "1970-01-01T00:00:00.227433428Z");
    }

    #[test]
    fn times_far_away_do_not_overflow() {
        assert!(at(i64::MAX, 0).rfc3339().ends_with('Z'));
        assert!(at(i64::MIN, 0).rfc3339().ends_with('Z'));
    }

    #[test]
    fn now_is_after_this_was_written() {
        assert!(Moment::now() > at(1_767_225_600, 0));
    }
}
