//! Which users a challenger answers for.

use arrow::array::{Array, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use ring::digest::{SHA256, digest};

use super::{ScoringPipeline, ScoringSettings};
use crate::model::registry::Version;

/// A share of the values of a column of silver.
///
/// A value belongs to the challenger when its [`position`] is below the share. So a user has one and the same version
/// while the challenger and its share stay, in every process; who has the challenger keeps it when the share grows; and
/// another challenger gets other users.
#[derive(Debug, Clone, Copy)]
pub struct Split {
    column: usize,
    share: f64,
}

impl Split {
    /// `None` where no share is given to a challenger.
    ///
    /// # Errors
    /// In words, when silver has no such column.
    pub fn of(settings: &ScoringSettings, pipeline: &ScoringPipeline) -> Result<Option<Self>, String> {
        if settings.challenger_share <= 0.0 {
            return Ok(None);
        }
        let (table, schema) = pipeline.silver();
        match schema.index_of(&settings.split_by) {
            Ok(column) => Ok(Some(Self { column, share: settings.challenger_share })),
            Err(_) => Err(format!("scoring.split_by: {table} has no column `{}`", settings.split_by)),
        }
    }

    /// Of each row of silver whether it belongs to this challenger. A row without a value does not.
    pub(super) fn rows(&self, challenger: &Version, silver: &RecordBatch) -> Vec<bool> {
        let none = || vec![false; silver.num_rows()];
        let Some(column) = silver.columns().get(self.column) else { return none() };
        let options = FormatOptions::default();
        let Ok(values) = ArrayFormatter::try_new(column.as_ref(), &options) else { return none() };
        let is_below = |row: usize| {
            let text = values.value(row).try_to_string();
            !column.is_null(row) && text.is_ok_and(|text| position(challenger, &text) < self.share)
        };
        (0..silver.num_rows()).map(is_below).collect()
    }
}

/// Where a value stands between 0 and 1, for a challenger: the first 53 bits of the SHA-256 of `<version>:<value>`, over 2^53.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "53 bits fit a double")]
pub fn position(challenger: &Version, value: &str) -> f64 {
    let hash = digest(&SHA256, format!("{challenger}:{value}").as_bytes());
    let first = hash.as_ref().first_chunk().copied().unwrap_or_default();
    (u64::from_be_bytes(first) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    /// By Python: `d = hashlib.sha256(b"20261121T104500Z:7").digest()`, `(int.from_bytes(d[:8]) >> 11) / 2**53`.
    #[test]
    fn positions_are_those_of_another_sha_256() {
        for (value, expected) in POSITIONS {
            assert_eq!(position(&version("20261121T104500Z"), value).to_bits(), f64::to_bits(expected), "{value}");
        }
    }

    const POSITIONS: [(&str, f64); 3] =
        [("7", 0.8269899718151554), ("-1", 0.2347519833969568), ("é", 0.22989785096519488)];

    #[test]
    fn a_share_is_met_and_another_challenger_gets_other_users() {
        let (one, other) = (version("20261121T104500Z"), version("20261121T104501Z"));
        let users = 20_000_u32;
        for share in [0.01, 0.3, 0.9] {
            let of = |version: &Version| -> Vec<bool> {
                (0..users).map(|user| position(version, &user.to_string()) < share).collect()
            };
            let (one, other) = (of(&one), of(&other));
            let expected = f64::from(users) * share;
            // Five standard deviations.
            let off = 5.0 * (expected * (1.0 - share)).sqrt();
            let count = |of: &[bool]| of.iter().filter(|taken| **taken).count() as f64;
            assert!((count(&one) - expected).abs() < off, "{share}: {}", count(&one));
            let both: Vec<bool> = one.iter().zip(&other).map(|(one, other)| *one && *other).collect();
            let chance = expected * share;
            assert!((count(&both) - chance).abs() < 5.0 * chance.sqrt(), "{share}: {} are in both", count(&both));
        }
    }
}
