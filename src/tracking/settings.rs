use std::fmt;

use url::Url;

/// Where runs are told, and who tells them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TrackingSettings {
    /// The address of an MLflow server, with its path if it has one; empty for none.
    pub uri: String,
    pub experiment: String,
    pub username: Option<String>,
    pub password: Option<String>,
    /// A bearer token, in the place of user and password.
    pub token: Option<String>,
}

impl TrackingSettings {
    /// # Errors
    /// In words, when it is no address that can be asked.
    pub fn base(&self) -> Result<Url, String> {
        let text = self.uri.trim();
        let no = |why: &dyn fmt::Display| format!("`{text}` is no address of an MLflow server ({why})");
        let url = Url::parse(text).map_err(|cause| no(&cause))?;
        if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
            return Err(no(&"http:// and https:// are spoken"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("an address of MLflow must not hold a password: MLFLOW_TRACKING_USERNAME and \
                        MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, are for that"
                .to_owned());
        }
        Ok(url)
    }
}

/// Neither password nor token is ever shown.
impl fmt::Debug for TrackingSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackingSettings")
            .field("uri", &self.uri)
            .field("experiment", &self.experiment)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("token", &self.token.as_ref().map(|_| "***"))
            .finish()
    }
}
