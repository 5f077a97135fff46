//! An object store in memory that fails on command, at locations `fault://NAME/lake`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, Once, PoisonError};

use async_trait::async_trait;
use deltalake_core::DeltaResult;
use deltalake_core::logstore::{
    LogStore, LogStoreFactory, ObjectStoreFactory, ObjectStoreRef, StorageConfig, default_logstore, logstore_factories,
    object_store_factories,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use url::Url;

static STORES: LazyLock<Mutex<BTreeMap<String, Arc<FaultStore>>>> = LazyLock::new(Mutex::default);
static REGISTER: Once = Once::new();

/// What the store does with operations to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    Fine,
    /// So many puts succeed, then nothing does any more: the process is dead. `lands`: the put at which it dies is stored.
    Death {
        puts: u64,
        lands: bool,
    },
    /// So many puts succeed, the next `operations` of any kind fail, then all is well. `lands`: failing puts are stored.
    Storm {
        puts: u64,
        operations: u64,
        lands: bool,
    },
}

/// Objects in memory behind a switch.
#[derive(Debug)]
pub struct FaultStore {
    inner: InMemory,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    weather: Weather,
    puts: u64,
    failed: u64,
}

enum Fate {
    Served,
    Failed,
    /// Done, and reported as failed.
    Landed,
}

impl FaultStore {
    /// The store of this name, made when there is none.
    pub fn named(name: &str) -> Arc<Self> {
        REGISTER.call_once(|| {
            if let Ok(scheme) = Url::parse("fault://") {
                object_store_factories().insert(scheme.clone(), Arc::new(Factory));
                logstore_factories().insert(scheme, Arc::new(Factory));
            }
        });
        let mut stores = locked(&STORES);
        let fresh =
            || Self { inner: InMemory::new(), state: Mutex::new(State { weather: Weather::Fine, puts: 0, failed: 0 }) };
        Arc::clone(stores.entry(name.to_owned()).or_insert_with(|| Arc::new(fresh())))
    }

    /// From now on; counts begin anew.
    pub fn set(&self, weather: Weather) {
        *locked(&self.state) = State { weather, puts: 0, failed: 0 };
    }

    /// Puts that were served since the weather was set.
    pub fn puts(&self) -> u64 {
        locked(&self.state).puts
    }

    /// Operations that failed since the weather was set.
    pub fn failed(&self) -> u64 {
        locked(&self.state).failed
    }

    fn fate(&self, is_put: bool) -> Fate {
        let mut state = locked(&self.state);
        let fate = match state.weather {
            Weather::Fine => Fate::Served,
            Weather::Death { puts, lands } => match (state.puts >= puts, is_put, state.failed) {
                (true, true, 0) if lands => Fate::Landed,
                // Reads before the fatal put are those of a living process.
                (true, true, _) => Fate::Failed,
                (true, false, 1..) => Fate::Failed,
                _ => Fate::Served,
            },
            Weather::Storm { puts, operations, lands } => {
                if state.puts < puts || state.failed >= operations || (state.failed == 0 && !is_put) {
                    Fate::Served
                } else if lands && is_put {
                    Fate::Landed
                } else {
                    Fate::Failed
                }
            }
        };
        match fate {
            Fate::Served => state.puts += u64::from(is_put),
            Fate::Failed | Fate::Landed => state.failed += 1,
        }
        fate
    }

    fn read(&self) -> Result<()> {
        match self.fate(false) {
            Fate::Served | Fate::Landed => Ok(()),
            Fate::Failed => Err(broken()),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn broken() -> object_store::Error {
    object_store::Error::Generic { store: "fault", source: "the store is away".into() }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fault")
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match self.fate(true) {
            Fate::Served => self.inner.put_opts(location, payload, options).await,
            Fate::Failed => Err(broken()),
            Fate::Landed => {
                self.inner.put_opts(location, payload, options).await?;
                Err(broken())
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.read()?;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.read()?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.read() {
            Ok(()) => self.inner.delete_stream(locations),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.read() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.read()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.read()?;
        self.inner.copy_opts(from, to, options).await
    }
}

struct Factory;

impl ObjectStoreFactory for Factory {
    fn parse_url_opts(&self, url: &Url, _: &StorageConfig) -> DeltaResult<(ObjectStoreRef, Path)> {
        Ok((FaultStore::named(url.host_str().unwrap_or_default()), Path::from(url.path())))
    }
}

impl LogStoreFactory for Factory {
    fn with_options(
        &self,
        prefixed_store: ObjectStoreRef,
        root_store: ObjectStoreRef,
        location: &Url,
        options: &StorageConfig,
    ) -> DeltaResult<Arc<dyn LogStore>> {
        Ok(default_logstore(prefixed_store, root_store, location, options))
    }
}
