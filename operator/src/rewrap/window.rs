//! The daily window, in UTC, in which Jobs may start.
//!
//! Invariant: a window that cannot be read is never taken for "at any time".

const DAY: u32 = 24 * 60 * 60;

/// A daily window; the end is not part of it. It may pass midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    begin: u32,
    end: u32,
}

impl Window {
    /// Reads `HH:MM-HH:MM`; `None`: it is not that.
    pub fn parse(text: &str) -> Option<Self> {
        let (begin, end) = text.split_once('-')?;
        Some(Self { begin: second(begin)?, end: second(end)? })
    }

    /// Seconds until it is open, 0 if it is; `now` is in seconds since the Unix epoch.
    pub fn opens_in(self, now: i64) -> u32 {
        let second = now.rem_euclid(i64::from(DAY)) as u32;
        let open = match self.begin.cmp(&self.end) {
            std::cmp::Ordering::Less => (self.begin..self.end).contains(&second),
            // The same time twice is a whole day.
            std::cmp::Ordering::Equal => true,
            std::cmp::Ordering::Greater => second >= self.begin || second < self.end,
        };
        if open { 0 } else { (self.begin + DAY - second) % DAY }
    }
}

/// Second of the day of `HH:MM`.
fn second(text: &str) -> Option<u32> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
    (hour < 24 && minute < 60).then_some(hour * 3600 + minute * 60)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_window_is_open_from_its_begin_to_before_its_end_also_over_midnight() {
        let at = |hour: i64, minute: i64| 86_400 * 20_000 + hour * 3600 + minute * 60;
        for (window, now, opens_in) in [
            ("22:00-05:00", at(21, 59), 60),
            ("22:00-05:00", at(22, 0), 0),
            ("22:00-05:00", at(0, 0), 0),
            ("22:00-05:00", at(4, 59), 0),
            ("22:00-05:00", at(5, 0), 17 * 3600),
            ("08:00-09:30", at(7, 0), 3600),
            ("08:00-09:30", at(9, 29), 0),
            ("08:00-09:30", at(9, 30), 22 * 3600 + 1800),
            ("08:00-08:00", at(3, 0), 0),
        ] {
            assert_eq!(Window::parse(window).unwrap().opens_in(now), opens_in, "{window} at {now}");
        }
        assert_eq!(Window::parse("8-9"), None);
        assert_eq!(Window::parse("25:00-26:00"), None);
    }
}
