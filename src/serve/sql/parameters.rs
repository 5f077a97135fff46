//! What a client may SET and SHOW. Most of it is told back and changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::failure::{Failure, state};
use crate::domain::Layer;

/// Version of PostgreSQL whose catalog is imitated.
pub(in crate::serve) const SERVER_VERSION: &str = "16.6";

/// The settings of a connection.
#[derive(Debug, Clone)]
pub(in crate::serve) struct Parameters {
    values: BTreeMap<&'static str, String>,
    user: String,
}

enum Kind {
    /// Any value; nothing follows from it.
    Free,
    /// Only these; the first is what it says, whichever of them was set.
    Only(&'static [&'static str]),
    /// Cannot be set.
    Fixed,
}

use Kind::{Fixed, Free, Only};

/// Name as PostgreSQL shows it, default, and what may be set.
#[rustfmt::skip]
const KNOWN: &[(&str, &str, Kind)] = &[
    ("application_name", "", Free),
    ("backslash_quote", "safe_encoding", Free),
    ("bytea_output", "hex", Only(&["hex"])),
    ("client_encoding", "UTF8", Only(&["UTF8", "UTF-8", "UNICODE"])),
    ("client_min_messages", "notice", Free),
    ("DateStyle", "ISO, MDY", Only(&["ISO, MDY", "ISO", "ISO, DMY", "ISO, YMD", "ISO,MDY", "ISO,DMY", "ISO,YMD"])),
    ("default_transaction_isolation", "repeatable read", Free),
    ("default_transaction_read_only", "on", Only(&["on", "true", "1", "yes"])),
    ("enable_seqscan", "on", Free),
    ("extra_float_digits", "1", Free),
    ("geqo", "on", Free),
    ("idle_in_transaction_session_timeout", "0", Free),
    ("idle_session_timeout", "0", Free),
    ("integer_datetimes", "on", Fixed),
    ("IntervalStyle", "postgres", Only(&["postgres"])),
    ("is_superuser", "off", Fixed),
    ("in_hot_standby", "on", Fixed),
    ("jit", "off", Free),
    ("lc_collate", "C", Fixed),
    ("lc_ctype", "C", Fixed),
    ("lc_messages", "C", Free),
    ("lc_monetary", "C", Free),
    ("lc_numeric", "C", Free),
    ("lc_time", "C", Free),
    ("lock_timeout", "0", Free),
    ("max_identifier_length", "63", Fixed),
    ("max_index_keys", "32", Fixed),
    ("quote_all_identifiers", "off", Free),
    ("row_security", "on", Free),
    ("scram_iterations", "4096", Fixed),
    ("search_path", "silver", Free),
    ("server_encoding", "UTF8", Fixed),
    ("server_version", SERVER_VERSION, Fixed),
    ("server_version_num", "160006", Fixed),
    ("ssl_renegotiation_limit", "0", Free),
    ("standard_conforming_strings", "on", Only(&["on", "true", "1", "yes"])),
    ("statement_timeout", "0", Free),
    ("synchronize_seqscans", "on", Free),
    ("TimeZone", "UTC", Only(&["UTC", "Etc/UTC", "GMT", "Etc/GMT", "Z", "Zulu", "Universal", "0", "+00:00", "DEFAULT", "LOCAL"])),
    ("transaction_deferrable", "off", Free),
    ("transaction_isolation", "repeatable read", Free),
    ("transaction_read_only", "on", Only(&["on", "true", "1", "yes"])),
    ("work_mem", "4MB", Free),
];

/// Those that a client is told of at its start and when they change.
const REPORTED: &[&str] = &[
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "scram_iterations",
    "search_path",
    "server_encoding",
    "server_version",
    "standard_conforming_strings",
    "TimeZone",
];

impl Parameters {
    pub fn new(user: &str, statement_timeout_ms: u64) -> Self {
        let mut values: BTreeMap<&'static str, String> =
            KNOWN.iter().map(|(name, value, _)| (*name, (*value).to_owned())).collect();
        values.insert("statement_timeout", in_units(statement_timeout_ms));
        Self { values, user: user.to_owned() }
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    /// The value of a setting, whatever the case of its name.
    pub fn get(&self, name: &str) -> Result<&str, Failure> {
        if name.eq_ignore_ascii_case("session_authorization") || name.eq_ignore_ascii_case("role") {
            return Ok(&self.user);
        }
        let (name, _) = known(name)?;
        Ok(self.values.get(name).map_or("", String::as_str))
    }

    /// All settings by name.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// Sets one; `None` is its default. Gives name and value when the client has to be told.
    pub fn set(&mut self, name: &str, value: Option<&str>) -> Result<Option<(String, String)>, Failure> {
        let (name, kind) = known(name)?;
        let default = KNOWN.iter().find(|(known, _, _)| *known == name).map_or("", |(_, value, _)| *value);
        let wanted = match (value, kind) {
            (None, _) => default.to_owned(),
            (Some(_), Fixed) => {
                return Err(Failure::new(state::CANT_CHANGE, format!("parameter \"{name}\" cannot be changed")));
            }
            (Some(value), Only(accepted)) => {
                if !accepted.iter().any(|known| known.eq_ignore_ascii_case(value)) {
                    let only = accepted.first().copied().unwrap_or_default();
                    let told = format!("parameter \"{name}\" can only be {only} here, not \"{value}\"");
                    let hint = match name {
                        "TimeZone" => "instants are shown in UTC; convert them in the query or in the client",
                        "default_transaction_read_only" | "transaction_read_only" => {
                            "the lake is read here, not changed"
                        }
                        _ => "",
                    };
                    return Err(Failure::new(state::INVALID_VALUE, told).with_hint(hint));
                }
                accepted.first().map_or(value, |first| *first).to_owned()
            }
            (Some(value), Free) => {
                if name == "statement_timeout" {
                    in_units(milliseconds(value)?)
                } else {
                    value.to_owned()
                }
            }
        };
        self.values.insert(name, wanted.clone());
        Ok(REPORTED.contains(&name).then(|| (name.to_owned(), wanted)))
    }

    /// What a client is told at its start.
    pub fn reported(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all().filter(|(name, _)| REPORTED.contains(name))
    }

    /// The layer in which a table without one is looked for: the first of the search path that is one.
    pub fn default_layer(&self) -> &'static str {
        let path = self.values.get("search_path").map_or("", String::as_str);
        let mut wanted = path.split(',').map(|part| part.trim().trim_matches(['"', '\'']));
        let layer = wanted.find_map(|part| Layer::ALL.into_iter().find(|layer| layer.as_str() == part));
        layer.unwrap_or(Layer::Silver).as_str()
    }

    /// How long a statement may take; the client may ask for less than the setting, not for more.
    pub fn statement_timeout(&self, most_ms: u64) -> Option<Duration> {
        let own = self.values.get("statement_timeout").and_then(|value| milliseconds(value).ok()).unwrap_or(0);
        match (own, most_ms) {
            (0, 0) => None,
            (0, ms) | (ms, 0) => Some(Duration::from_millis(ms)),
            (own, most) => Some(Duration::from_millis(own.min(most))),
        }
    }
}

fn known(name: &str) -> Result<(&'static str, &'static Kind), Failure> {
    let found = KNOWN.iter().find(|(known, _, _)| known.eq_ignore_ascii_case(name));
    let (name, _, kind) = found.ok_or_else(|| {
        let told = format!("unrecognized configuration parameter \"{name}\"");
        let hint = crate::domain::did_you_mean(&name.to_lowercase(), KNOWN.iter().map(|(known, _, _)| *known));
        Failure::new(state::UNDEFINED_OBJECT, told).with_hint(hint.trim_matches([' ', ';', ',']))
    })?;
    Ok((name, kind))
}

/// `5000`, `5000ms`, `5s`, `1min`, `1h`.
fn milliseconds(text: &str) -> Result<u64, Failure> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => 0,
    };
    match number.parse::<u64>().ok().filter(|_| unit > 0).and_then(|number| number.checked_mul(unit)) {
        Some(ms) => Ok(ms),
        None => Err(Failure::new(
            state::INVALID_VALUE,
            format!("invalid value for parameter \"statement_timeout\": \"{text}\""),
        )
        .with_hint("valid units are ms, s, min, h and d")),
    }
}

fn in_units(ms: u64) -> String {
    match ms {
        0 => "0".to_owned(),
        ms if ms % 60_000 == 0 => format!("{}min", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_results_is_refused_rather_than_ignored() {
        let mut parameters = Parameters::new("ana", 60_000);
        for (name, value, code) in [
            ("timezone", "Europe/Berlin", "22023"),
            ("client_encoding", "LATIN1", "22023"),
            ("default_transaction_read_only", "off", "22023"),
            ("server_version", "9", "55P02"),
            ("no_such_thing", "1", "42704"),
        ] {
            assert_eq!(parameters.set(name, Some(value)).unwrap_err().code(), code, "{name}");
        }
        assert_eq!(parameters.set("TIMEZONE", Some("etc/utc")).unwrap(), Some(("TimeZone".into(), "UTC".into())));
        assert_eq!(parameters.set("geqo", Some("off")).unwrap(), None);
        assert_eq!(parameters.get("GEQO").unwrap(), "off");
    }

    #[test]
    fn a_timeout_can_be_shortened_and_not_lengthened() {
        let mut parameters = Parameters::new("ana", 60_000);
        let ms = |parameters: &Parameters, most| parameters.statement_timeout(most).map(|t| t.as_millis());
        assert_eq!(ms(&parameters, 60_000), Some(60_000));
        parameters.set("statement_timeout", Some("2s")).unwrap();
        assert_eq!((ms(&parameters, 60_000), ms(&parameters, 0)), (Some(2000), Some(2000)));
        parameters.set("statement_timeout", Some("2h")).unwrap();
        assert_eq!(ms(&parameters, 60_000), Some(60_000));
        parameters.set("statement_timeout", Some("0")).unwrap();
        assert_eq!((ms(&parameters, 60_000), ms(&parameters, 0)), (Some(60_000), None));
        assert!(parameters.set("statement_timeout", Some("soon")).is_err());
    }

    #[test]
    fn the_search_path_names_the_layer() {
        let mut parameters = Parameters::new("ana", 0);
        assert_eq!(parameters.default_layer(), "silver");
        for (path, layer) in [("\"$user\", public", "silver"), ("public, gold, ops", "gold"), ("'ops'", "ops")] {
            parameters.set("search_path", Some(path)).unwrap();
            assert_eq!(parameters.default_layer(), layer);
        }
    }
}
