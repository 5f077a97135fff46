//! A seeded stream of e-commerce transactions with realistic buyers, fraud and dirt.
//!
//! Everything follows from [`GenerateSettings`]: the same settings and number of partitions give the same messages in the
//! same partitions at the same offsets, on every machine.

mod batches;
mod event;
mod file;
mod fraud;
mod random;
mod settings;
#[cfg(test)]
mod tests;
mod world;

use std::collections::BTreeMap;

use event::{BadRow, DAY_US, Event, Scenario, Writer, decimal};
use fraud::Campaigns;
use random::{Dice, mix};
use serde::Serialize;
use world::{UNKNOWN_PAYMENT, World};

pub use batches::Batches;
pub use file::{OutputFormat, write_file};
pub use settings::{GenerateError, GenerateSettings};

use crate::domain::Header;

/// A message to send; its buffers can be used again for the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Generated {
    /// From the user alone, so that a user's messages stay in order.
    pub partition: i32,
    /// The user id as decimal text.
    pub key: Vec<u8>,
    /// Meaningless when `is_null`.
    pub payload: Vec<u8>,
    /// A tombstone: goes out without a payload.
    pub is_null: bool,
    /// When the message is sent in simulated time: the event time and a small delay, more for late events.
    pub timestamp_ms: i64,
    /// The scenario of a fraudulent event; goes out as the header `scenario`.
    pub scenario: Option<&'static str>,
}

impl Generated {
    #[must_use]
    pub fn payload(&self) -> Option<&[u8]> {
        (!self.is_null).then_some(&self.payload)
    }

    #[must_use]
    pub fn headers(&self) -> Vec<Header> {
        let header = |value: &str| Header { name: "scenario".to_owned(), value: Some(value.as_bytes().to_vec()) };
        self.scenario.map(header).into_iter().collect()
    }
}

/// What was produced, to hold the tables against: `messages = valid + duplicates + malformed + bad_rows`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub messages: u64,
    /// Good events sent for the first time: the rows that silver must have.
    pub valid: u64,
    pub duplicates: u64,
    /// Of the valid ones: 2 to 30 minutes behind the clock.
    pub late: u64,
    /// Of the valid ones: up to 20 seconds behind the clock.
    pub out_of_order: u64,
    /// Of the valid ones.
    pub unknown_payment: u64,
    /// Of all messages.
    pub v2: u64,
    /// Of all messages.
    pub json: u64,
    /// By kind.
    pub malformed: BTreeMap<&'static str, u64>,
    /// By the expectation that they break.
    pub bad_rows: BTreeMap<&'static str, u64>,
    /// Of the valid ones, by scenario.
    pub fraud: BTreeMap<&'static str, u64>,
}

/// How a malformed message is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Truncated,
    TrailingBytes,
    WrongMagic,
    UnknownSchemaId,
    InvalidUtf8,
    NullPayload,
    Empty,
}

impl Fault {
    const ALL: [Self; 7] = [
        Self::Truncated,
        Self::TrailingBytes,
        Self::WrongMagic,
        Self::UnknownSchemaId,
        Self::InvalidUtf8,
        Self::NullPayload,
        Self::Empty,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::TrailingBytes => "trailing_bytes",
            Self::WrongMagic => "wrong_magic",
            Self::UnknownSchemaId => "unknown_schema_id",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::NullPayload => "null_payload",
            Self::Empty => "empty",
        }
    }
}

/// Share of the day's average traffic by hour, UTC; the mean is 1.
const RHYTHM: [f64; 24] = [
    0.45, 0.35, 0.30, 0.28, 0.30, 0.40, 0.60, 0.80, 1.00, 1.15, 1.25, 1.30, 1.35, 1.30, 1.25, 1.25, 1.30, 1.40, 1.55,
    1.65, 1.60, 1.40, 1.05, 0.72,
];
/// How many sent events a duplicate is drawn from.
const RECENT: usize = 4_096;
/// No registry of a demo goes so far.
const UNKNOWN_SCHEMA_ID: [u8; 4] = 987_654_u32.to_be_bytes();

/// An iterator over messages; [`next_into`](Self::next_into) is the fast way.
pub struct Generator {
    settings: GenerateSettings,
    partitions: u32,
    world: World,
    dice: Dice,
    writer: Writer,
    campaigns: Campaigns,
    /// What identifiers are made from: two streams of one seed that begin at different times share none.
    ids: u64,
    clock_us: i64,
    mean_gap_us: f64,
    recent: Vec<Event>,
    counts: Counts,
    malformed: [u64; Fault::ALL.len()],
    bad_rows: [u64; BadRow::ALL.len()],
    fraud: [u64; Scenario::ALL.len()],
}

impl Generator {
    /// # Errors
    /// [`GenerateError::Setting`] for the first setting that cannot work.
    pub fn new(settings: GenerateSettings, partitions: u32) -> Result<Self, GenerateError> {
        settings.check()?;
        if partitions == 0 || i32::try_from(partitions).is_err() {
            let cause = "must be between 1 and 2147483647".to_owned();
            return Err(GenerateError::Setting { key: "partitions", cause });
        }
        let clock_us = settings.start_us()?;
        let usual_us = GenerateSettings::default().start_us()?;
        Ok(Self {
            partitions,
            ids: settings.seed ^ if clock_us == usual_us { 0 } else { mix(clock_us.cast_unsigned()) },
            world: World::new(settings.seed, settings.users, settings.merchants),
            dice: Dice::new(settings.seed),
            writer: Writer::new(settings.v1_schema_id, settings.v2_schema_id),
            campaigns: Campaigns::new(settings.fraud),
            clock_us,
            mean_gap_us: 1e6 / settings.rate,
            recent: Vec::with_capacity(RECENT),
            counts: Counts::default(),
            malformed: [0; Fault::ALL.len()],
            bad_rows: [0; BadRow::ALL.len()],
            fraud: [0; Scenario::ALL.len()],
            settings,
        })
    }

    /// Writes the next message over `message`; false when all have been written.
    pub fn next_into(&mut self, message: &mut Generated) -> bool {
        let Some((event, fault)) = self.plan() else { return false };
        message.payload.clear();
        message.key.clear();
        decimal(event.user, &mut message.key);
        message.partition = self.partition_of(event.user);
        message.timestamp_ms = self.clock_us / 1_000 + i64::from(self.dice.below(240)) + 5;
        message.scenario = event.scenario.map(Scenario::as_str);
        message.is_null = fault == Some(Fault::NullPayload);
        let merchant_at = self.writer.message(&event, &self.world, &mut message.payload);
        if let Some(fault) = fault {
            break_message(fault, event.json, merchant_at, &mut message.payload);
        }
        true
    }

    /// What was produced so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        fn named<const N: usize>(names: [&'static str; N], counts: [u64; N]) -> BTreeMap<&'static str, u64> {
            names.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect()
        }
        Counts {
            malformed: named(Fault::ALL.map(Fault::as_str), self.malformed),
            bad_rows: named(BadRow::ALL.map(BadRow::as_str), self.bad_rows),
            fraud: named(Scenario::ALL.map(Scenario::as_str), self.fraud),
            ..self.counts.clone()
        }
    }

    /// The simulated time, in microseconds since 1970: no event so far, bad rows aside, is newer.
    #[must_use]
    pub const fn clock_us(&self) -> i64 {
        self.clock_us
    }

    fn partition_of(&self, user: u32) -> i32 {
        i32::try_from(mix(u64::from(user)) % u64::from(self.partitions)).unwrap_or(0)
    }

    /// Decides what the next message is, and counts it.
    fn plan(&mut self) -> Option<(Event, Option<Fault>)> {
        if self.settings.events.is_some_and(|events| self.counts.messages >= events) {
            return None;
        }
        self.counts.messages += 1;
        self.advance_clock();
        let (event, fault) = self.draw();
        self.counts.v2 += u64::from(event.v2);
        self.counts.json += u64::from(event.json);
        Some((event, fault))
    }

    fn draw(&mut self) -> (Event, Option<Fault>) {
        self.campaigns.start_some(&self.world, &mut self.dice, self.clock_us);
        if let Some(planned) = self.campaigns.due(self.clock_us) {
            let event = Event { scenario: Some(planned.scenario), ..self.event(&planned.purchase) };
            count(&mut self.fraud, planned.scenario as usize);
            return (self.remember(event), None);
        }
        let GenerateSettings { duplicates, malformed, bad_rows, .. } = self.settings;
        let kind = self.dice.unit();
        if kind < duplicates
            && let Some(event) = self.dice.pick(&self.recent).copied()
        {
            self.counts.duplicates += 1;
            return (event, None);
        }
        let purchase = fraud::Purchase::ordinary(&self.world, &mut self.dice);
        let event = self.event(&purchase);
        if kind < duplicates {
            return (self.remember(event), None);
        }
        if kind < duplicates + malformed {
            let fault = self.dice.pick(&Fault::ALL).copied().unwrap_or(Fault::Truncated);
            count(&mut self.malformed, fault as usize);
            return (event, Some(fault));
        }
        if kind < duplicates + malformed + bad_rows {
            return (self.spoil(event), None);
        }
        let event = self.disturb(event);
        (self.remember(event), None)
    }

    /// The purchase at the clock's time, with what every event has.
    fn event(&mut self, purchase: &fraud::Purchase) -> Event {
        let n = self.counts.messages;
        let bits = self.dice.bits();
        let id = (mix(self.ids ^ mix(n)), mix(n.wrapping_add(self.ids.rotate_left(29))));
        let v2 = random::unit(bits) < self.settings.v2;
        Event {
            id,
            user: purchase.user,
            merchant: purchase.merchant,
            amount: purchase.amount,
            at_us: self.clock_us,
            location: purchase.location,
            payment: purchase.payment,
            device: purchase.device,
            scenario: None,
            broken: None,
            v2,
            merchant_id: v2 && bits & 15 != 0,
            json: self.settings.json > 0.0 && self.dice.chance(self.settings.json),
            stamp: (mix(bits) & 0xff) as u8,
        }
    }

    /// Makes some events late, out of order, or paid by an unknown method.
    fn disturb(&mut self, mut event: Event) -> Event {
        let order = self.dice.unit();
        if order < self.settings.late {
            event.at_us -= i64::from(self.dice.below(1_675_000)) * 1_000 + 125_000_000;
            self.counts.late += 1;
        } else if order < self.settings.late + self.settings.out_of_order {
            event.at_us -= i64::from(self.dice.below(20_000)) * 1_000;
            self.counts.out_of_order += 1;
        }
        if self.dice.chance(self.settings.unknown_payment) {
            event.payment = UNKNOWN_PAYMENT + u8::from(self.dice.chance(0.5));
            self.counts.unknown_payment += 1;
        }
        event
    }

    fn spoil(&mut self, mut event: Event) -> Event {
        let broken = self.dice.pick(&BadRow::ALL).copied().unwrap_or(BadRow::EmptyId);
        count(&mut self.bad_rows, broken as usize);
        match broken {
            BadRow::EmptyId | BadRow::UnparsableTimestamp => {}
            BadRow::NegativeAmount => event.amount = -event.amount,
            BadRow::ZeroAmount => event.amount = 0.0,
            BadRow::NanAmount => event.amount = f64::NAN,
            BadRow::HugeAmount => event.amount = 1e15,
            BadRow::FarFuture => event.at_us += 400 * DAY_US,
        }
        Event { broken: Some(broken), ..event }
    }

    /// Counts a valid event and keeps it for a duplicate.
    fn remember(&mut self, event: Event) -> Event {
        self.counts.valid += 1;
        if self.recent.len() < RECENT {
            self.recent.push(event);
        } else {
            let oldest = usize::try_from(self.counts.valid).unwrap_or(0) % RECENT;
            if let Some(slot) = self.recent.get_mut(oldest) {
                *slot = event;
            }
        }
        event
    }

    #[allow(clippy::cast_possible_truncation, reason = "a gap of at most some months")]
    fn advance_clock(&mut self) {
        let hour = usize::try_from(self.clock_us.rem_euclid(DAY_US) / 3_600_000_000).unwrap_or(0);
        let rhythm = RHYTHM.get(hour).copied().unwrap_or(1.0);
        self.clock_us += (self.mean_gap_us / rhythm * 2.0 * self.dice.unit()) as i64;
    }
}

impl Iterator for Generator {
    type Item = Generated;

    fn next(&mut self) -> Option<Generated> {
        let mut message = Generated::default();
        self.next_into(&mut message).then_some(message)
    }
}

fn count<const N: usize>(counts: &mut [u64; N], index: usize) {
    if let Some(count) = counts.get_mut(index) {
        *count += 1;
    }
}

fn break_message(fault: Fault, json: bool, merchant_at: usize, payload: &mut Vec<u8>) {
    match fault {
        Fault::TrailingBytes => payload.extend_from_slice(b"}\x01\x02"),
        Fault::WrongMagic => {
            if let Some(first) = payload.first_mut() {
                *first = b'#';
            }
        }
        Fault::UnknownSchemaId if !json => {
            if let Some(id) = payload.get_mut(1..5) {
                id.copy_from_slice(&UNKNOWN_SCHEMA_ID);
            }
        }
        Fault::InvalidUtf8 => {
            if let Some(byte) = payload.get_mut(merchant_at) {
                *byte = 0xff;
            }
        }
        Fault::NullPayload | Fault::Empty => payload.clear(),
        Fault::Truncated | Fault::UnknownSchemaId => payload.truncate(payload.len() * 2 / 3),
    }
}
