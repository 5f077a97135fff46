//! How far two histograms over the same bins are apart.

/// The population stability index of `current` against `reference`: the sum over bins of (q - p) · ln(q / p), with p and q
/// the shares of rows. A bin that is empty on one side counts as half a row there, because the logarithm wants something.
/// 0 for equal shares, never negative, the same in both directions, without an upper bound. `None` without rows on a side.
#[must_use]
pub fn psi(reference: &[u64], current: &[u64]) -> Option<f64> {
    Some(psi_parts(reference, current)?.into_iter().sum())
}

/// What each bin adds to the index.
pub(super) fn psi_parts(reference: &[u64], current: &[u64]) -> Option<Vec<f64>> {
    let (of, in_all) = (total(reference)?, total(current)?);
    let part = |(&before, &now): (&u64, &u64)| {
        if before == 0 && now == 0 {
            return 0.0;
        }
        let (p, q) = ((before as f64).max(0.5) / of, (now as f64).max(0.5) / in_all);
        (q - p) * (q / p).ln()
    };
    Some(reference.iter().zip(current).map(part).collect())
}

/// The Jensen-Shannon divergence in bits: the mean of the Kullback-Leibler divergences of both from their middle. 0 for equal
/// shares, 1 where no bin holds rows of both; symmetric. `None` without rows on a side.
#[must_use]
pub fn jensen_shannon(one: &[u64], other: &[u64]) -> Option<f64> {
    let (of_one, of_other) = (total(one)?, total(other)?);
    let half = |share: f64, middle: f64| if share > 0.0 { 0.5 * share * (share / middle).log2() } else { 0.0 };
    let part = |(&one, &other): (&u64, &u64)| {
        let (p, q) = (one as f64 / of_one, other as f64 / of_other);
        let middle = f64::midpoint(p, q);
        half(p, middle) + half(q, middle)
    };
    Some(one.iter().zip(other).map(part).sum::<f64>().clamp(0.0, 1.0))
}

/// The index to expect where nothing changed: two samples of one distribution differ by (bins - 1) · (1/n + 1/m) on average.
/// Bins that are empty on both sides do not count. `None` without rows on a side.
#[must_use]
pub fn psi_by_chance(reference: &[u64], current: &[u64]) -> Option<f64> {
    let (of, in_all) = (total(reference)?, total(current)?);
    let bins = reference.iter().zip(current).filter(|(before, now)| **before + **now > 0).count();
    Some(bins.saturating_sub(1) as f64 * (1.0 / of + 1.0 / in_all))
}

fn total(counts: &[u64]) -> Option<f64> {
    let rows: u64 = counts.iter().sum();
    (rows > 0).then_some(rows as f64)
}

#[cfg(test)]
mod tests;
