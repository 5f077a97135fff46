//! Who may look, and who may change something.

use axum::http::{HeaderMap, StatusCode, header};

use super::super::keys::is_loopback;
use super::super::{ApiKeys, Problem, ServeSettings};

/// What a page of another site cannot send without being asked first by the browser.
const OWN_HEADER: &str = "x-assay-console";

/// The keys of the console.
#[derive(Debug, Clone)]
pub(super) struct Access {
    /// Those of the routes that score.
    readers: ApiKeys,
    admins: ApiKeys,
    is_local: bool,
}

impl Access {
    pub fn new(readers: ApiKeys, admins: ApiKeys, settings: &ServeSettings) -> Self {
        Self { readers, admins, is_local: is_loopback(&settings.address) }
    }

    pub fn needs_key(&self) -> bool {
        !self.readers.is_empty()
    }

    pub fn may_be_changed(&self) -> bool {
        !self.admins.is_empty()
    }

    /// Lets those look who may.
    pub fn read(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if self.readers.is_empty() {
            return self.read_without_key(headers);
        }
        self.readers.admit(headers).or_else(|problem| match self.may_be_changed() {
            true => self.admins.admit(headers).map_err(|_| problem),
            false => Err(problem),
        })
    }

    /// Lets those change something who may, and only through the page's own requests.
    pub fn change(&self, headers: &HeaderMap) -> Result<(), Problem> {
        own(headers)?;
        if !self.may_be_changed() {
            let detail = "nothing can be changed here, because there is no admin key: set ASSAY_SERVE_ADMIN_KEY or \
                          serve.admin_key_file and start again, or use `assay promote` and `assay rollback`";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail).with("code", "no_admin_key"));
        }
        self.admins.admit(headers).map_err(|problem| match self.readers.admit(headers) {
            Ok(()) if self.needs_key() => {
                let detail = "this key may look, and change nothing: an admin key is needed";
                Problem::new(StatusCode::FORBIDDEN, detail).with("code", "admin_key_needed")
            }
            _ => problem.with("code", "admin_key_needed"),
        })
    }

    /// Without keys only this machine may ask, and only under its own name: a page elsewhere could have its name resolved
    /// to this machine.
    fn read_without_key(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if !self.is_local {
            let detail = "the console can be reached from other machines, and there is no API key: set ASSAY_SERVE_API_KEY \
                          or serve.api_key_file, or listen on 127.0.0.1";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail).with("code", "no_api_key"));
        }
        if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
            let detail = "without an API key the console answers its own page only, and another site asked";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail).with("code", "foreign_site"));
        }
        let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        let host = if has_port { host.to_owned() } else { format!("{host}:80") };
        if is_loopback(&host) {
            return Ok(());
        }
        let detail =
            "without an API key the console answers to 127.0.0.1 and localhost only, and was asked by another name";
        Err(Problem::new(StatusCode::FORBIDDEN, detail).with("code", "foreign_host"))
    }
}

/// Whether a request is one that only the page, or who means it, can send.
pub(super) fn own(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(OWN_HEADER) {
        return Ok(());
    }
    let detail = "the header X-Assay-Console is missing: it says that no page of another site asks";
    Err(Problem::new(StatusCode::FORBIDDEN, detail).with("code", "header_missing"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn access(readers: &[&str], admins: &[&str], address: &str) -> Access {
        let keys = |keys: &[&str]| {
            let api_keys = keys.iter().map(|key| ApiKeys::hash(key)).collect();
            ApiKeys::load(&ServeSettings { api_keys, ..ServeSettings::default() }).unwrap()
        };
        let settings = ServeSettings { address: address.to_owned(), ..ServeSettings::default() };
        Access::new(keys(readers), keys(admins), &settings)
    }

    fn headers(given: &[(&str, &str)]) -> HeaderMap {
        given.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn without_a_key_this_machine_may_look_under_its_own_name() {
        let open = access(&[], &[], "127.0.0.1:9464");
        for host in ["127.0.0.1:9464", "localhost", "[::1]:9464", "localhost:1"] {
            assert!(open.read(&headers(&[("host", host)])).is_ok(), "{host}");
        }
        for host in ["evil.example", "evil.example:9464", "127.0.0.1.evil.example:9464", ""] {
            assert!(open.read(&headers(&[("host", host)])).is_err(), "{host}");
        }
        let from = |site| headers(&[("host", "localhost"), ("sec-fetch-site", site)]);
        assert!(open.read(&from("same-origin")).is_ok() && open.read(&from("none")).is_ok());
        assert!(open.read(&from("cross-site")).is_err());
        assert!(access(&[], &[], "0.0.0.0:9464").read(&headers(&[("host", "localhost")])).is_err());
    }

    #[test]
    fn any_key_lets_look_and_only_an_admin_key_lets_change() {
        let both = access(&["look"], &["change"], "0.0.0.0:9464");
        for (key, looks, changes) in [("look", true, false), ("change", true, true), ("other", false, false)] {
            let sent = headers(&[("x-api-key", key), ("x-assay-console", "1")]);
            assert_eq!((both.read(&sent).is_ok(), both.change(&sent).is_ok()), (looks, changes), "{key}");
        }
        assert!(both.read(&headers(&[])).is_err() && both.change(&headers(&[("x-assay-console", "1")])).is_err());
    }

    #[test]
    fn nothing_changes_without_the_header_or_without_an_admin_key() {
        let both = access(&[], &["change"], "127.0.0.1:1");
        assert!(both.change(&headers(&[("x-api-key", "change")])).is_err());
        let none = access(&["look"], &[], "127.0.0.1:1");
        for key in ["look", ""] {
            assert!(none.change(&headers(&[("x-api-key", key), ("x-assay-console", "1")])).is_err());
        }
    }
}
