use linfa::ParamGuard;
use serde::{Deserialize, Serialize};

use super::Scaling;
use crate::model::ModelError;

/// How to fit a logistic regression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogisticSettings {
    /// The penalty on the squared weights, against the loss summed over the rows.
    pub l2: f64,
    pub scaling: Scaling,
    /// Steps of L-BFGS at most, on the sample that gives the start.
    pub steps_max: u64,
    /// What another step would have to take off the mean loss.
    pub tolerance: f64,
}

impl Default for LogisticSettings {
    fn default() -> Self {
        Self { l2: 1.0, scaling: Scaling::SignedLog, steps_max: 200, tolerance: 1e-9 }
    }
}

/// Settings not yet checked, as linfa wants them: [`linfa::traits::Fit`] checks first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogisticParams(LogisticValidParams);

/// Settings that were found to make sense.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogisticValidParams(LogisticSettings);

impl From<LogisticSettings> for LogisticParams {
    fn from(settings: LogisticSettings) -> Self {
        Self(LogisticValidParams(settings))
    }
}

impl LogisticValidParams {
    #[must_use]
    pub const fn settings(&self) -> &LogisticSettings {
        &self.0
    }
}

impl ParamGuard for LogisticParams {
    type Checked = LogisticValidParams;
    type Error = ModelError;

    fn check_ref(&self) -> Result<&LogisticValidParams, ModelError> {
        let LogisticSettings { l2, tolerance, steps_max, .. } = self.0.0;
        let refuse = |parameter, value: String, must_be| {
            Err(ModelError::Parameter { family: "logistic regression", parameter, value, must_be })
        };
        if !(l2 >= 0.0 && l2.is_finite()) {
            return refuse("l2", l2.to_string(), "0 or more");
        }
        if !(tolerance > 0.0 && tolerance < 1.0) {
            return refuse("tolerance", tolerance.to_string(), "above 0 and below 1");
        }
        if steps_max == 0 {
            return refuse("steps_max", steps_max.to_string(), "at least 1");
        }
        Ok(&self.0)
    }

    fn check(self) -> Result<LogisticValidParams, ModelError> {
        self.check_ref()?;
        Ok(self.0)
    }
}
