//! `strftime`, for templates that tell the model the date.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A moment of the Gregorian calendar, in UTC.
struct Moment {
    year: i64,
    /// 1 to 12.
    month: i64,
    /// 1 to 31.
    day: i64,
    /// 1 to 366.
    day_of_year: i64,
    /// 0 is Sunday.
    weekday: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Moment {
    /// Follows `civil_from_days` in Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms"
    /// (<https://howardhinnant.github.io/date_algorithms.html>): years begin in March, so that the leap day is last.
    fn new(time: SystemTime) -> Self {
        let seconds = match time.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
        };
        let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * from_march + 2) / 153;
        let day = from_march - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let day_of_year = if month > 2 { from_march + 60 + i64::from(leap) } else { from_march - 305 };
        Self {
            year,
            month,
            day,
            day_of_year,
            weekday: (days + 4).rem_euclid(7),
            hour: second_of_day / 3_600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
        }
    }
}

/// Formats a time in UTC as C's `strftime` does in the C locale.
///
/// # Errors
/// A directive is unknown.
pub(crate) fn strftime(time: SystemTime, format: &str) -> Result<String, String> {
    let moment = Moment::new(time);
    let mut text = String::with_capacity(format.len() * 2);
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let mut directive = characters.next();
        let unpadded = directive == Some('-');
        if unpadded {
            directive = characters.next();
        }
        let mut number = |value: i64, width: usize| {
            let width = if unpadded { 0 } else { width };
            // Writing to a string cannot fail.
            let _ = write!(text, "{value:0width$}");
        };
        let hour_of_half = (moment.hour + 11) % 12 + 1;
        match directive {
            Some('Y') => number(moment.year, 4),
            Some('y') => number(moment.year.rem_euclid(100), 2),
            Some('m') => number(moment.month, 2),
            Some('d') => number(moment.day, 2),
            Some('j') => number(moment.day_of_year, 3),
            Some('H') => number(moment.hour, 2),
            Some('I') => number(hour_of_half, 2),
            Some('M') => number(moment.minute, 2),
            Some('S') => number(moment.second, 2),
            Some('w') => number(moment.weekday, 1),
            Some('B') => text.push_str(MONTHS[moment.month as usize - 1]),
            Some('b' | 'h') => text.push_str(&MONTHS[moment.month as usize - 1][..3]),
            Some('A') => text.push_str(DAYS[moment.weekday as usize]),
            Some('a') => text.push_str(&DAYS[moment.weekday as usize][..3]),
            Some('p') => text.push_str(if moment.hour < 12 { "AM" } else { "PM" }),
            Some('F') => text.push_str(&strftime(time, "%Y-%m-%d")?),
            Some('T') => text.push_str(&strftime(time, "%H:%M:%S")?),
            Some('%') => text.push('%'),
            Some(unknown) => {
                return Err(format!("strftime_now: expected a known directive, found `%{unknown}`"));
            }
            None => {
                return Err(
                    "strftime_now: the format ends with a lone `%`; write `%%` for a percent sign".to_owned()
                );
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64, format: &str) -> String {
        strftime(UNIX_EPOCH + Duration::from_secs(seconds), format).unwrap()
    }

    #[test]
    fn known_moments() {
        assert_eq!(at(0, "%F %T %A %j"), "1970-01-01 00:00:00 Thursday 001");
        assert_eq!(at(951_827_696, "%a %d %b %Y, %I:%M %p, day %j"), "Tue 29 Feb 2000, 12:34 PM, day 060");
        assert_eq!(at(1_735_689_599, "%d %B %y %H:%M:%S %j"), "31 December 24 23:59:59 366");
        assert_eq!(at(1_740_787_200, "%-d.%-m.%Y %w %j %%"), "1.3.2025 6 060 %");
        assert_eq!(at(4_107_542_400, "%F %j"), "2100-03-01 060");
    }

    #[test]
    fn times_before_the_epoch_and_in_the_far_future() {
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(strftime(before, "%F %T %a").unwrap(), "1969-12-31 23:59:59 Wed");
        assert!(at(1 << 50, "%Y").len() > 7);
    }

    #[test]
    fn days_follow_each_other() {
        let (mut year, mut expected) = (1970, 1);
        for day in 0..200_000_u64 {
            let text = at(day * 86_400, "%Y %j");
            if text != format!("{year} {expected:03}") {
                (year, expected) = (year + 1, 1);
                assert_eq!(text, format!("{year} {expected:03}"));
            }
            expected += 1;
        }
    }

    #[test]
    fn unknown_directives_are_errors() {
        assert!(strftime(UNIX_EPOCH, "%Q").unwrap_err().contains("%Q"));
        assert!(strftime(UNIX_EPOCH, "100%").is_err());
    }
}
