use serde::{Deserialize, Serialize};

use super::TrialBounds;

/// The `[scoring]` section of the settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScoringSettings {
    /// The model whose champion answers.
    pub model: String,
    /// The table of rules: a `rows` table with the columns score, class and reasons.
    pub rules: String,
    /// Where no model answers, this score or more is fraud.
    pub rule_threshold: i32,
    /// How much of the past is held in memory beyond the longest count, in seconds of event time; what is asked about
    /// older transactions is answered by the rules.
    pub horizon_s: u32,
    /// How often aliases and the lake are looked at.
    pub follow_ms: u64,
    /// The strongest contributions that an answer names.
    pub contributions_max: usize,
    /// Whether the stream is scored by the champion as it comes.
    pub stream: bool,
    /// The topic that gets what is said of each transaction of the stream; empty for none.
    pub topic: String,
    /// Whether a receipt of each decision is kept in `gold.predictions`.
    pub receipts: bool,
    /// How often they are stored.
    pub receipts_every_ms: u64,
    /// The share of users, from 0 to 1, whom the challenger answers.
    pub challenger_share: f64,
    /// The column of silver that tells users apart.
    pub split_by: String,
    /// Whether the challenger is also asked what the champion answered.
    pub shadow: bool,
    /// How far back a challenger is judged, in seconds.
    pub challenger_window_s: u32,
    /// It is not judged by fewer transactions.
    pub challenger_transactions_min: u64,
    /// A challenger is taken out when more than this share of them failed, or was slow.
    pub challenger_bad_share_max: f64,
    /// A challenger that takes longer to be asked is slow.
    pub challenger_latency_us: u64,
    /// Versions that requests named and that are kept in memory.
    pub pinned_max: usize,
}

impl Default for ScoringSettings {
    fn default() -> Self {
        Self {
            model: "fraud".to_owned(),
            rules: "gold.fraud_scores".to_owned(),
            rule_threshold: 50,
            horizon_s: 3600,
            follow_ms: 250,
            contributions_max: 5,
            stream: true,
            topic: String::new(),
            receipts: true,
            receipts_every_ms: 5000,
            challenger_share: 0.0,
            split_by: "user_id".to_owned(),
            shadow: false,
            challenger_window_s: 60,
            challenger_transactions_min: 200,
            challenger_bad_share_max: 0.02,
            challenger_latency_us: 5000,
            pinned_max: 4,
        }
    }
}

impl ScoringSettings {
    /// The key that cannot work, and what it accepts.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        let share = |share: f64| !(0.0..=1.0).contains(&share);
        let own = [
            ("follow_ms", self.follow_ms == 0, "must be at least 1"),
            ("receipts_every_ms", self.receipts_every_ms == 0, "must be at least 1"),
            ("challenger_share", share(self.challenger_share), "must be a share from 0 to 1"),
            ("challenger_window_s", self.challenger_window_s == 0, "must be at least 1"),
            ("challenger_transactions_min", self.challenger_transactions_min == 0, "must be at least 1"),
            ("challenger_bad_share_max", share(self.challenger_bad_share_max), "must be a share from 0 to 1"),
            ("challenger_latency_us", self.challenger_latency_us == 0, "must be at least 1"),
            ("pinned_max", self.pinned_max == 0, "must be at least 1"),
        ];
        own.into_iter().find(|(_, is_bad, _)| *is_bad).map(|(key, _, cause)| (key, cause))
    }

    /// How a challenger is judged; `None` where none is wanted.
    #[must_use]
    pub fn trial(&self) -> Option<TrialBounds> {
        (self.challenger_share > 0.0 || self.shadow).then(|| TrialBounds {
            window_us: i64::from(self.challenger_window_s) * 1_000_000,
            transactions_min: self.challenger_transactions_min,
            share_max: self.challenger_bad_share_max,
            latency_us: self.challenger_latency_us,
        })
    }
}
