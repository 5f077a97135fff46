use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pgwire::api::auth::sasl::scram::gen_salted_password;
use ring::{digest, hmac};

use super::PostgresSettings;
use crate::serve::keys::is_loopback;

/// How often a password is hashed; PostgreSQL's own default.
const ITERATIONS: usize = 4096;
const METHOD: &str = "SCRAM-SHA-256";
/// The user whose password comes by a variable.
const ONLY_USER: &str = "assay";

/// Users and the verifiers of their passwords. Nothing in it lets anybody log in.
#[derive(Debug, Clone, Default)]
pub struct Passwords(BTreeMap<String, Verifier>);

/// Passwords that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("postgres.password_file {path} cannot be read: {cause}")]
    Unreadable { path: String, cause: std::io::Error },
    #[error("postgres.password_file {path}, line {line}: it must be `user:SCRAM-SHA-256$…` or `user:password`")]
    Line { path: String, line: usize },
    #[error("postgres.password_file {path} names no user")]
    None { path: String },
    #[error("postgres.roles has no `{user}`, who has a password: say what this user may read, or drop the password")]
    NoRole { user: String },
    #[error(
        "{section}.address {address} can be reached from other machines, and there is no password: set \
         ASSAY_POSTGRES_PASSWORD or postgres.password_file, or listen on 127.0.0.1"
    )]
    Open { section: &'static str, address: String },
}

impl Passwords {
    /// The users of the settings.
    ///
    /// # Errors
    /// When the file cannot be read or used, or a user has no role where there are roles.
    pub fn load(settings: &PostgresSettings) -> Result<Self, PasswordError> {
        let mut users = BTreeMap::new();
        if let Some(verifier) = settings.password.as_deref().and_then(Verifier::parse) {
            users.insert(ONLY_USER.to_owned(), verifier);
        }
        if !settings.password_file.as_os_str().is_empty() {
            read(&settings.password_file, &mut users)?;
        }
        if !settings.roles.is_empty()
            && let Some(user) = users.keys().find(|user| !settings.roles.contains_key(*user))
        {
            return Err(PasswordError::NoRole { user: user.clone() });
        }
        Ok(Self(users))
    }

    /// Refuses to listen where others can reach it without a password.
    ///
    /// # Errors
    /// [`PasswordError::Open`].
    pub fn check_address(&self, section: &'static str, address: &str) -> Result<(), PasswordError> {
        if self.0.is_empty() && !is_loopback(address) {
            return Err(PasswordError::Open { section, address: address.to_owned() });
        }
        Ok(())
    }

    /// Whether nobody is asked for a password.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub(in crate::serve) fn of(&self, user: &str) -> Option<&Verifier> {
        self.0.get(user)
    }

    /// The verifier of a password, as `postgres.password_file` and PostgreSQL's own `pg_authid` write it.
    #[must_use]
    pub fn hash(password: &str) -> String {
        Verifier::of(password).to_string()
    }
}

/// What checks a password without holding it: RFC 5802's StoredKey and ServerKey.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::serve) struct Verifier {
    pub iterations: usize,
    pub salt: Vec<u8>,
    pub stored_key: Vec<u8>,
    pub server_key: Vec<u8>,
}

impl Verifier {
    fn of(password: &str) -> Self {
        let salt = uuid::Uuid::new_v4().into_bytes().to_vec();
        let salted = gen_salted_password(password, &salt, ITERATIONS);
        let stored_key = digest::digest(&digest::SHA256, &mac(&salted, b"Client Key")).as_ref().to_vec();
        Self { iterations: ITERATIONS, salt, stored_key, server_key: mac(&salted, b"Server Key") }
    }

    /// One that nothing matches, the same at each try: whether a user exists cannot be told from it.
    pub fn of_nobody(user: &str, secret: &[u8]) -> Self {
        let salt = mac(secret, user.as_bytes()).into_iter().take(16).collect();
        // No user of PostgreSQL's protocol, where salts are told, has a NUL in the name.
        Self { iterations: ITERATIONS, salt, stored_key: mac(secret, b"\0none"), server_key: mac(secret, b"\0nobody") }
    }

    /// Whether a password is the right one. It takes milliseconds, by design.
    pub fn admits(&self, password: &str) -> bool {
        let salted = gen_salted_password(password, &self.salt, self.iterations);
        let stored = digest::digest(&digest::SHA256, &mac(&salted, b"Client Key"));
        // Compared as keyed hashes, how long it takes says nothing of the key.
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.salt);
        hmac::verify(&key, stored.as_ref(), hmac::sign(&key, &self.stored_key).as_ref()).is_ok()
    }

    fn parse(text: &str) -> Option<Self> {
        let (cost, keys) = text.strip_prefix(METHOD)?.strip_prefix('$')?.split_once('$')?;
        let (iterations, salt) = cost.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let bytes = |text: &str| STANDARD.decode(text).ok();
        let verifier = Self {
            iterations: iterations.parse().ok().filter(|count| *count > 0)?,
            salt: bytes(salt)?,
            stored_key: bytes(stored_key).filter(|key| key.len() == 32)?,
            server_key: bytes(server_key).filter(|key| key.len() == 32)?,
        };
        Some(verifier)
    }
}

impl std::fmt::Display for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [salt, stored, server] = [&self.salt, &self.stored_key, &self.server_key].map(|key| STANDARD.encode(key));
        write!(f, "{METHOD}${}:{salt}${stored}:{server}", self.iterations)
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

pub(in crate::serve) fn mac(key: &[u8], data: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().to_vec()
}

fn read(path: &Path, users: &mut BTreeMap<String, Verifier>) -> Result<(), PasswordError> {
    let shown = || path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|cause| PasswordError::Unreadable { path: shown(), cause })?;
    let before = users.len();
    for (number, line) in
        (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    {
        let bad = || PasswordError::Line { path: shown(), line: number };
        let (user, secret) =
            line.split_once(':').filter(|(user, secret)| !user.is_empty() && !secret.is_empty()).ok_or_else(bad)?;
        let verifier = match secret.starts_with(&format!("{METHOD}$")) {
            true => Verifier::parse(secret).ok_or_else(bad)?,
            false => Verifier::of(secret),
        };
        users.insert(user.to_owned(), verifier);
    }
    if users.len() == before { Err(PasswordError::None { path: shown() }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Passwords, PasswordError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Passwords::load(&PostgresSettings { password_file: file.path().to_owned(), ..PostgresSettings::default() })
    }

    #[test]
    fn a_verifier_survives_its_text_and_holds_no_password() {
        let text = Passwords::hash("correct horse");
        assert!(text.starts_with("SCRAM-SHA-256$4096:") && !text.contains("horse"), "{text}");
        assert_eq!(Verifier::parse(&text).unwrap().to_string(), text);
        let users = load(&format!("# ours\nana:{text}\n\nbob:plain:text\n")).unwrap();
        assert!(users.of("ana").is_some() && users.of("bob").is_some() && users.of("eve").is_none());
        assert!(!format!("{users:?}").contains("plain"));
        let of = |user: &str| users.of(user).unwrap();
        assert!(of("ana").admits("correct horse") && of("bob").admits("plain:text"));
        assert!(!of("ana").admits("correct hors") && !of("bob").admits("") && !of("ana").admits("plain:text"));
        assert!(!Verifier::of_nobody("eve", b"secret").admits("secret"));
    }

    /// Made by PostgreSQL 15 for the password `pencil`.
    #[test]
    fn a_verifier_of_postgresql_is_understood() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let salted = gen_salted_password("pencil", &salt, 4096);
        let stored = digest::digest(&digest::SHA256, &mac(&salted, b"Client Key"));
        // RFC 7677's example.
        assert_eq!(STANDARD.encode(stored.as_ref()), "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=");
        assert_eq!(STANDARD.encode(mac(&salted, b"Server Key")), "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=");
    }

    #[test]
    fn files_that_cannot_be_used_are_refused() {
        assert!(matches!(load("# none\n"), Err(PasswordError::None { .. })));
        assert!(matches!(load("ana:x\nbob\n"), Err(PasswordError::Line { line: 2, .. })));
        assert!(matches!(load("ana:SCRAM-SHA-256$4096:x"), Err(PasswordError::Line { line: 1, .. })));
    }

    #[test]
    fn without_a_password_only_loopback_is_served() {
        let none = Passwords::default();
        assert!(none.check_address("flight", "127.0.0.1:5432").is_ok());
        assert!(none.check_address("flight", "0.0.0.0:5432").is_err());
        assert!(load("ana:x").unwrap().check_address("flight", "0.0.0.0:5432").is_ok());
    }

    #[test]
    fn where_there_are_roles_every_user_needs_one() {
        let settings = PostgresSettings {
            password: Some(Passwords::hash("x")),
            roles: [("ana".to_owned(), super::super::Role::default())].into(),
            ..PostgresSettings::default()
        };
        assert!(matches!(Passwords::load(&settings), Err(PasswordError::NoRole { user }) if user == "assay"));
    }
}
