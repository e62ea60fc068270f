//! How long a container that has ended stays down.

use std::time::Duration;

use package::{Restart, When};
use wire::Status;

/// Ends that came too soon, one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    count: u32,
}

/// Whether an end is of those that a restart follows. Who was asked to end stays down, whatever he makes of it.
pub(super) fn is_meant(when: When, status: Status, was_asked: bool) -> bool {
    let is_failure = !status.is_success();
    !was_asked
        && match when {
            When::Never => false,
            When::OnFailure => is_failure,
            When::Always => true,
        }
}

impl Row {
    /// How long to wait before the next start, after a run of this length; none where it stays down for good.
    pub(super) fn delay(&mut self, rule: &Restart, ran: Duration) -> Option<Duration> {
        if ran >= rule.most {
            self.count = 0;
        }
        if rule.attempts.is_some_and(|attempts| self.count >= attempts) {
            return None;
        }
        let doubled = 2_u32.checked_pow(self.count).and_then(|times| rule.delay.checked_mul(times));
        self.count = self.count.saturating_add(1);
        Some(doubled.unwrap_or(rule.most).min(rule.most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rule(attempts: Option<u32>) -> Restart {
        Restart { when: When::Always, delay: SECOND, most: 10 * SECOND, attempts }
    }

    #[test]
    fn each_time_in_a_row_takes_twice_as_long() {
        let mut row = Row::default();
        let delays: Vec<_> =
            (0..7).filter_map(|_| row.delay(&rule(None), SECOND)).map(|delay| delay.as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 10, 10, 10]);
        let mut row = Row { count: u32::MAX };
        assert_eq!(row.delay(&rule(None), SECOND), Some(10 * SECOND));
    }

    #[test]
    fn who_has_run_for_long_begins_anew() {
        let mut row = Row { count: 5 };
        assert_eq!(row.delay(&rule(None), 10 * SECOND), Some(SECOND));
    }

    #[test]
    fn attempts_have_an_end() {
        let mut row = Row::default();
        let delays: Vec<_> = (0..4).map(|_| row.delay(&rule(Some(2)), SECOND).is_some()).collect();
        assert_eq!(delays, [true, true, false, false]);
        assert_eq!(Row::default().delay(&rule(Some(0)), SECOND), None);
        // A long run makes good what was before.
        assert_eq!(row.delay(&rule(Some(2)), 10 * SECOND), Some(SECOND));
    }

    #[test]
    fn who_was_asked_to_end_stays_down() {
        let (well, ill) = (Status::Exit { code: 0 }, Status::Signalled { signal: 9 });
        for (when, after_well, after_ill) in
            [(When::Never, false, false), (When::OnFailure, false, true), (When::Always, true, true)]
        {
            assert_eq!(is_meant(when, well, false), after_well);
            assert_eq!(is_meant(when, ill, false), after_ill);
            assert!(!is_meant(when, ill, true));
        }
    }
}
