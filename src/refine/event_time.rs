/// Microseconds since 1970-01-01T00:00Z of an ISO 8601 instant; `None` when it is none.
///
/// Accepted: `2026-11-20`, `2026-11-20T08:15`, `2026-11-20T08:15:30`, with a blank for the `T`, with up to nine digits
/// of a second's fraction (cut to microseconds), and with `Z`, `+02:00`, `+0200` or `+02`. Without a zone it is UTC.
/// Years 0001 to 9999, in UTC.
#[must_use]
pub(super) fn parse_event_time(text: &str) -> Option<i64> {
    let mut rest = Digits(text.as_bytes());
    let year = i64::from(rest.number(4)?);
    rest.expect(b'-')?;
    let month = rest.number(2)?;
    rest.expect(b'-')?;
    let day = rest.number(2)?;
    if year == 0 || !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return None;
    }
    let midnight_us = days_from_civil(year, i64::from(month), i64::from(day)) * DAY_US;
    if rest.0.is_empty() {
        return Some(midnight_us);
    }
    if !matches!(rest.next()?, b'T' | b't' | b' ') {
        return None;
    }
    let time_us = rest.time_of_day_us()?;
    let offset_us = rest.offset_us()?;
    let instant_us = midnight_us + time_us - offset_us;
    (rest.0.is_empty() && (FIRST_US..=LAST_US).contains(&instant_us)).then_some(instant_us)
}

const SECOND_US: i64 = 1_000_000;
const MINUTE_US: i64 = 60 * SECOND_US;
const HOUR_US: i64 = 60 * MINUTE_US;
const DAY_US: i64 = 24 * HOUR_US;
/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59.999999Z.
const FIRST_US: i64 = -719_162 * DAY_US;
const LAST_US: i64 = 2_932_897 * DAY_US - 1;

/// What is left of the text.
struct Digits<'a>(&'a [u8]);

impl Digits<'_> {
    #[inline]
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    /// A number of exactly `count` digits.
    #[inline]
    fn number(&mut self, count: usize) -> Option<u32> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        let mut number = 0;
        for digit in digits {
            let digit = digit.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            number = number * 10 + u32::from(digit);
        }
        Some(number)
    }

    /// `08:15`, `08:15:30` or `08:15:30.123456789`.
    #[inline]
    fn time_of_day_us(&mut self) -> Option<i64> {
        let hour = self.number(2)?;
        self.expect(b':')?;
        let minute = self.number(2)?;
        let mut second = 0;
        let mut fraction_us = 0;
        if self.0.first() == Some(&b':') {
            self.next();
            second = self.number(2)?;
            if let Some(b'.' | b',') = self.0.first() {
                self.next();
                fraction_us = self.fraction_us()?;
            }
        }
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let whole = i64::from(hour) * HOUR_US + i64::from(minute) * MINUTE_US + i64::from(second) * SECOND_US;
        Some(whole + i64::from(fraction_us))
    }

    #[inline]
    fn fraction_us(&mut self) -> Option<u32> {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=9).contains(&digits) {
            return None;
        }
        let kept = self.number(digits.min(6))?;
        self.number(digits - digits.min(6))?;
        Some(kept * 10_u32.pow(6 - u32::try_from(digits.min(6)).ok()?))
    }

    /// Nothing, `Z`, `+02:00`, `+0200` or `+02`.
    #[inline]
    fn offset_us(&mut self) -> Option<i64> {
        let sign = match self.0.first() {
            None => return Some(0),
            Some(b'Z' | b'z') => {
                self.next();
                return Some(0);
            }
            Some(b'+') => 1,
            Some(b'-') => -1,
            Some(_) => return None,
        };
        self.next();
        let hours = self.number(2)?;
        if self.0.first() == Some(&b':') {
            self.next();
            // A colon must be followed by the minutes.
            self.0.first()?;
        }
        let minutes = if self.0.is_empty() { 0 } else { self.number(2)? };
        if hours > 23 || minutes > 59 {
            return None;
        }
        Some(sign * (i64::from(hours) * HOUR_US + i64::from(minutes) * MINUTE_US))
    }
}

#[inline]
fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar; years of 400 years repeat, and begin in March so that
/// the leap day comes last.
#[inline]
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Datelike, NaiveDate};
    use proptest::prelude::*;

    use super::*;

    fn expected(rfc3339: &str) -> Option<i64> {
        Some(DateTime::parse_from_rfc3339(rfc3339).unwrap().timestamp_micros())
    }

    #[test]
    fn forms_of_iso_8601_are_read() {
        for (text, same) in [
            ("2026-11-20T08:15:30Z", "2026-11-20T08:15:30Z"),
            ("2026-11-20t08:15:30z", "2026-11-20T08:15:30Z"),
            ("2026-11-20 08:15:30", "2026-11-20T08:15:30Z"),
            ("2026-11-20T08:15", "2026-11-20T08:15:00Z"),
            ("2026-11-20", "2026-11-20T00:00:00Z"),
            ("2026-11-20T08:15:30.5", "2026-11-20T08:15:30.5Z"),
            ("2026-11-20T08:15:30,25Z", "2026-11-20T08:15:30.25Z"),
            ("2026-11-20T08:15:30.123456789Z", "2026-11-20T08:15:30.123456Z"),
            ("2026-11-20T08:15:30.9999999+02:00", "2026-11-20T06:15:30.999999Z"),
            ("2026-11-20T08:15:30+0200", "2026-11-20T06:15:30Z"),
            ("2026-11-20T08:15:30-05", "2026-11-20T13:15:30Z"),
            ("2024-02-29T23:59:59.000001-11:30", "2024-03-01T11:29:59.000001Z"),
            ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(parse_event_time(text), expected(same), "{text}");
        }
    }

    #[test]
    fn nonsense_is_no_instant() {
        for text in [
            "",
            " ",
            "yesterday",
            "2026",
            "2026-11",
            "2026-13-01",
            "2026-00-10",
            "2026-02-29",
            "2026-04-31",
            "1900-02-29",
            "2026-11-20T",
            "2026-11-20T8:15",
            "2026-11-20T24:00:00",
            "2026-11-20T08:60",
            "2026-11-20T08:15:60",
            "2026-11-20T08:15:30.",
            "2026-11-20T08:15:30.1234567890",
            "2026-11-20T08:15:30 Z",
            "2026-11-20T08:15:30+2",
            "2026-11-20T08:15:30+02:",
            "2026-11-20T08:15:30+24:00",
            "2026-11-20T08:15:30+02:60",
            "2026-11-20T08:15:30Zx",
            " 2026-11-20",
            "2026-11-20 ",
            "20261120",
            "0000-01-01",
            "-001-01-01",
            "+2026-11-20",
            "10000-01-01",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "２０２６-11-20",
            "2026-11-20T08:15:30\0",
            "1763626530",
        ] {
            assert_eq!(parse_event_time(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_day_of_the_calendar_is_right() {
        let mut date = NaiveDate::from_ymd_opt(1, 1, 1).unwrap();
        let mut day_us = FIRST_US;
        while let Some(next) = date.succ_opt().filter(|next| next.year() <= 9999) {
            if day_us % (17 * DAY_US) == 0 || (date.month(), date.day()) == (2, 29) {
                let text = format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day());
                assert_eq!(parse_event_time(&text), Some(day_us));
            }
            date = next;
            day_us += DAY_US;
        }
        assert_eq!(day_us, LAST_US + 1 - DAY_US);
    }

    proptest! {
        #[test]
        fn what_chrono_writes_is_read_back(us in FIRST_US..=LAST_US) {
            let text = DateTime::from_timestamp_micros(us).unwrap().format("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string();
            prop_assert_eq!(parse_event_time(&text), Some(us));
        }

        #[test]
        fn any_text_gets_an_answer(text in ".{0,40}", like in "[0-9TZ:+. -]{0,40}") {
            let _ = parse_event_time(&text);
            let _ = parse_event_time(&like);
        }
    }
}
