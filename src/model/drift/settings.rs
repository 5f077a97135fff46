use serde::Deserialize;

/// The `[drift]` section of the settings.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DriftSettings {
    /// How many complete days are compared, the newest ones.
    pub days: u32,
    /// A window whose index reaches it is worth a look.
    pub psi_watch: f64,
    /// One that reaches it ends the job with exit code 3.
    pub psi_act: f64,
    /// Windows with fewer rows are measured and not judged.
    pub rows_min: u64,
    /// Whether hours are judged too.
    pub judge_hours: bool,
}

impl Default for DriftSettings {
    fn default() -> Self {
        // The convention of credit scoring: N. Siddiqi, Credit Risk Scorecards, 2006.
        Self { days: 7, psi_watch: 0.1, psi_act: 0.25, rows_min: 1000, judge_hours: false }
    }
}

impl DriftSettings {
    /// The key that cannot work, and what it accepts.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        let checks = [
            ("days", self.days > 0 && self.days <= 3660, "must be from 1 to 3660"),
            ("psi_watch", self.psi_watch > 0.0, "must be above 0"),
            ("psi_act", self.psi_act >= self.psi_watch, "must be psi_watch or more"),
            ("rows_min", self.rows_min > 0, "must be at least 1"),
        ];
        checks.into_iter().find(|(_, holds, _)| !holds).map(|(key, _, cause)| (key, cause))
    }
}
