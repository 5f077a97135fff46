use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

/// Where traces go when an address has no path.
const PATH: &str = "v1/traces";

/// The `[traces]` section of the settings.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TraceSettings {
    /// The address of a receiver of OTLP over HTTP; empty: that of OpenTelemetry's own variables, or none.
    pub endpoint: String,
    /// Empty: that of `OTEL_SERVICE_NAME`, or `assay`.
    pub service_name: String,
    /// Headers that the receiver wants, such as a token.
    pub headers_file: PathBuf,
    /// The share of requests that are told, where the client says nothing of it.
    pub requests_share: f64,
    /// Spans are sent so often, or as soon as many wait.
    pub interval_ms: u64,
    /// How long the receiver may take for an answer.
    pub timeout_ms: u64,
    /// Spans that wait; more are shed.
    pub spans_max: usize,
    /// How long the end of the process waits for the last of them.
    pub drain_timeout_ms: u64,
    /// Headers that came by a variable.
    #[serde(skip)]
    pub headers: Option<String>,
    #[serde(skip)]
    pub standard: StandardVariables,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            service_name: String::new(),
            headers_file: PathBuf::new(),
            requests_share: 1.0,
            interval_ms: 1_000,
            timeout_ms: 5_000,
            spans_max: 16_384,
            drain_timeout_ms: 3_000,
            headers: None,
            standard: StandardVariables::default(),
        }
    }
}

/// What OpenTelemetry's own variables say, as far as they are understood here.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StandardVariables {
    is_disabled: bool,
    endpoint: String,
    traces_endpoint: String,
    headers: String,
    traces_headers: String,
    protocol: String,
    traces_protocol: String,
    service_name: String,
    resource: String,
}

impl StandardVariables {
    /// Takes a variable, if it is one of OpenTelemetry's.
    pub fn take(&mut self, name: &str, value: String) {
        match name {
            "OTEL_SDK_DISABLED" => self.is_disabled = value.trim().eq_ignore_ascii_case("true"),
            "OTEL_EXPORTER_OTLP_ENDPOINT" => self.endpoint = value,
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" => self.traces_endpoint = value,
            "OTEL_EXPORTER_OTLP_HEADERS" => self.headers = value,
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS" => self.traces_headers = value,
            "OTEL_EXPORTER_OTLP_PROTOCOL" => self.protocol = value,
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL" => self.traces_protocol = value,
            "OTEL_SERVICE_NAME" => self.service_name = value,
            "OTEL_RESOURCE_ATTRIBUTES" => self.resource = value,
            _ => {}
        }
    }
}

impl TraceSettings {
    /// Where spans are sent; `None` for nowhere.
    ///
    /// # Errors
    /// The name of what gave an address that cannot be used, and why.
    pub fn url(&self) -> Result<Option<Url>, (&'static str, String)> {
        let standard = &self.standard;
        let own = self.endpoint.trim();
        if !own.is_empty() {
            let mut url = parse(own).map_err(|cause| ("endpoint", cause))?;
            if url.path() == "/" {
                url.set_path(PATH);
            }
            return Ok(Some(url));
        }
        let (name, text, is_base) = match (standard.traces_endpoint.trim(), standard.endpoint.trim()) {
            _ if standard.is_disabled => return Ok(None),
            ("", "") => return Ok(None),
            ("", base) => ("OTEL_EXPORTER_OTLP_ENDPOINT", base, true),
            (traces, _) => ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", traces, false),
        };
        let mut url = parse(text).map_err(|cause| (name, cause))?;
        if is_base {
            url.set_path(&format!("{}/{PATH}", url.path().trim_end_matches('/')));
        }
        let of_traces = standard.traces_protocol.trim();
        let protocol = if of_traces.is_empty() { standard.protocol.trim() } else { of_traces };
        if !matches!(protocol, "" | "http/protobuf") {
            let cause = format!(
                "is meant for OTEL_EXPORTER_OTLP_PROTOCOL={protocol}, and http/protobuf is spoken here: give traces.endpoint, \
                 or set OTEL_SDK_DISABLED=true"
            );
            return Err((name, cause));
        }
        Ok(Some(url))
    }

    /// The key that cannot work, and why.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let bad = [
            ("requests_share", !(0.0..=1.0).contains(&self.requests_share), "must be a share from 0 to 1"),
            ("interval_ms", self.interval_ms == 0, "must be at least 1"),
            ("timeout_ms", self.timeout_ms == 0, "must be at least 1"),
            ("spans_max", self.spans_max < 512, "must be at least 512: an epoch has dozens of spans"),
        ];
        if let Some((key, _, cause)) = bad.into_iter().find(|(_, is_bad, _)| *is_bad) {
            return Some((key, cause.to_owned()));
        }
        self.url().err()
    }

    /// The headers that the receiver wants.
    ///
    /// # Errors
    /// In words, when the file cannot be read or holds something else.
    pub(super) fn all_headers(&self) -> Result<Vec<(String, String)>, String> {
        if let Some(given) = &self.headers {
            return pairs(given).ok_or_else(|| format!("ASSAY_TRACES_HEADERS {EXPECTED}"));
        }
        if !self.headers_file.as_os_str().is_empty() {
            let shown = self.headers_file.display();
            let text = std::fs::read_to_string(&self.headers_file)
                .map_err(|cause| format!("traces.headers_file {shown} cannot be read: {cause}"))?;
            return pairs(&text).ok_or_else(|| format!("traces.headers_file {shown} {EXPECTED}"));
        }
        if !self.endpoint.trim().is_empty() {
            // Those of the variables are for the receiver of the variables.
            return Ok(Vec::new());
        }
        let StandardVariables { headers, traces_headers, .. } = &self.standard;
        let (name, text) = if traces_headers.trim().is_empty() {
            ("OTEL_EXPORTER_OTLP_HEADERS", headers)
        } else {
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", traces_headers)
        };
        pairs(text).ok_or_else(|| format!("{name} {EXPECTED}"))
    }

    /// What the process is, as far as settings say; the name of the service comes first.
    pub(super) fn resource(&self) -> Vec<(String, String)> {
        let standard = &self.standard;
        let mut resource = pairs(&standard.resource).unwrap_or_default();
        let named = resource.iter().position(|(key, _)| key == "service.name").map(|at| resource.remove(at).1);
        let names = [self.service_name.trim(), standard.service_name.trim()];
        let name = names.into_iter().find(|name| !name.is_empty()).map(str::to_owned);
        let name = name.or(named).unwrap_or_else(|| "assay".to_owned());
        resource.insert(0, ("service.name".to_owned(), name));
        resource
    }
}

const EXPECTED: &str = "must be name=value, several separated by commas or lines";

fn parse(text: &str) -> Result<Url, String> {
    let url =
        Url::parse(text).map_err(|cause| format!("is no address ({cause}); give one such as http://127.0.0.1:4318"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("must begin with http:// or https://, such as http://127.0.0.1:4318".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err("must not hold a password or a query, because it is logged: ASSAY_TRACES_HEADERS and traces.headers_file are for that".to_owned());
    }
    Ok(url)
}

/// `name=value`, separated by commas or lines, the values percent-encoded; `None` when something is not of this form.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let parts = text.split([',', '\n']).map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=')?;
            Some((name.trim().to_owned(), decoded(value.trim())?))
        })
        .collect()
}

/// Without percent-encoding. A percent sign that begins none stands for itself.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                digit(high).zip(digit(low)).and_then(|(high, low)| u8::try_from(high * 16 + low).ok())
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { tail.get(2..)? } else { tail };
    }
    String::from_utf8(bytes).ok()
}

/// Headers are never shown: they hold tokens.
impl fmt::Debug for TraceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceSettings")
            .field("endpoint", &self.endpoint)
            .field("service_name", &self.service_name)
            .field("headers_file", &self.headers_file)
            .field("requests_share", &self.requests_share)
            .field("spans_max", &self.spans_max)
            .field("headers", &self.headers.as_ref().map(|_| "***"))
            .finish_non_exhaustive()
    }
}
