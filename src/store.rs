//! An object store by its address: how the lake and the registry of models open theirs.
//!
//! Options come from the settings, and lie over the variables `AWS_*`.

use std::collections::BTreeMap;

#[cfg(feature = "s3")]
pub use s3::{SCHEMES, open};

use crate::domain::did_you_mean;

/// The options that most stores need, for suggestions.
const KNOWN_OPTIONS: [&str; 12] = [
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_region",
    "aws_endpoint",
    "aws_allow_http",
    "aws_virtual_hosted_style_request",
    "aws_skip_signature",
    "aws_conditional_put",
    "aws_server_side_encryption",
    "timeout",
    "connect_timeout",
];

/// What an option that no store takes was probably meant to be: a half-sentence, or nothing.
#[must_use]
pub fn meant(option: &str) -> String {
    did_you_mean(&option.to_ascii_lowercase(), KNOWN_OPTIONS)
}

/// The first option that no store takes.
#[must_use]
pub fn unknown_option(options: &BTreeMap<String, String>) -> Option<&str> {
    options.keys().find(|key| !is_store_option(key)).map(String::as_str)
}

/// Whether a store takes an option of this name.
#[must_use]
#[cfg(feature = "s3")]
pub fn is_store_option(key: &str) -> bool {
    key.to_ascii_lowercase().parse::<object_store::aws::AmazonS3ConfigKey>().is_ok()
}

/// Without a store there is no option.
#[must_use]
#[cfg(not(feature = "s3"))]
pub fn is_store_option(_key: &str) -> bool {
    false
}

#[cfg(feature = "s3")]
mod s3 {
    use std::sync::Arc;

    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
    use object_store::path::Path;
    use object_store::{ObjectStore, RetryConfig};
    use url::Url;

    /// The schemes of the addresses that [`open`] takes.
    pub const SCHEMES: [&str; 2] = ["s3", "s3a"];

    /// The store of a bucket, and the prefix in it. Options that no store takes are left out.
    ///
    /// # Errors
    /// When the address or an option cannot be used.
    pub fn open<'a>(
        url: &Url,
        options: impl IntoIterator<Item = (&'a String, &'a String)>,
        retry: RetryConfig,
    ) -> Result<(Arc<dyn ObjectStore>, Path), object_store::Error> {
        let mut builder = AmazonS3Builder::from_env().with_url(url.as_str()).with_retry(retry);
        for (key, value) in options {
            if let Ok(key) = key.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        Ok((Arc::new(builder.build()?), Path::from(url.path())))
    }
}
