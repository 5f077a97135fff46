//! Who asks: by user and password, or by the token that was given for them.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use ring::hmac;
use tokio::sync::Semaphore;
use tonic::metadata::MetadataMap;

use crate::serve::sql::Shared;
use crate::serve::sql::failure::{Failure, state};
use crate::serve::sql::passwords::{Verifier, mac};

/// Passwords that are checked at a time: each takes milliseconds of a core.
const CHECKS_MAX: usize = 2;
/// A longer password is not hashed.
const PASSWORD_BYTES_MAX: usize = 1024;

/// A user who was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Who {
    pub user: String,
    /// `None` reads everything.
    pub role: Option<String>,
}

/// The token of a header `authorization`.
pub(super) fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

pub(super) struct Admission {
    sql: Arc<Shared>,
    /// Signs tokens, as long as this process lives; so none of them is kept.
    key: hmac::Key,
    lifetime_us: i64,
    checks: Arc<Semaphore>,
}

impl Admission {
    pub fn new(sql: Arc<Shared>, lifetime_s: u64) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &mac(&sql.secret, b"\0tokens"));
        let lifetime_us = i64::try_from(lifetime_s).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        Self { sql, key, lifetime_us, checks: Arc::new(Semaphore::new(CHECKS_MAX)) }
    }

    /// Whoever calls. Where there are no passwords, everybody is whom they say, or nobody.
    pub async fn admit(&self, metadata: &MetadataMap) -> Result<Who, Failure> {
        let refused = |told: &str| Failure::new(state::INVALID_AUTHORIZATION, told);
        let user = match metadata.get("authorization") {
            None if self.sql.passwords.is_empty() => String::new(),
            None => {
                return Err(refused("no password supplied").with_hint("give username and password, as ADBC calls them"));
            }
            Some(value) => {
                let value = value.to_str().map_err(|_| refused("the header `authorization` cannot be read"))?;
                let (scheme, secret) = value.split_once(' ').unwrap_or((value, ""));
                match scheme.to_ascii_lowercase().as_str() {
                    "basic" => self.basic(secret.trim()).await?,
                    "bearer" => self.bearer(secret.trim())?,
                    _ => return Err(refused("only `Basic` and `Bearer` are understood in the header `authorization`")),
                }
            }
        };
        let role = self.sql.engine.role_of(&user)?;
        Ok(Who { user, role })
    }

    async fn basic(&self, secret: &str) -> Result<String, Failure> {
        let malformed =
            || Failure::new(state::INVALID_AUTHORIZATION, "the header `authorization` is not user:password in base64");
        let bytes = STANDARD.decode(secret).or_else(|_| STANDARD_NO_PAD.decode(secret)).map_err(|_| malformed())?;
        let text = String::from_utf8(bytes).map_err(|_| malformed())?;
        let (user, password) = text.split_once(':').ok_or_else(malformed)?;
        if self.sql.passwords.is_empty() {
            return Ok(user.to_owned());
        }
        let wrong =
            || Failure::new(state::INVALID_PASSWORD, format!("password authentication failed for user \"{user}\""));
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(wrong());
        }
        let verifier = self.sql.passwords.of(user).cloned();
        let verifier = verifier.unwrap_or_else(|| Verifier::of_nobody(user, &self.sql.secret));
        let password = password.to_owned();
        let turn = Arc::clone(&self.checks).acquire_owned().await;
        // The turn ends with the work, also when the client has left.
        let checked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            verifier.admits(&password)
        });
        let checked = checked.await;
        if checked.unwrap_or(false) { Ok(user.to_owned()) } else { Err(wrong()) }
    }

    /// What a user shows in the place of the password from now on.
    pub fn token(&self, user: &str) -> String {
        let until_us = self.sql.clock.now_us().saturating_add(self.lifetime_us);
        let said = format!("{until_us}.{}", URL_SAFE_NO_PAD.encode(user));
        let signature = hmac::sign(&self.key, said.as_bytes());
        format!("{said}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    fn bearer(&self, token: &str) -> Result<String, Failure> {
        let bad = || {
            Failure::new(state::INVALID_AUTHORIZATION, "the token is not one of this server").with_hint("log in again")
        };
        let (said, signature) = token.rsplit_once('.').ok_or_else(bad)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| bad())?;
        hmac::verify(&self.key, said.as_bytes(), &signature).map_err(|_| bad())?;
        let (until_us, user) = said.split_once('.').ok_or_else(bad)?;
        if until_us.parse::<i64>().map_err(|_| bad())? < self.sql.clock.now_us() {
            return Err(Failure::new(state::INVALID_AUTHORIZATION, "the token has expired").with_hint("log in again"));
        }
        let user = URL_SAFE_NO_PAD.decode(user).map_err(|_| bad())?;
        String::from_utf8(user).map_err(|_| bad())
    }
}
