use std::collections::BTreeSet;
use std::path::Path;

use axum::http::{HeaderMap, StatusCode, header};

use super::{Problem, ServeSettings};

/// The API keys that open the routes which score, or those that change something: kept as BLAKE3 hashes, never as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiKeys(BTreeSet<[u8; 32]>);

/// Keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{setting} {path} cannot be read: {cause}")]
    Unreadable { setting: &'static str, path: String, cause: std::io::Error },
    #[error("{setting} {path}, line {line}: `blake3:` is followed by no hash of 64 hexadecimal digits")]
    Hash { setting: &'static str, path: String, line: usize },
    #[error("{setting} {path} holds no key")]
    None { setting: &'static str, path: String },
    #[error(
        "serve.address {address} can be reached from other machines, and there is no API key: set ASSAY_SERVE_API_KEY or \
         serve.api_key_file, or listen on 127.0.0.1"
    )]
    Open { address: String },
}

const HASHED: &str = "blake3:";

impl ApiKeys {
    /// The keys of the settings.
    ///
    /// # Errors
    /// When the file of keys cannot be read or holds none.
    pub fn load(settings: &ServeSettings) -> Result<Self, KeyError> {
        load("serve.api_key_file", &settings.api_keys, &settings.api_key_file)
    }

    /// The keys that may change something.
    ///
    /// # Errors
    /// When their file cannot be read or holds none.
    pub fn load_admins(settings: &ServeSettings) -> Result<Self, KeyError> {
        load("serve.admin_key_file", &settings.admin_keys, &settings.admin_key_file)
    }

    /// Refuses to listen where others can reach it without a key.
    ///
    /// # Errors
    /// [`KeyError::Open`].
    pub fn check_address(&self, address: &str) -> Result<(), KeyError> {
        if self.0.is_empty() && !is_loopback(address) {
            return Err(KeyError::Open { address: address.to_owned() });
        }
        Ok(())
    }

    /// The hash of a key, in hexadecimal.
    #[must_use]
    pub fn hash(key: &str) -> String {
        blake3::hash(key.trim().as_bytes()).to_hex().to_string()
    }

    /// Whether everybody is let in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Looks for a key in `Authorization: Bearer` or `X-Api-Key`.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if self.0.is_empty() {
            return Ok(());
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text(header::AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
        let Some(key) = bearer.or_else(|| text("x-api-key")) else {
            let detail = "an API key is needed: send Authorization: Bearer KEY, or X-Api-Key: KEY";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, detail).with_header(header::WWW_AUTHENTICATE, "Bearer"));
        };
        // What is compared is a hash: how long it takes says nothing of the key.
        if self.0.contains(blake3::hash(key.trim().as_bytes()).as_bytes()) {
            return Ok(());
        }
        let detail = "the API key is not known";
        Err(Problem::new(StatusCode::UNAUTHORIZED, detail).with_header(header::WWW_AUTHENTICATE, "Bearer"))
    }
}

fn load(setting: &'static str, hashes: &[String], file: &Path) -> Result<ApiKeys, KeyError> {
    let mut keys = BTreeSet::new();
    for hash in hashes {
        keys.extend(blake3::Hash::from_hex(hash).map(|hash| *hash.as_bytes()));
    }
    if !file.as_os_str().is_empty() {
        read(setting, file, &mut keys)?;
    }
    Ok(ApiKeys(keys))
}

fn read(setting: &'static str, path: &Path, keys: &mut BTreeSet<[u8; 32]>) -> Result<(), KeyError> {
    let shown = || path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|cause| KeyError::Unreadable { setting, path: shown(), cause })?;
    let before = keys.len();
    for (number, line) in
        (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    {
        let hash = match line.strip_prefix(HASHED) {
            Some(hash) => {
                blake3::Hash::from_hex(hash).map_err(|_| KeyError::Hash { setting, path: shown(), line: number })?
            }
            None => blake3::hash(line.as_bytes()),
        };
        keys.insert(*hash.as_bytes());
    }
    if keys.len() == before { Err(KeyError::None { setting, path: shown() }) } else { Ok(()) }
}

pub(super) fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn keys_are_known_by_their_hash_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("# ours\nblake3:{}\n\nplain-key\n", ApiKeys::hash("secret"))).unwrap();
        let settings = ServeSettings {
            api_key_file: file.path().to_owned(),
            api_keys: vec![ApiKeys::hash("by-variable")],
            ..ServeSettings::default()
        };
        let keys = ApiKeys::load(&settings).unwrap();
        assert!(!format!("{keys:?}").contains("plain-key"));
        for key in ["secret", "plain-key", "by-variable"] {
            assert!(keys.admit(&headers("x-api-key", key)).is_ok(), "{key}");
            assert!(keys.admit(&headers("authorization", &format!("Bearer {key}"))).is_ok(), "{key}");
        }
        for wrong in ["", "Secret", "secret2", &ApiKeys::hash("secret")] {
            assert!(keys.admit(&headers("x-api-key", wrong)).is_err(), "{wrong}");
        }
        assert!(keys.admit(&HeaderMap::new()).is_err());
        assert!(ApiKeys::default().admit(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn a_file_of_keys_that_cannot_be_used_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let load = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            let settings = ServeSettings { api_key_file: file.path().to_owned(), ..ServeSettings::default() };
            ApiKeys::load(&settings).unwrap_err()
        };
        assert!(matches!(load("# none\n"), KeyError::None { .. }));
        assert!(matches!(load("a\nblake3:12\n"), KeyError::Hash { line: 2, .. }));
    }

    #[test]
    fn without_a_key_only_loopback_is_served() {
        let none = ApiKeys::default();
        for address in ["127.0.0.1:80", "localhost:80", "[::1]:80", "127.9.9.9:1"] {
            assert!(none.check_address(address).is_ok(), "{address}");
        }
        for address in ["0.0.0.0:80", "[::]:80", "192.168.1.2:80", "example.org:80"] {
            assert!(none.check_address(address).is_err(), "{address}");
        }
        let key = ServeSettings { api_keys: vec![ApiKeys::hash("k")], ..ServeSettings::default() };
        assert!(ApiKeys::load(&key).unwrap().check_address("0.0.0.0:80").is_ok());
    }
}
