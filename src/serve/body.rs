//! Bodies of requests: read within a limit, and cut into items without being parsed twice.

use std::future::poll_fn;
use std::pin::pin;

use axum::body::HttpBody;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};

use super::Problem;

/// How the transactions of a body are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyKind {
    Json,
    Lines,
    Arrow,
}

pub(super) const ARROW: &str = "application/vnd.apache.arrow.stream";
pub(super) const LINES: &str = "application/x-ndjson";

impl BodyKind {
    const NAMES: [(&str, Self); 5] = [
        ("application/json", Self::Json),
        (LINES, Self::Lines),
        ("application/jsonl", Self::Lines),
        ("application/ndjson", Self::Lines),
        (ARROW, Self::Arrow),
    ];

    /// What the client says that it sends; JSON where it says nothing.
    pub(super) fn of(headers: &HeaderMap, taken: &[Self]) -> Result<Self, Problem> {
        let text = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
        let kind = match text.map(|text| text.split(';').next().unwrap_or_default().trim()) {
            None => Some(Self::Json),
            Some(essence) => {
                Self::NAMES.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(essence)).map(|(_, kind)| kind)
            }
        };
        kind.filter(|kind| taken.contains(kind)).ok_or_else(|| {
            let names: Vec<&str> = taken.iter().map(|kind| kind.name()).collect();
            let detail = format!("the content type is not taken here; send {}", names.join(" or "));
            Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Lines => LINES,
            Self::Arrow => ARROW,
        }
    }
}

/// The whole body, refused as soon as it is larger than `bytes_max`.
pub(super) async fn read<B: HttpBody<Data = Bytes>>(body: B, bytes_max: usize) -> Result<Bytes, Problem> {
    let mut body = pin!(body);
    let mut whole = Bytes::new();
    let mut parts = BytesMut::new();
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(0).min(bytes_max);
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let cut_off = |_| Problem::new(StatusCode::BAD_REQUEST, "the body ended before it was whole");
        // Trailers say nothing of a transaction.
        let Ok(part) = frame.map_err(cut_off)?.into_data() else { continue };
        if whole.len() + parts.len() + part.len() > bytes_max {
            let detail = format!("a body may have {bytes_max} bytes at most");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        // What comes in one piece is not copied.
        if whole.is_empty() && parts.is_empty() {
            whole = part;
        } else {
            if parts.is_empty() {
                // Memory that a client promises to fill is not touched before it does.
                parts.reserve(declared);
            }
            parts.extend_from_slice(&std::mem::take(&mut whole));
            parts.extend_from_slice(&part);
        }
    }
    Ok(if parts.is_empty() { whole } else { parts.freeze() })
}

/// Cuts a JSON array into its elements. What they are is not looked at, only where they end.
///
/// # Errors
/// In words, when the text is no array.
pub(super) fn elements(text: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut at = skip_space(text, 0);
    if text.get(at) != Some(&b'[') {
        return Err(format!("byte {at}: expected an array of transactions"));
    }
    at = skip_space(text, at + 1);
    let mut found = Vec::new();
    if text.get(at) == Some(&b']') {
        at += 1;
    } else {
        loop {
            let end = element_end(text, at)?;
            if end == at {
                return Err(format!("byte {at}: expected a transaction"));
            }
            found.push(text.get(at..end).unwrap_or_default());
            at = skip_space(text, end);
            match text.get(at) {
                Some(b',') => at = skip_space(text, at + 1),
                Some(b']') => {
                    at += 1;
                    break;
                }
                Some(_) => return Err(format!("byte {at}: expected `,` or `]`")),
                None => return Err("the array does not end".to_owned()),
            }
        }
    }
    let rest = skip_space(text, at);
    if rest < text.len() { Err(format!("byte {rest}: more than one array")) } else { Ok(found) }
}

/// The lines that are not empty.
pub(super) fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).collect()
}

fn skip_space(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

/// Where the value that begins at `from` ends: behind its last bracket or quote, or at the next separator.
fn element_end(text: &[u8], from: usize) -> Result<usize, String> {
    let mut depth = 0_usize;
    let mut at = from;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at = string_end(text, at)?;
                if depth == 0 {
                    return Ok(at);
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    return Ok(at + 1);
                }
            }
            b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => return Ok(at),
            _ => {}
        }
        at += 1;
    }
    Err("the array does not end".to_owned())
}

fn string_end(text: &[u8], from: usize) -> Result<usize, String> {
    let mut at = from + 1;
    loop {
        match text.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            None => return Err(format!("byte {from}: the string does not end")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i32>().prop_map(Value::from),
            "[\\[\\]{},\"\\\\ a-cü]{0,8}".prop_map(Value::String),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::vec(("[a\"\\]]{0,3}", inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_array_is_cut_where_its_elements_end(items in prop::collection::vec(json(), 0..6), pretty in any::<bool>()) {
            let all = Value::Array(items.clone());
            let text = if pretty { serde_json::to_string_pretty(&all) } else { serde_json::to_string(&all) }.unwrap();
            let cut = elements(text.as_bytes()).unwrap();
            let parsed: Vec<Value> = cut.iter().map(|part| serde_json::from_slice(part).unwrap()).collect();
            prop_assert_eq!(parsed, items);
        }

        #[test]
        fn any_bytes_are_cut_or_refused(text in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(parts) = elements(&text) {
                prop_assert!(parts.iter().all(|part| !part.is_empty()));
            }
        }
    }

    #[test]
    fn what_is_no_array_is_told() {
        for text in ["", "{}", "[", "[1", "[1,", "[1,]", "[1 2]", "[1] [2]", "[\"a]", "[,1]"] {
            assert!(elements(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(lines(b"{\"a\":1}\r\n\n {\"b\":2} \n"), [b"{\"a\":1}", b"{\"b\":2}"]);
    }
}
