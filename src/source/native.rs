//! What librdkafka offers and rdkafka does not wrap: a queue of its own for messages, cached watermarks, the mock cluster's knobs.
//!
//! The only unsafe code of the source. Every function takes the owner of what it points to, so nothing outlives it.
#![allow(unsafe_code, reason = "librdkafka's queues have no safe wrapper, and halve the cost of a message")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::time::{Duration, Instant};

use rdkafka::bindings as ffi;
use rdkafka::client::{Client, ClientContext, NativeClient};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::RDKafkaRespErr;

use crate::domain::Header;

/// Messages taken from the queue at once; also how far a batch may exceed its bounds.
const CHUNK: usize = 1024;

/// A queue of fetched messages beside the client's own, so that rebalances and errors never mix with the batches.
pub(super) struct DataQueue {
    queue: NonNull<ffi::rd_kafka_queue_t>,
    client: *mut ffi::rd_kafka_t,
}

// SAFETY: librdkafka's queues and clients are thread-safe; the pointers are only passed to it.
unsafe impl Send for DataQueue {}
// SAFETY: as above.
unsafe impl Sync for DataQueue {}

/// What an [`Entry`] holds.
pub(super) enum Item<'a> {
    Message(Fetched<'a>),
    Error { topic: &'a str, partition: i32, offset: i64, code: RDKafkaErrorCode, text: String },
}

pub(super) struct Fetched<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: Option<i64>,
    pub key: Option<&'a [u8]>,
    pub payload: Option<&'a [u8]>,
    pub headers: Vec<Header>,
}

impl DataQueue {
    pub(super) fn new(client: &NativeClient) -> Option<Self> {
        // SAFETY: the client is alive for the call; the new queue is ours to destroy.
        let queue = unsafe { ffi::rd_kafka_queue_new(client.ptr()) };
        NonNull::new(queue).map(|queue| Self { queue, client: client.ptr() })
    }

    /// Sends what is fetched of a partition, and what waits already, to this queue.
    ///
    /// Idempotent. librdkafka forgets it when it stops a partition, so it is repeated now and then.
    pub(super) fn attach(&self, client: &NativeClient, topic: &str, partition: i32) {
        let Ok(topic) = CString::new(topic) else { return };
        if client.ptr() != self.client {
            return;
        }
        // SAFETY: client and queue are alive; the partition's handle is destroyed here, the forwarding holds its own reference.
        unsafe {
            let source = ffi::rd_kafka_queue_get_partition(client.ptr(), topic.as_ptr(), partition);
            if !source.is_null() {
                ffi::rd_kafka_queue_forward(source, self.queue.as_ptr());
                ffi::rd_kafka_queue_destroy(source);
            }
        }
    }

    /// Sends what is fetched of a partition to the client's own queue, as librdkafka does when it was not told otherwise.
    #[cfg(test)]
    pub(super) fn detach(client: &NativeClient, topic: &str, partition: i32) {
        let topic = CString::new(topic).unwrap();
        // SAFETY: the client is alive; both handles are destroyed here, the forwarding holds its own reference.
        unsafe {
            let source = ffi::rd_kafka_queue_get_partition(client.ptr(), topic.as_ptr(), partition);
            let own = ffi::rd_kafka_queue_get_consumer(client.ptr());
            ffi::rd_kafka_queue_forward(source, own);
            ffi::rd_kafka_queue_destroy(own);
            ffi::rd_kafka_queue_destroy(source);
        }
    }

    /// Takes up to 1,024 entries, waiting at most `wait` for the first and the following ones.
    ///
    /// One by one: `rd_kafka_consume_batch_queue` counts the end of a partition as a message of it, and when a rebalance
    /// pauses and resumes the partition there, the message that came next is skipped without a word (2.12.1).
    pub(super) fn take(&self, client: &NativeClient, wait: Duration) -> Vec<Entry> {
        if client.ptr() != self.client {
            return Vec::new();
        }
        let take = |wait: Duration| {
            let wait_ms = c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX);
            // SAFETY: the borrowed client is the queue's own, so both are alive; what is taken is ours.
            NonNull::new(unsafe { ffi::rd_kafka_consume_queue(self.queue.as_ptr(), wait_ms) }).map(Entry)
        };
        #[allow(clippy::disallowed_methods, reason = "a deadline for the network, not data")]
        let started = Instant::now();
        // The clock is only asked when nothing is there.
        let next = || take(Duration::ZERO).or_else(|| take(wait.checked_sub(started.elapsed())?));
        std::iter::repeat_with(next).map_while(|entry| entry).take(CHUNK).collect()
    }

    pub(super) const fn chunk() -> usize {
        CHUNK
    }
}

impl Drop for DataQueue {
    fn drop(&mut self) {
        // SAFETY: made by rd_kafka_queue_new and destroyed once; the source drops it before its client.
        unsafe { ffi::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// One entry of the queue.
pub(super) struct Entry(NonNull<ffi::rd_kafka_message_t>);

impl Entry {
    pub(super) fn item(&self) -> Item<'_> {
        // SAFETY: the message is ours until it is dropped, and so are all bytes that it points to.
        unsafe {
            let message = self.0.as_ref();
            let topic = text(if message.rkt.is_null() { ptr::null() } else { ffi::rd_kafka_topic_name(message.rkt) });
            if message.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                let reason = text(ffi::rd_kafka_message_errstr(self.0.as_ptr())).to_owned();
                return Item::Error {
                    topic,
                    partition: message.partition,
                    offset: message.offset,
                    code: message.err.into(),
                    text: reason,
                };
            }
            let timestamp_ms = ffi::rd_kafka_message_timestamp(self.0.as_ptr(), ptr::null_mut());
            Item::Message(Fetched {
                topic,
                partition: message.partition,
                offset: message.offset,
                timestamp_ms: (timestamp_ms >= 0).then_some(timestamp_ms),
                key: bytes(message.key, message.key_len),
                payload: bytes(message.payload, message.len),
                headers: headers(self.0.as_ptr()),
            })
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // SAFETY: handed to us by the queue and destroyed once.
        unsafe { ffi::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

/// The newest end offset that a fetch response told, without asking the broker; `None` before the first one.
pub(super) fn cached_high_watermark(client: &NativeClient, topic: &str, partition: i32) -> Option<i64> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1_i64, -1_i64);
    // SAFETY: the client is alive, the out-pointers are ours.
    let code = unsafe {
        ffi::rd_kafka_get_watermark_offsets(client.ptr(), topic.as_ptr(), partition, &raw mut low, &raw mut high)
    };
    (code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
}

/// The mock cluster that a client with `test.mock.num.brokers` carries.
pub(super) struct MockCluster<'a> {
    cluster: NonNull<ffi::rd_kafka_mock_cluster_t>,
    _client: &'a NativeClient,
}

impl<'a> MockCluster<'a> {
    pub(super) fn of<C: ClientContext>(client: &'a Client<C>) -> Option<Self> {
        let client = client.native_client();
        // SAFETY: the client is alive; the cluster lives as long as it does, which the borrow enforces.
        let cluster = unsafe { ffi::rd_kafka_handle_mock_cluster(client.ptr()) };
        NonNull::new(cluster).map(|cluster| Self { cluster, _client: client })
    }

    pub(super) fn bootstrap_servers(&self) -> String {
        // SAFETY: the cluster is alive and owns the text.
        unsafe { text(ffi::rd_kafka_mock_cluster_bootstraps(self.cluster.as_ptr())) }.to_owned()
    }

    pub(super) fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), RDKafkaErrorCode> {
        let topic = CString::new(topic).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
        // SAFETY: the cluster is alive; it copies the name.
        result(unsafe { ffi::rd_kafka_mock_topic_create(self.cluster.as_ptr(), topic.as_ptr(), partitions, 1) })
    }

    /// How long a new group waits for more members; three seconds by default.
    pub(super) fn set_rebalance_delay(&self, delay_ms: i32) {
        // SAFETY: the cluster is alive.
        unsafe { ffi::rd_kafka_mock_group_initial_rebalance_delay_ms(self.cluster.as_ptr(), delay_ms) }
    }

    pub(super) fn set_up(&self, up: bool) -> Result<(), RDKafkaErrorCode> {
        const ALL_BROKERS: i32 = -1;
        // SAFETY: the cluster is alive.
        result(unsafe {
            if up {
                ffi::rd_kafka_mock_broker_set_up(self.cluster.as_ptr(), ALL_BROKERS)
            } else {
                ffi::rd_kafka_mock_broker_set_down(self.cluster.as_ptr(), ALL_BROKERS)
            }
        })
    }
}

fn result(code: RDKafkaRespErr) -> Result<(), RDKafkaErrorCode> {
    if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(code.into()) }
}

/// SAFETY: `text` is null or a C string that lives as long as the caller says.
unsafe fn text<'a>(text: *const c_char) -> &'a str {
    if text.is_null() {
        return "";
    }
    // SAFETY: by contract.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap_or_default()
}

/// SAFETY: `start` is null or points to `len` bytes that live as long as the caller says.
unsafe fn bytes<'a>(start: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: by contract.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast::<u8>(), len) })
}

/// SAFETY: `message` is alive.
unsafe fn headers(message: *const ffi::rd_kafka_message_t) -> Vec<Header> {
    let mut list = ptr::null_mut();
    // SAFETY: the message is alive and keeps the list; null is left there when it has none.
    let code = unsafe { ffi::rd_kafka_message_headers(message, &raw mut list) };
    if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR || list.is_null() {
        return Vec::new();
    }
    let mut headers = Vec::new();
    loop {
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0_usize);
        // SAFETY: the list is alive, an index past its end is answered with an error.
        let code =
            unsafe { ffi::rd_kafka_header_get_all(list, headers.len(), &raw mut name, &raw mut value, &raw mut size) };
        if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return headers;
        }
        // SAFETY: name and value belong to the list.
        let (name, value) = unsafe { (text(name).to_owned(), bytes(value, size).map(<[u8]>::to_vec)) };
        headers.push(Header { name, value });
    }
}
