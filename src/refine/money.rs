use std::fmt::Write;

/// Decimal places of money, and the digits that `decimal(18,2)` holds.
pub(super) const SCALE: i8 = 2;
pub(super) const PRECISION: u8 = 18;
const OVERFLOW: i128 = 10_i128.pow(PRECISION as u32);

/// Hundredths of `value`, as `decimal(18,2)` holds them; `None` when it is not finite or too large.
///
/// What is rounded, half to even, is the shortest decimal that reads back as `value`: the number that people wrote.
/// So 2.675 becomes 2.68, although the double that stands for it lies a little below.
#[inline]
pub(super) fn hundredths(value: f64) -> Option<i128> {
    let scaled = value * 100.0;
    let rounded = scaled.round_ties_even();
    // Below 10^12, scaling is off by less than 10^-3, so only what lies that close to a tie needs exact arithmetic.
    if scaled.abs() < 1e12 && ((scaled - rounded).abs() - 0.5).abs() > 1e-3 {
        #[allow(clippy::cast_possible_truncation, reason = "an integer below 10^12")]
        return Some(i128::from(rounded as i64));
    }
    exact_hundredths(value)
}

#[cold]
fn exact_hundredths(value: f64) -> Option<i128> {
    if !value.is_finite() {
        return None;
    }
    let (digits, exponent) = shortest(value.abs())?;
    // value = digits * 10^exponent
    let shift = exponent + i32::from(SCALE);
    let magnitude = if shift >= 0 {
        let factor = 10_i128.checked_pow(shift.unsigned_abs()).filter(|factor| digits == 0 || *factor < OVERFLOW);
        digits.checked_mul(factor?)?
    } else {
        // A shortest decimal has 17 digits at most, so beyond 20 places nothing is left.
        10_i128.checked_pow(shift.unsigned_abs()).map_or(0, |divisor| divide_half_even(digits, divisor))
    };
    (magnitude < OVERFLOW).then_some(if value.is_sign_negative() { -magnitude } else { magnitude })
}

/// Digits and decimal exponent of the shortest decimal that reads back as `value`, which is not negative.
fn shortest(value: f64) -> Option<(i128, i32)> {
    let mut text = Buffer { bytes: [0; 32], len: 0 };
    write!(text, "{value:e}").ok()?;
    let written = text.bytes.get(..text.len)?;
    let split = written.iter().position(|byte| *byte == b'e')?;
    let exponent: i32 = std::str::from_utf8(written.get(split + 1..)?).ok()?.parse().ok()?;
    let mut digits = 0_i128;
    let mut places = 0;
    let mut after_point = false;
    for byte in written.get(..split)? {
        if *byte == b'.' {
            after_point = true;
        } else {
            digits = digits * 10 + i128::from(byte.wrapping_sub(b'0'));
            places += i32::from(after_point);
        }
    }
    Some((digits, exponent - places))
}

fn divide_half_even(number: i128, divisor: i128) -> i128 {
    let quotient = number / divisor;
    let twice = 2 * (number % divisor);
    let up = twice > divisor || (twice == divisor && quotient % 2 == 1);
    quotient + i128::from(up)
}

/// Text on the stack: the longest double takes 24 bytes.
struct Buffer {
    bytes: [u8; 32],
    len: usize,
}

impl Write for Buffer {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_round_half_to_even_as_written() {
        for (value, cents) in [
            (0.0, 0),
            (-0.0, 0),
            (0.005, 0),
            (0.015, 2),
            (0.025, 2),
            (1.005, 100),
            (1.015, 102),
            (2.675, 268),
            (-2.675, -268),
            (2.665, 266),
            (0.1 + 0.2, 30),
            (15.299_999_999_999_999, 1530),
            (1e-300, 0),
            (5e-324, 0),
            (0.004_999_999_999_999_999, 0),
            (0.005_000_000_000_000_001, 1),
            (9_999_999_999.995, 1_000_000_000_000),
            (123_456_789_012_345.67, 12_345_678_901_234_567),
            (9_999_999_999_999_998.0, 999_999_999_999_999_800),
        ] {
            assert_eq!(hundredths(value), Some(cents), "{value}");
        }
    }

    #[test]
    fn what_no_decimal_holds_is_none() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e16, -1e16, 1e18, 1e300, -1e300, f64::MAX] {
            assert_eq!(hundredths(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn the_fast_path_equals_the_exact_one(value in any::<f64>(), small in -1e10..1e10_f64, cents in -1_000_000_000_i64..1_000_000_000) {
            let tie = cents as f64 / 1000.0;
            for value in [value, small, tie, f64::from_bits(tie.to_bits() + 1), f64::from_bits(tie.to_bits().saturating_sub(1))] {
                prop_assert_eq!(hundredths(value), exact_hundredths(value), "{:?}", value);
            }
        }

        #[test]
        fn cents_survive(cents in -99_999_999_999_999_i64..99_999_999_999_999) {
            prop_assert_eq!(hundredths(cents as f64 / 100.0), Some(i128::from(cents)));
        }
    }
}
