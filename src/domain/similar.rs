use datafusion::common::utils::datafusion_strsim::levenshtein;

/// As many suggestions as a person reads.
const SUGGESTIONS: usize = 3;

/// The names of which about a third of the letters differ at most, the nearest first, and those that begin or end so.
pub fn closest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let mut near: Vec<(usize, &str)> = names
        .into_iter()
        .filter_map(|name| {
            let lower = name.to_lowercase();
            let distance = levenshtein(&wanted, &lower);
            let begins = wanted.len() >= 3 && (lower.starts_with(&wanted) || lower.ends_with(&wanted));
            (distance * 3 <= wanted.chars().count().max(2) + 1 || begins).then_some((distance, name))
        })
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().map(|(_, name)| name.to_owned()).take(SUGGESTIONS).collect()
}

/// `; did you mean …?` with the closest names, or nothing when none is close.
pub fn did_you_mean<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let near: Vec<String> = closest(wanted, names).iter().map(|name| format!("`{name}`")).collect();
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_three_names_and_the_nearest_first() {
        assert_eq!(closest("amont", ["city", "amount", "merchant"]), ["amount"]);
        assert_eq!(closest("user", ["user_id", "superuser", "user_a", "user_b", "usr"]).len(), 3);
        assert_eq!(did_you_mean("zzz", ["amount"]), "");
        assert_eq!(did_you_mean("histori_s", ["history_s", "options"]), "; did you mean `history_s`?");
    }
}
