//! The page: files that are part of the binary. All of it comes from here.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::super::{Problem, ServeState};

/// A file of the page.
struct Asset {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! asset {
    ($name:literal, $kind:expr) => {
        Asset { name: $name, kind: $kind, text: include_str!(concat!("page/", $name)) }
    };
}

static INDEX: Asset = asset!("index.html", HTML);
static ASSETS: [Asset; 16] = [
    asset!("style.css", "text/css; charset=utf-8"),
    asset!("icon.svg", "image/svg+xml"),
    asset!("app.js", SCRIPT),
    asset!("api.js", SCRIPT),
    asset!("dom.js", SCRIPT),
    asset!("format.js", SCRIPT),
    asset!("charts.js", SCRIPT),
    asset!("flow.js", SCRIPT),
    asset!("epochs.js", SCRIPT),
    asset!("transactions.js", SCRIPT),
    asset!("story.js", SCRIPT),
    asset!("rejects.js", SCRIPT),
    asset!("models.js", SCRIPT),
    asset!("drift.js", SCRIPT),
    asset!("sql.js", SCRIPT),
    asset!("metrics.js", SCRIPT),
];

/// Nothing may be loaded from, sent to, or shown within anything but this server.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";

pub(super) fn routes() -> Router<Arc<ServeState>> {
    Router::new().route("/console/page/{name}", get(file))
}

/// The page itself.
pub(in crate::serve) fn index(headers: &HeaderMap) -> Response {
    INDEX.answer(headers)
}

/// Whether a client wants to see a page: a browser says so, tools do not.
pub(in crate::serve) fn wants_page(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/html"))
}

async fn file(State(state): State<Arc<ServeState>>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    match ASSETS.iter().find(|asset| asset.name == name).filter(|_| state.console.is_some()) {
        Some(asset) => asset.answer(&headers),
        None => Problem::new(StatusCode::NOT_FOUND, "the page has no such file").into_response(),
    }
}

impl Asset {
    fn answer(&self, headers: &HeaderMap) -> Response {
        let tag = format!("\"{}\"", blake3::hash(self.text.as_bytes()).to_hex().get(..16).unwrap_or_default());
        let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        let is_known = known.is_some_and(|known| known.split(',').any(|one| one.trim() == tag));
        let mut answer = if is_known { StatusCode::NOT_MODIFIED.into_response() } else { self.text.into_response() };
        let mut set = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                answer.headers_mut().insert(name, value);
            }
        };
        set(header::CONTENT_TYPE, self.kind);
        set(header::ETAG, &tag);
        // Asked about each time, so that page and server are of one version.
        set(header::CACHE_CONTROL, "no-cache");
        set(header::VARY, "Accept");
        set(header::REFERRER_POLICY, "no-referrer");
        set(header::CONTENT_SECURITY_POLICY, POLICY);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_refers_to_another_machine_or_writes_markup_from_data() {
        for asset in ASSETS.iter().chain([&INDEX]) {
            let text = asset.text.replace("http://www.w3.org/2000/svg", "");
            for banned in [
                "http://",
                "https://",
                "//cdn",
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "eval(",
                "document.write",
            ] {
                assert!(!text.contains(banned), "{} contains {banned}", asset.name);
            }
        }
    }

    #[test]
    fn every_file_that_is_named_is_there() {
        let names: Vec<&str> = ASSETS.iter().map(|asset| asset.name).collect();
        for asset in ASSETS.iter().chain([&INDEX]) {
            for part in asset.text.split(['"', '\'']) {
                if let Some(name) = part.strip_prefix("./").or_else(|| part.strip_prefix("/console/page/")) {
                    assert!(names.contains(&name), "{} names {part}", asset.name);
                }
            }
        }
    }
}
