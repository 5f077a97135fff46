use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

/// What a part may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    rows_max: u64,
    groups_max: u64,
}

impl Bounds {
    /// As wide as a chunk of a rebuild: a group takes some 15 KB with four counts of distinct values, and a row, once for every
    /// window that it falls into, some 100 bytes for each.
    pub(super) fn of_chunks(rows: usize) -> Self {
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        Self { rows_max: rows.saturating_mul(16), groups_max: (rows / 4).max(1) }
    }

    fn fit(&self, so_far: &Weight, more: &Weight) -> bool {
        so_far.rows + more.rows <= self.rows_max && so_far.groups + more.groups <= self.groups_max
    }

    /// Of how many parts a window of this weight takes one.
    fn shares(&self, weight: &Weight) -> u64 {
        weight.rows.div_ceil(self.rows_max).max(weight.groups.div_ceil(self.groups_max)).max(1)
    }
}

/// What a window costs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weight {
    pub(super) rows: u64,
    pub(super) groups: u64,
}

/// By the start of the window, µs.
pub(super) type Weights = BTreeMap<i64, Weight>;

/// Windows that begin in `[from_us, to_us)`, without a bound where there is none, and of their keys one share of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) from_us: Option<i64>,
    pub(super) to_us: Option<i64>,
    pub(super) share: u64,
    pub(super) shares: u64,
}

impl Part {
    /// Every window with all its keys.
    pub(super) const WHOLE: Self = Self { from_us: None, to_us: None, share: 0, shares: 1 };

    /// That an instant of type `kind`, `shift_us` past the start of its window, is within the bounds.
    pub(super) fn holds(&self, instant: &Expr, shift_us: i64, kind: &DataType) -> Expr {
        let zone = match kind {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        let bound = |us: i64| {
            Expr::Literal(ScalarValue::TimestampMicrosecond(Some(us.saturating_add(shift_us)), zone.clone()), None)
        };
        let from = self.from_us.map(|us| instant.clone().gt_eq(bound(us)));
        let to = self.to_us.map(|us| instant.clone().lt(bound(us)));
        from.into_iter().chain(to).reduce(Expr::and).unwrap_or_else(|| lit(true))
    }
}

/// Parts that hold every window once, and those of `weights` a bounded number at a time. Without keys a window is not shared out.
pub(super) fn parts(weights: &Weights, has_keys: bool, bounds: Bounds) -> Vec<Part> {
    // Windows that nobody knows of belong to the part that they fall into.
    let mut cuts: Vec<(Option<i64>, Weight)> = Vec::new();
    for (start, weight) in weights {
        match cuts.last_mut() {
            Some((_, so_far)) if bounds.fit(so_far, weight) => {
                so_far.rows += weight.rows;
                so_far.groups += weight.groups;
            }
            Some(_) => cuts.push((Some(*start), *weight)),
            None => cuts.push((None, *weight)),
        }
    }
    if cuts.is_empty() {
        return vec![Part::WHOLE];
    }
    let ends = cuts.iter().skip(1).map(|(from_us, _)| *from_us).chain([None]);
    let cut = |((from_us, weight), to_us): (&(Option<i64>, Weight), Option<i64>)| {
        let (from_us, shares) = (*from_us, if has_keys { bounds.shares(weight) } else { 1 });
        (0..shares).map(move |share| Part { from_us, to_us, share, shares })
    };
    cuts.iter().zip(ends).flat_map(cut).collect()
}

/// A function that tells which of so many shares a key belongs to.
pub(super) fn share(shares: u64) -> ScalarUDF {
    ScalarUDF::new_from_impl(Share { shares, signature: Signature::variadic_any(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Share {
    shares: u64,
    signature: Signature,
}

impl ScalarUDFImpl for Share {
    fn name(&self) -> &'static str {
        "share"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::UInt64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut hashes = vec![0_u64; args.number_rows];
        let state = ahash::RandomState::with_seeds(1, 2, 3, 4);
        for column in ColumnarValue::values_to_arrays(&args.args)? {
            // As texts, because a type may differ between what stands there and what is computed.
            let texts = cast(&column, &DataType::Utf8)?;
            let texts: &StringArray = texts.as_string();
            for (hash, text) in hashes.iter_mut().zip(texts) {
                let mut hasher = state.build_hasher();
                hasher.write_u64(*hash);
                hasher.write(text.unwrap_or_default().as_bytes());
                *hash = hasher.finish();
            }
        }
        let shares: UInt64Array = hashes.into_iter().map(|hash| hash % self.shares).collect();
        Ok(ColumnarValue::Array(Arc::new(shares) as ArrayRef))
    }
}

#[cfg(test)]
mod tests;
