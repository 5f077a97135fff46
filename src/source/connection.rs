//! Whether the brokers answer, and what the log says of it: once when they go, now and then while they are away, once
//! when they are back.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientContext, Statistics};
use serde::Deserialize;
use tracing::{debug, info, warn};

use super::context::lock;

/// librdkafka reports each attempt to connect, several a second; a person wants to hear of it so often.
const REMIND_EVERY: Duration = Duration::from_secs(30);

/// The connection of one client.
pub(super) struct Connection {
    brokers: String,
    /// Beside the state, because it is asked for each batch.
    up: AtomicBool,
    state: Mutex<State>,
}

/// What is known, apart from time and log, so that it can be tested.
#[derive(Debug, Default)]
struct State {
    up: bool,
    last_error: Option<String>,
    away_since: Option<Instant>,
    told_at: Option<Instant>,
    /// Brokers that the cluster has, once it told.
    brokers: usize,
}

/// What the log is to say.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Away {
        cause: String,
    },
    StillAway {
        cause: String,
        away: Duration,
    },
    /// The others answer.
    OneAway {
        cause: String,
    },
    /// Anything else, such as a refused login.
    Trouble {
        cause: String,
    },
    Back {
        away: Duration,
    },
}

impl Connection {
    pub(super) fn new(brokers: &str) -> Self {
        Self { brokers: brokers.to_owned(), up: AtomicBool::new(false), state: Mutex::default() }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    pub(super) fn last_error(&self) -> Option<String> {
        lock(&self.state).last_error.clone()
    }

    /// A broker answered.
    pub(super) fn answered(&self) {
        if !self.up.swap(true, Ordering::Relaxed) {
            let news = lock(&self.state).answered(now());
            self.tell(news);
        }
    }

    /// The client reports an error; `reason` may be empty.
    pub(super) fn failed(&self, error: &KafkaError, reason: &str) {
        let cause = if reason.is_empty() { error.to_string() } else { reason.to_owned() };
        debug!(brokers = self.brokers, %error, reason, "Kafka client");
        let code = error.rdkafka_error_code();
        let news = {
            let mut state = lock(&self.state);
            let news = state.failed(code, cause, now());
            self.up.store(state.up, Ordering::Relaxed);
            news
        };
        self.tell(news);
    }

    /// An error that whoever met it has told already, or will try again.
    pub(super) fn met(&self, error: &KafkaError) {
        // Of the connection itself the client tells more by its callback, and in the right order.
        if !is_of_connection(error.rdkafka_error_code()) {
            lock(&self.state).last_error = Some(error.to_string());
        }
    }

    /// The client's own statistics: they tell that a broker is connected before it sends anything.
    pub(super) fn statistics(&self, statistics: &[u8]) {
        #[derive(Deserialize)]
        struct Statistics {
            brokers: BTreeMap<String, Broker>,
        }
        #[derive(Deserialize)]
        struct Broker {
            nodeid: i32,
            state: String,
        }
        let Ok(statistics) = serde_json::from_slice::<Statistics>(statistics) else { return };
        let brokers = statistics.brokers.values().filter(|broker| broker.nodeid >= 0);
        lock(&self.state).brokers = brokers.clone().count();
        if brokers.into_iter().any(|broker| broker.state == "UP") {
            self.answered();
        }
    }

    fn tell(&self, news: Option<News>) {
        let brokers = &self.brokers;
        match news {
            None => {}
            Some(News::Away { cause }) => warn!(brokers, cause, "Kafka is away; it is tried again until it answers"),
            Some(News::StillAway { cause, away }) => {
                warn!(brokers, cause, away_s = away.as_secs(), "Kafka is still away");
            }
            Some(News::OneAway { cause }) => warn!(brokers, cause, "one of Kafka's brokers is away"),
            Some(News::Trouble { cause }) => warn!(brokers, cause, "Kafka client"),
            Some(News::Back { away }) => info!(brokers, away_s = away.as_secs(), "Kafka is back"),
        }
    }
}

impl State {
    fn answered(&mut self, now: Instant) -> Option<News> {
        self.up = true;
        self.last_error = None;
        let (since, told) = (self.away_since.take()?, self.told_at.take());
        // An outage that was over before its cause was known has not been told.
        told?;
        Some(News::Back { away: now.saturating_duration_since(since) })
    }

    fn failed(&mut self, code: Option<RDKafkaErrorCode>, cause: String, now: Instant) -> Option<News> {
        let all_down = code == Some(RDKafkaErrorCode::AllBrokersDown);
        // It only counts the brokers; the errors beside it say what is wrong with one.
        let is_known = self.last_error.is_some();
        if !all_down {
            self.last_error = Some(cause.clone());
        }
        let cause = self.last_error.clone().unwrap_or(cause);
        let silent = self.told_at.is_none_or(|told| now.saturating_duration_since(told) >= REMIND_EVERY);
        let news = match self.away_since {
            Some(_) if self.told_at.is_none() => News::Away { cause },
            Some(since) if silent => News::StillAway { cause, away: now.saturating_duration_since(since) },
            Some(_) => return None,
            None if all_down => {
                self.up = false;
                self.away_since = Some(now);
                if !is_known {
                    // The next attempt, some milliseconds later, gives the cause.
                    self.told_at = None;
                    return None;
                }
                News::Away { cause }
            }
            None if !silent => return None,
            None if !is_of_connection(code) => News::Trouble { cause },
            // The failure of the only broker is followed by word of all of them.
            None if self.brokers > 1 => News::OneAway { cause },
            None => return None,
        };
        self.told_at = Some(now);
        Some(news)
    }
}

/// Errors that a broker which is away brings about.
fn is_of_connection(code: Option<RDKafkaErrorCode>) -> bool {
    matches!(
        code,
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::AllBrokersDown
        )
    )
}

/// What librdkafka writes itself. Lost connections are told by [`Connection`].
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    let of_connection = matches!(facility, "FAIL" | "ERROR" | "BROKERFAIL" | "CONNECT" | "DISCONNECT" | "GETSOCKETERR");
    if of_connection || level as i32 > RDKafkaLogLevel::Warning as i32 {
        debug!(target: "librdkafka", facility, "{message}");
    } else {
        warn!(target: "librdkafka", facility, "{message}");
    }
}

/// A client that only asks for metadata.
pub(super) struct Asking(pub Connection);

impl ClientContext for Asking {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.failed(&error, reason);
    }

    fn stats(&self, _statistics: Statistics) {}
}

impl ConsumerContext for Asking {}

#[allow(clippy::disallowed_methods, reason = "how long the network is away, not data")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSPORT: Option<RDKafkaErrorCode> = Some(RDKafkaErrorCode::BrokerTransportFailure);
    const ALL_DOWN: Option<RDKafkaErrorCode> = Some(RDKafkaErrorCode::AllBrokersDown);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_outage_is_told_once_then_every_half_minute_and_its_end_once() {
        let (mut state, start) = (State::default(), now());
        let mut told = Vec::new();
        // Ten attempts a second for 70 seconds, as librdkafka reports them.
        for tenth in 0..700 {
            let at = start + Duration::from_millis(tenth * 100);
            told.extend(state.failed(TRANSPORT, "refused".to_owned(), at));
            told.extend(state.failed(ALL_DOWN, "1/1 brokers are down".to_owned(), at));
        }
        told.extend(state.answered(start + seconds(71)));
        told.extend(state.answered(start + seconds(72)));
        let cause = || "refused".to_owned();
        let expected = [
            News::Away { cause: cause() },
            News::StillAway { cause: cause(), away: seconds(30) },
            News::StillAway { cause: cause(), away: seconds(60) },
            News::Back { away: seconds(71) },
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_second_outage_is_told_at_once() {
        let (mut state, start) = (State::default(), now());
        assert!(state.failed(TRANSPORT, "gone".to_owned(), start).is_none());
        assert!(state.failed(ALL_DOWN, "1/1 brokers are down".to_owned(), start).is_some());
        assert!(state.answered(start + seconds(1)).is_some());
        // This time the count comes first; the cause is waited for.
        assert_eq!(state.failed(ALL_DOWN, "1/1 brokers are down".to_owned(), start + seconds(2)), None);
        assert_eq!(
            state.failed(TRANSPORT, "gone again".to_owned(), start + seconds(2)),
            Some(News::Away { cause: "gone again".to_owned() })
        );
        assert_eq!(state.failed(ALL_DOWN, "1/1 brokers are down".to_owned(), start + seconds(3)), None);
    }

    #[test]
    fn one_broker_of_several_is_told_every_half_minute() {
        let (mut state, start) = (State { up: true, brokers: 3, ..State::default() }, now());
        let told: Vec<News> = (0..40)
            .filter_map(|second| state.failed(TRANSPORT, "refused".to_owned(), start + seconds(second)))
            .collect();
        assert_eq!(
            told,
            [News::OneAway { cause: "refused".to_owned() }, News::OneAway { cause: "refused".to_owned() }]
        );
        assert!(state.up);
    }
}
