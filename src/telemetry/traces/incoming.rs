//! What a client says of the trace that its request is part of: `traceparent` and `tracestate`, by W3C Trace Context.

use super::{SpanContext, SpanId, TraceId};

/// A longer one may be left out, says the recommendation; nobody needs it to find the trace.
const STATE_BYTES_MAX: usize = 512;
const VERSION_BYTES: usize = 55;

/// The span of the client that a request belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    pub parent: SpanContext,
    /// Whether the client's side is recorded: then ours is, and else it is not.
    pub is_sampled: bool,
    /// Passed on as it came.
    pub state: String,
}

impl Incoming {
    /// `None` where the header is none of a version that can be read: the request begins a trace of its own.
    #[must_use]
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let text = traceparent.trim();
        let mut parts = text.split('-');
        let version: [u8; 1] = bytes(parts.next()?)?;
        let (trace, span, flags) = (bytes(parts.next()?)?, bytes(parts.next()?)?, bytes::<1>(parts.next()?)?);
        // Later versions may have more to say; 255 is none.
        let is_known = match version[0] {
            0 => text.len() == VERSION_BYTES,
            255 => false,
            _ => text.len() >= VERSION_BYTES,
        };
        if !is_known || trace == [0; 16] || span == [0; 8] {
            return None;
        }
        let state = tracestate.map(str::trim).filter(|state| state.len() <= STATE_BYTES_MAX).unwrap_or_default();
        Some(Self {
            parent: SpanContext { trace: TraceId(trace), span: SpanId(span) },
            is_sampled: flags[0] & 1 == 1,
            state: state.to_owned(),
        })
    }
}

/// Exactly so many bytes in lower-case hexadecimal.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            *byte = *byte << 4 | value;
        }
    }
    Some(out)
}
