use serde::{Deserialize, Serialize};

/// The `[scoring]` section of the settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
        }
    }
}
