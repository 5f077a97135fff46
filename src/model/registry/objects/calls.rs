//! Calls of an object store that may block, from any thread: they run on a thread of their own.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion, WriteMultipart,
};
use tokio::runtime::{Builder, Runtime};

/// Larger objects are put and read in parts of this size, so that each request ends within its time.
const PART_BYTES: usize = 8 << 20;
/// Requests that are under way at once.
const AT_ONCE: usize = 8;

/// An object as it stands there.
#[derive(Debug)]
pub struct Found {
    pub bytes: Vec<u8>,
    pub version: UpdateVersion,
}

#[derive(Debug)]
pub struct Calls {
    store: Arc<dyn ObjectStore>,
    once: Arc<dyn ObjectStore>,
    /// Of one thread. It is no other's: whoever blocks for an answer may be a thread of the runtime that would give it.
    runtime: Option<Runtime>,
}

impl Calls {
    pub fn new(store: Arc<dyn ObjectStore>, once: Arc<dyn ObjectStore>) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("assay-models").enable_all().build()?;
        Ok(Self { store, once, runtime: Some(runtime) })
    }

    fn run<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let ended = || Error::Generic { store: "registry", source: "its thread has ended".into() };
        let Some(runtime) = &self.runtime else { return Err(ended()) };
        let (answer, answered) = crossbeam_channel::bounded(1);
        runtime.spawn(async move {
            // Who asked waits for it.
            let _ = answer.send(call.await);
        });
        answered.recv().unwrap_or_else(|_| Err(ended()))
    }

    /// `None` when there is none; an error where there is no bucket.
    pub fn get(&self, name: &str) -> Result<Option<Found>, Error> {
        self.run(absent_is_none(get(Arc::clone(&self.store), Path::from(name), GetOptions::default())))
    }

    /// As [`Calls::get`], `NotModified` when its tag is this one, and an error after a while.
    pub fn look(&self, name: &str, tag: Option<String>, within: Duration) -> Result<Option<Found>, Error> {
        let options = GetOptions { if_none_match: tag, ..GetOptions::default() };
        let look = absent_is_none(get(Arc::clone(&self.store), Path::from(name), options));
        self.run(async move {
            tokio::time::timeout(within, look).await.unwrap_or_else(|_| {
                Err(Error::Generic {
                    store: "registry",
                    source: format!("no answer within {} s", within.as_secs()).into(),
                })
            })
        })
    }

    /// In their order.
    pub fn get_all(&self, names: &[String]) -> Vec<Result<Option<Found>, Error>> {
        let (store, paths) = (Arc::clone(&self.store), names.iter().map(|name| Path::from(name.as_str())));
        let paths: Vec<Path> = paths.collect();
        let all = async move {
            let calls =
                paths.into_iter().map(|path| absent_is_none(get(Arc::clone(&store), path, GetOptions::default())));
            Ok(futures::stream::iter(calls).buffered(AT_ONCE).collect::<Vec<_>>().await)
        };
        match self.run(all) {
            Ok(all) => all,
            Err(error) => vec![Err(error)],
        }
    }

    /// The folders at the root.
    pub fn folders(&self) -> Result<Vec<String>, Error> {
        let store = Arc::clone(&self.store);
        let found = self.run(async move { store.list_with_delimiter(None).await })?;
        Ok(found.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect())
    }

    /// The files in the folders of a folder: the names of both.
    pub fn list(&self, folder: &str) -> Result<Vec<(String, String)>, Error> {
        let (store, root) = (Arc::clone(&self.store), Path::from(folder));
        let below = root.clone();
        let found: Vec<_> = self.run(async move { store.list(Some(&below)).try_collect().await })?;
        let parts = found.iter().filter_map(|object| {
            let mut parts = object.location.prefix_match(&root)?;
            let (folder, file) = (parts.next()?, parts.next()?);
            parts.next().is_none().then(|| (folder.as_ref().to_owned(), file.as_ref().to_owned()))
        });
        Ok(parts.collect())
    }

    /// Puts what is not there yet; whether it was not. It is tried once.
    pub fn create(&self, name: &str, bytes: Vec<u8>) -> Result<bool, Error> {
        self.put_if(name, bytes, PutMode::Create)
    }

    /// Puts it in the place of this version; whether that stood there. It is tried once.
    pub fn replace(&self, name: &str, bytes: Vec<u8>, version: UpdateVersion) -> Result<bool, Error> {
        self.put_if(name, bytes, PutMode::Update(version))
    }

    fn put_if(&self, name: &str, bytes: Vec<u8>, mode: PutMode) -> Result<bool, Error> {
        let (store, path) = (Arc::clone(&self.once), Path::from(name));
        let options = PutOptions { mode, ..PutOptions::default() };
        match self.run(async move { store.put_opts(&path, bytes.into(), options).await }) {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Puts objects, whatever stands there. On an error, with the name of one that failed, any of them may be there.
    pub fn put_all(&self, files: Vec<(String, Vec<u8>)>) -> Result<(), (String, Error)> {
        let store = Arc::clone(&self.store);
        let all = async move {
            let puts = files.into_iter().map(|(name, bytes)| {
                let store = Arc::clone(&store);
                async move {
                    let put = put(store, Path::from(name.as_str()), bytes).await;
                    put.err().map(|error| (name, error))
                }
            });
            let mut failures = futures::stream::iter(puts).buffer_unordered(AT_ONCE).filter_map(std::future::ready);
            Ok(futures::StreamExt::next(&mut failures).await)
        };
        match self.run(all) {
            Ok(None) => Ok(()),
            Ok(Some(failure)) => Err(failure),
            Err(error) => Err((String::new(), error)),
        }
    }

    /// Lets others go first, longer with each try and never equally long.
    pub fn pause(&self, tried: u32) {
        let longest_ms = 10_u64 << tried.min(6);
        let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
        let pause = Duration::from_millis(longest_ms / 2 + random % (longest_ms / 2 + 1));
        let slept = self.run(async move {
            #[expect(
                clippy::disallowed_methods,
                reason = "the pause before a retry: nobody tells when others are done"
            )]
            tokio::time::sleep(pause).await;
            Ok(())
        });
        // Without its thread, the next call says so.
        let _ = slept;
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A thread of another runtime may drop it, which must not wait.
            runtime.shutdown_background();
        }
    }
}

/// A bucket that is not there is no empty one.
async fn absent_is_none(found: impl Future<Output = Result<Found, Error>>) -> Result<Option<Found>, Error> {
    match found.await {
        Ok(found) => Ok(Some(found)),
        Err(Error::NotFound { source, .. }) if !source.to_string().contains("NoSuchBucket") => Ok(None),
        Err(error) => Err(error),
    }
}

async fn get(store: Arc<dyn ObjectStore>, path: Path, options: GetOptions) -> Result<Found, Error> {
    let found = store.get_opts(&path, options).await?;
    let (e_tag, version, size) = (found.meta.e_tag.clone(), found.meta.version.clone(), found.meta.size);
    let version = UpdateVersion { e_tag, version };
    if size <= PART_BYTES as u64 {
        return Ok(Found { bytes: found.bytes().await?.to_vec(), version });
    }
    drop(found);
    let parts = (0..size).step_by(PART_BYTES).map(|from| {
        let (store, path) = (Arc::clone(&store), path.clone());
        async move { store.get_range(&path, from..size.min(from + PART_BYTES as u64)).await }
    });
    let mut parts = futures::stream::iter(parts).buffered(AT_ONCE);
    let mut bytes = Vec::new();
    while let Some(part) = parts.try_next().await? {
        bytes.extend_from_slice(&part);
    }
    Ok(Found { bytes, version })
}

async fn put(store: Arc<dyn ObjectStore>, path: Path, bytes: Vec<u8>) -> Result<(), Error> {
    if bytes.len() <= PART_BYTES {
        return store.put(&path, bytes.into()).await.map(|_| ());
    }
    let mut writer = WriteMultipart::new_with_chunk_size(store.put_multipart(&path).await?, PART_BYTES);
    for part in bytes.chunks(PART_BYTES) {
        writer.wait_for_capacity(AT_ONCE).await?;
        writer.write(part);
    }
    writer.finish().await.map(|_| ())
}
