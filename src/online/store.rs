//! Redis, and the only file that knows it.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, IntoConnectionInfo, RedisError, TlsCertificates, Value,
};
use tokio_rustls::rustls::crypto::ring;

use super::layout::{Names, Place};
use super::{OnlineError, OnlineSettings, scripts};

/// How long a feeder that says nothing is waited for.
pub(super) const LEASE: Duration = Duration::from_secs(10);
/// A feeder waits for an answer so long at most; who is asked by requests has a bound of his own.
const PATIENCE: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(2);
/// Keys that Redis looks at before it answers somebody else.
const SCANNED: usize = 1000;

/// What answers: a generation, complete up to an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub generation: u64,
    pub epoch: i64,
    pub published_at_us: i64,
    /// Older instants cannot be asked about.
    pub floor_us: i64,
}

/// A connection that many may use at the same time.
#[derive(Clone)]
pub(super) struct Link {
    connection: MultiplexedConnection,
    /// The address without a password, for people.
    pub(super) place: String,
    /// By what Redis knows each script, by discriminant.
    scripts: [String; Script::ALL.len()],
}

/// What Redis does in one step.
#[derive(Debug, Clone, Copy)]
enum Script {
    Lease,
    Depose,
    Release,
    Write,
    Mark,
    Read,
    Sweep,
    Remove,
}

impl Script {
    const ALL: [Self; 8] =
        [Self::Lease, Self::Depose, Self::Release, Self::Write, Self::Mark, Self::Read, Self::Sweep, Self::Remove];

    const fn source(self) -> &'static str {
        match self {
            Self::Lease => scripts::LEASE,
            Self::Depose => scripts::DEPOSE,
            Self::Release => scripts::RELEASE,
            Self::Write => scripts::WRITE,
            Self::Mark => scripts::MARK,
            Self::Read => scripts::READ,
            Self::Sweep => scripts::SWEEP,
            Self::Remove => scripts::REMOVE,
        }
    }
}

impl Link {
    /// # Errors
    /// When a setting cannot be used, or nobody answers.
    pub(super) async fn connect(settings: &OnlineSettings) -> Result<Self, OnlineError> {
        let url = settings.address()?;
        let place = url.to_string();
        let failed = |error: RedisError| OnlineError::Connect { place: place.clone(), cause: told(&error) };
        let mut info: ConnectionInfo = url.as_str().into_connection_info().map_err(failed)?;
        if let Some(password) = settings.password()? {
            let with_password = info.redis_settings().clone().set_password(password);
            info = info.set_redis_settings(with_password);
        }
        let client = if url.scheme() == "rediss" {
            // The process may have another provider already; any will do.
            let _ = ring::default_provider().install_default();
            Client::build_with_tls(info, authority(settings)?).map_err(failed)?
        } else {
            Client::open(info).map_err(failed)?
        };
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(PATIENCE));
        let connection = client.get_multiplexed_async_connection_with_config(&config).await.map_err(failed)?;
        let mut link = Self { connection, place: place.clone(), scripts: Default::default() };
        for script in Script::ALL {
            let mut load = redis::cmd("SCRIPT");
            load.arg("LOAD").arg(script.source());
            let sha = link.ask("loading a script", &load).await?;
            if let Some(known) = link.scripts.get_mut(script as usize) {
                *known = text(sha).ok_or_else(|| strange("loading a script"))?;
            }
        }
        Ok(link)
    }

    /// # Errors
    /// When this Redis may drop keys by itself.
    pub(super) async fn check_policy(&self) -> Result<(), OnlineError> {
        let mut info = redis::cmd("INFO");
        info.arg("memory");
        let told = text(self.ask("INFO", &info).await?).unwrap_or_default();
        let policy = told.lines().find_map(|line| line.strip_prefix("maxmemory_policy:")).map(str::trim);
        match policy {
            // Where it is not told, the operator is trusted.
            None | Some("noeviction") => Ok(()),
            Some(policy) => Err(OnlineError::Evicts { place: self.place.clone(), policy: policy.to_owned() }),
        }
    }

    /// Becomes the feeder, or stays it.
    ///
    /// # Errors
    /// When there is another one.
    pub(super) async fn lease(&self, names: &Names, feeder: &str) -> Result<(), OnlineError> {
        let mut call = self.script(Script::Lease, &[names.feeder()]);
        call.arg(feeder).arg(lease_ms());
        match list(self.ask("becoming the feeder", &call).await?).as_deref() {
            Some([]) => Ok(()),
            Some([holder, left]) => Err(OnlineError::Busy {
                holder: text(holder.clone()).unwrap_or_default(),
                expires_s: (number(left).unwrap_or(0) + 999) / 1000,
            }),
            _ => Err(strange("becoming the feeder")),
        }
    }

    /// Takes the place of whoever feeds.
    pub(super) async fn depose(&self, names: &Names, feeder: &str) -> Result<(), OnlineError> {
        let mut call = self.script(Script::Depose, &[names.feeder()]);
        call.arg(feeder).arg(lease_ms());
        self.ask("becoming the feeder", &call).await.map(|_| ())
    }

    pub(super) async fn release(&self, names: &Names, feeder: &str) -> Result<(), OnlineError> {
        let mut call = self.script(Script::Release, &[names.feeder()]);
        call.arg(feeder);
        self.ask("letting go", &call).await.map(|_| ())
    }

    /// Who feeds.
    pub(super) async fn feeder(&self, names: &Names) -> Result<Option<String>, OnlineError> {
        let mut get = redis::cmd("GET");
        get.arg(names.feeder());
        Ok(text(self.ask("reading who feeds", &get).await?))
    }

    /// What answers now; `None` when nothing was fed, or it was wiped.
    pub(super) async fn held(&self, names: &Names) -> Result<Option<Held>, OnlineError> {
        let mut get = redis::cmd("HMGET");
        get.arg(names.marker()).arg(&["generation", "epoch", "published_at_us", "floor_us"]);
        let told = list(self.ask("reading the marker", &get).await?);
        Ok(told.as_deref().and_then(marker))
    }

    /// A number that no generation of these definitions has had, as long as nobody wipes.
    pub(super) async fn next_generation(&self, names: &Names) -> Result<u64, OnlineError> {
        let mut incr = redis::cmd("INCR");
        incr.arg(names.generations());
        let told = self.ask("numbering a generation", &incr).await?;
        number(&told).and_then(|next| u64::try_from(next).ok()).ok_or_else(|| strange("numbering a generation"))
    }

    /// Writes states of an epoch, over older ones only. `complete` is the epoch of the marker. Gives how many were older.
    ///
    /// # Errors
    /// When Redis does not take them, or this is no feeder any more.
    pub(super) async fn write(
        &self,
        names: &Names,
        feeder: &str,
        of: Written,
        states: &[(Place, Vec<u8>)],
    ) -> Result<u64, OnlineError> {
        let keys = states.iter().map(|(place, _)| names.state(of.generation, *place));
        let keys: Vec<String> = std::iter::once(names.feeder()).chain(keys).collect();
        let mut call = self.script(Script::Write, &keys);
        call.arg(feeder).arg(lease_ms()).arg(of.epoch).arg(of.complete).arg(of.until_us);
        for (_, state) in states {
            call.arg(state.as_slice());
        }
        counted(&self.ask("writing states", &call).await?, "writing states")
    }

    /// # Errors
    /// When Redis does not take it, or this is no feeder any more.
    pub(super) async fn mark(&self, names: &Names, feeder: &str, held: Held) -> Result<(), OnlineError> {
        let mut call = self.script(Script::Mark, &[names.feeder(), names.marker()]);
        call.arg(feeder).arg(lease_ms());
        call.arg(held.generation).arg(held.epoch).arg(held.published_at_us).arg(held.floor_us);
        counted(&self.ask("moving the marker", &call).await?, "moving the marker").map(|_| ())
    }

    /// The marker, and the states of entities as of its epoch when it is of this generation; an empty one is a stranger's.
    ///
    /// # Errors
    /// In words, when there is no answer.
    pub(super) async fn read(
        &self,
        names: &Names,
        generation: u64,
        places: &[Place],
    ) -> Result<Option<(Held, Vec<Vec<u8>>)>, OnlineError> {
        let keys = places.iter().map(|place| names.state(generation, *place));
        let keys: Vec<String> = std::iter::once(names.marker()).chain(keys).collect();
        let mut call = self.script(Script::Read, &keys);
        call.arg(generation);
        let told = list(self.ask("asking", &call).await?).ok_or_else(|| strange("asking"))?;
        let Some(held) = marker(&told) else { return Ok(None) };
        let states = told.into_iter().skip(MARKER_FIELDS).map(|state| match state {
            Value::BulkString(state) => Ok(state),
            _ => Err(strange("asking")),
        });
        Ok(Some((held, states.collect::<Result<_, _>>()?)))
    }

    /// The keys that begin so, page by page.
    pub(super) async fn page(&self, begin: &str, cursor: &str) -> Result<(String, Vec<String>), OnlineError> {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(format!("{begin}*")).arg("COUNT").arg(SCANNED);
        let told = list(self.ask("listing keys", &scan).await?).ok_or_else(|| strange("listing keys"))?;
        let [next, keys] = <[Value; 2]>::try_from(told).map_err(|_| strange("listing keys"))?;
        let keys = list(keys).unwrap_or_default().into_iter().filter_map(text).collect();
        Ok((text(next).ok_or_else(|| strange("listing keys"))?, keys))
    }

    /// Removes those of these states of which nothing matters at `floor_us` any more.
    pub(super) async fn sweep(
        &self,
        names: &Names,
        feeder: &str,
        floor_us: i64,
        states: &[String],
    ) -> Result<u64, OnlineError> {
        let keys: Vec<String> = std::iter::once(names.feeder()).chain(states.iter().cloned()).collect();
        let mut call = self.script(Script::Sweep, &keys);
        call.arg(feeder).arg(lease_ms()).arg(floor_us);
        counted(&self.ask("removing states", &call).await?, "removing states")
    }

    /// Removes these; without any, the feeder only stays it.
    ///
    /// # Errors
    /// When Redis does not, or this is no feeder any more.
    pub(super) async fn remove(&self, names: &Names, feeder: &str, keys: &[String]) -> Result<u64, OnlineError> {
        let keys: Vec<String> = std::iter::once(names.feeder()).chain(keys.iter().cloned()).collect();
        let mut call = self.script(Script::Remove, &keys);
        call.arg(feeder).arg(lease_ms());
        counted(&self.ask("removing keys", &call).await?, "removing keys")
    }

    fn script(&self, script: Script, keys: &[String]) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.scripts.get(script as usize).map_or("", String::as_str)).arg(keys.len()).arg(keys);
        call
    }

    async fn ask(&self, action: &'static str, command: &Cmd) -> Result<Value, OnlineError> {
        let failed = |error: RedisError| OnlineError::Redis { action, cause: told(&error) };
        let value = self.connection.clone().send_packed_command(command).await.map_err(failed)?;
        value.extract_error().map_err(|error| OnlineError::Redis { action, cause: told(&error) })
    }
}

/// Of which epoch states are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    pub(super) generation: u64,
    pub(super) epoch: i64,
    /// The epoch that readers have, whose states are kept beside.
    pub(super) complete: i64,
    /// From here on nothing of them matters.
    pub(super) until_us: i64,
}

const MARKER_FIELDS: usize = 4;

fn marker(told: &[Value]) -> Option<Held> {
    let [generation, epoch, published_at_us, floor_us] = told.first_chunk::<MARKER_FIELDS>()?;
    Some(Held {
        generation: u64::try_from(number(generation)?).ok()?,
        epoch: number(epoch)?,
        published_at_us: number(published_at_us)?,
        floor_us: number(floor_us)?,
    })
}

fn lease_ms() -> u64 {
    u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX)
}

fn authority(settings: &OnlineSettings) -> Result<TlsCertificates, OnlineError> {
    let path = &settings.ca_file;
    let root_cert = if path.as_os_str().is_empty() {
        None
    } else {
        let failed = |cause| OnlineError::Setting { key: "ca_file", cause: format!("{}: {cause}", path.display()) };
        Some(std::fs::read(path).map_err(failed)?)
    };
    Ok(TlsCertificates { client_tls: None, root_cert })
}

/// An error in a line, for people.
fn told(error: &RedisError) -> String {
    error.to_string().replace(['\r', '\n'], " ")
}

fn strange(action: &'static str) -> OnlineError {
    OnlineError::Redis { action, cause: "the answer is not what this command gives".to_owned() }
}

fn counted(told: &Value, action: &'static str) -> Result<u64, OnlineError> {
    match number(told) {
        Some(-1) => Err(OnlineError::Fenced),
        Some(count) => u64::try_from(count).map_err(|_| strange(action)),
        None => Err(strange(action)),
    }
}

fn list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::VerbatimString { text, .. } => Some(text),
        _ => None,
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    }
}
