/// Microseconds of a length of time as people write it: `30 s`, `15 minutes`, `1 hour`.
///
/// # Errors
/// In words, when it is not a whole positive number and a unit, or does not fit in 64 bits.
pub(super) fn parse_us(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is not a length of time: write a whole number and a unit, such as \"15 minutes\"");
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    let count: i64 = count.parse().map_err(|_| wrong())?;
    let unit_us: i64 = match unit.trim() {
        "ms" | "millisecond" | "milliseconds" => 1_000,
        "s" | "second" | "seconds" => 1_000_000,
        "m" | "min" | "minute" | "minutes" => 60_000_000,
        "h" | "hour" | "hours" => 3_600_000_000,
        "d" | "day" | "days" => 86_400_000_000,
        _ => return Err(wrong()),
    };
    count.checked_mul(unit_us).filter(|us| *us > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::parse_us;

    #[test]
    fn lengths_of_time_are_read() {
        assert_eq!(parse_us("15 minutes"), Ok(900_000_000));
        assert_eq!(parse_us("1 hour"), Ok(3_600_000_000));
        assert_eq!(parse_us("30s"), Ok(30_000_000));
        assert_eq!(parse_us(" 2 days "), Ok(172_800_000_000));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", "minutes", "0 s", "-1 s", "1.5 hours", "1 fortnight", "99999999999999999999 s", "999999999999 d"]
        {
            assert!(parse_us(text).is_err(), "{text}");
        }
    }
}
