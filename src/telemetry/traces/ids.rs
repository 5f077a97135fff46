use std::fmt;
use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering};

use siphasher::sip::SipHasher13;
use siphasher::sip128::{Hasher128, SipHasher13 as SipHasher128};

/// Names the mode of BLAKE3 in which the ids of epochs are derived. To change it is to lead every link astray.
const EPOCH_CONTEXT: &str = "assay 2026-11 trace of an epoch";

/// What identifies a trace: 16 bytes, shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub [u8; 16]);

/// What identifies a span in its trace: 8 bytes, shown as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub [u8; 8]);

/// A span, wherever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanContext {
    pub trace: TraceId,
    pub span: SpanId,
}

/// Finds the trace of each epoch of a lake, in whatever process.
///
/// BLAKE3 in its mode for deriving keys, with the context `assay 2026-11 trace of an epoch`, over 24 bytes: the two numbers
/// of `key` in the lake's `_assay/lake.json`, then the epoch, each as 8 bytes, the least significant first. The first 16
/// bytes are the trace, the next 8 are its root.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EpochTraces([u64; 2]);

impl EpochTraces {
    /// `key` is that of the lake's identifier hashes.
    #[must_use]
    pub fn of_lake(key: [u64; 2]) -> Self {
        Self(key)
    }

    /// The root of the trace of an epoch.
    #[must_use]
    pub fn of_epoch(self, epoch: i64) -> SpanContext {
        let mut hasher = blake3::Hasher::new_derive_key(EPOCH_CONTEXT);
        for word in [self.0[0], self.0[1], epoch.cast_unsigned()] {
            hasher.update(&word.to_le_bytes());
        }
        let (mut trace, mut span) = ([0; 16], [0; 8]);
        let mut derived = hasher.finalize_xof();
        derived.fill(&mut trace);
        derived.fill(&mut span);
        SpanContext { trace: TraceId(trace), span: SpanId(span) }
    }
}

/// The key is not shown: it keeps identifiers from being crafted.
impl fmt::Debug for EpochTraces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EpochTraces")
    }
}

/// New ids: hashes of a counter under a key that was drawn by chance, so that no two processes give the same.
pub(super) struct Ids {
    key: [u8; 16],
    given: AtomicU64,
}

impl Ids {
    pub fn new(key: [u8; 16]) -> Self {
        Self { key, given: AtomicU64::new(0) }
    }

    pub fn trace(&self) -> TraceId {
        let mut hasher = SipHasher128::new_with_key(&self.key);
        hasher.write_u64(self.next());
        TraceId(hasher.finish128().as_u128().to_be_bytes())
    }

    pub fn span(&self) -> SpanId {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write_u64(self.next());
        // Zero says that there is none.
        SpanId(hasher.finish().max(1).to_be_bytes())
    }

    fn next(&self) -> u64 {
        self.given.fetch_add(1, Ordering::Relaxed)
    }
}

fn hexadecimal(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(&self.0, f)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(&self.0, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
