//! One event, and its forms on the wire: Confluent-framed Avro, JSON, and a line of CSV.

use std::io::Write;

use chrono::DateTime;

use super::world::{PAYMENTS, World};

pub(super) const DAY_US: i64 = 86_400_000_000;

/// A scenario of fraud; goes out as the header `scenario`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scenario {
    StolenCard,
    CompromisedMerchant,
    AccountTakeover,
    CryptoCashOut,
}

impl Scenario {
    pub(super) const ALL: [Self; 4] =
        [Self::StolenCard, Self::CompromisedMerchant, Self::AccountTakeover, Self::CryptoCashOut];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::StolenCard => "stolen_card",
            Self::CompromisedMerchant => "compromised_merchant",
            Self::AccountTakeover => "account_takeover",
            Self::CryptoCashOut => "crypto_cash_out",
        }
    }
}

/// Which expectation a bad row breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadRow {
    EmptyId,
    NegativeAmount,
    ZeroAmount,
    NanAmount,
    HugeAmount,
    UnparsableTimestamp,
    FarFuture,
}

impl BadRow {
    pub(super) const ALL: [Self; 7] = [
        Self::EmptyId,
        Self::NegativeAmount,
        Self::ZeroAmount,
        Self::NanAmount,
        Self::HugeAmount,
        Self::UnparsableTimestamp,
        Self::FarFuture,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::EmptyId => "empty_id",
            Self::NegativeAmount => "negative_amount",
            Self::ZeroAmount => "zero_amount",
            Self::NanAmount => "nan_amount",
            Self::HugeAmount => "huge_amount",
            Self::UnparsableTimestamp => "unparsable_timestamp",
            Self::FarFuture => "far_future",
        }
    }
}

/// Everything about a message that is decided by chance, so that a duplicate can be written again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub id: (u64, u64),
    pub user: u32,
    pub merchant: u32,
    pub amount: f64,
    pub at_us: i64,
    pub location: u16,
    pub payment: u8,
    pub device: u64,
    pub scenario: Option<Scenario>,
    pub broken: Option<BadRow>,
    /// Version 2 of the contract; some of its messages still have no merchant id.
    pub v2: bool,
    pub merchant_id: bool,
    pub json: bool,
    /// How the timestamp is written: most end in `Z`, some in an offset.
    pub stamp: u8,
}

const BAD_TIMESTAMPS: [&str; 4] = ["", "yesterday", "2026-13-45T99:99:99Z", "05/01/2026 08:00"];

/// Writes events; keeps what consecutive ones share.
pub(super) struct Writer {
    day: i64,
    date: String,
    stamp: Vec<u8>,
    v1_schema_id: [u8; 4],
    v2_schema_id: [u8; 4],
}

impl Writer {
    pub(super) fn new(v1_schema_id: u32, v2_schema_id: u32) -> Self {
        Self {
            day: i64::MIN,
            date: String::new(),
            stamp: Vec::with_capacity(32),
            v1_schema_id: v1_schema_id.to_be_bytes(),
            v2_schema_id: v2_schema_id.to_be_bytes(),
        }
    }

    /// Appends the message and returns where the text of the merchant starts in `out`.
    pub(super) fn message(&mut self, event: &Event, world: &World, out: &mut Vec<u8>) -> usize {
        if event.json { self.json(event, world, out) } else { self.avro(event, world, out) }
    }

    fn avro(&mut self, event: &Event, world: &World, out: &mut Vec<u8>) -> usize {
        let (merchant, merchant_id) = merchant(event, world);
        out.push(0);
        out.extend_from_slice(if event.v2 { &self.v2_schema_id } else { &self.v1_schema_id });
        if event.broken == Some(BadRow::EmptyId) {
            out.push(0);
        } else {
            out.push(36 << 1);
            uuid(event.id, out);
        }
        varint(u64::from(event.user) << 1, out);
        out.extend_from_slice(&event.amount.to_le_bytes());
        string(merchant.as_bytes(), out);
        let merchant_at = out.len() - merchant.len();
        string(self.timestamp(event), out);
        out.push(u8::from(event.scenario.is_some()));
        string(payment(event).as_bytes(), out);
        string(location(event, world).as_bytes(), out);
        out.push(DEVICE_LEN << 1);
        device(event.device, out);
        if event.v2 {
            if event.merchant_id {
                out.push(2);
                string(merchant_id.as_bytes(), out);
            } else {
                out.push(0);
            }
        }
        merchant_at
    }

    pub(super) fn json(&mut self, event: &Event, world: &World, out: &mut Vec<u8>) -> usize {
        let (merchant, merchant_id) = merchant(event, world);
        out.extend_from_slice(b"{\"transaction_id\":\"");
        if event.broken != Some(BadRow::EmptyId) {
            uuid(event.id, out);
        }
        out.extend_from_slice(b"\",\"user_id\":");
        decimal(event.user, out);
        out.extend_from_slice(b",\"amount\":");
        // JSON has no NaN.
        amount(if event.amount.is_nan() { -1.0 } else { event.amount }, out);
        out.extend_from_slice(b",\"merchant\":\"");
        let merchant_at = out.len();
        out.extend_from_slice(merchant.as_bytes());
        out.extend_from_slice(b"\",\"timestamp\":\"");
        out.extend_from_slice(self.timestamp(event));
        out.extend_from_slice(b"\",\"is_fraud\":");
        out.extend_from_slice(if event.scenario.is_some() { b"true" } else { b"false" });
        out.extend_from_slice(b",\"payment_method\":\"");
        out.extend_from_slice(payment(event).as_bytes());
        out.extend_from_slice(b"\",\"location\":\"");
        out.extend_from_slice(location(event, world).as_bytes());
        out.extend_from_slice(b"\",\"device_id\":\"");
        device(event.device, out);
        out.push(b'"');
        if event.v2 {
            out.extend_from_slice(b",\"merchant_id\":");
            if event.merchant_id {
                out.push(b'"');
                out.extend_from_slice(merchant_id.as_bytes());
                out.push(b'"');
            } else {
                out.extend_from_slice(b"null");
            }
        }
        out.push(b'}');
        merchant_at
    }

    /// The cells of [`CSV_HEADER`], without an end of line; returns where the merchant starts.
    pub(super) fn csv(&mut self, event: &Event, world: &World, out: &mut Vec<u8>) -> usize {
        let (merchant, merchant_id) = merchant(event, world);
        if event.broken != Some(BadRow::EmptyId) {
            uuid(event.id, out);
        }
        out.push(b',');
        decimal(event.user, out);
        out.push(b',');
        amount(event.amount, out);
        out.push(b',');
        let merchant_at = out.len();
        out.extend_from_slice(merchant.as_bytes());
        out.push(b',');
        out.extend_from_slice(self.timestamp(event));
        out.extend_from_slice(if event.scenario.is_some() { b",true," } else { b",false," });
        out.extend_from_slice(payment(event).as_bytes());
        out.extend_from_slice(b",\"");
        out.extend_from_slice(location(event, world).as_bytes());
        out.extend_from_slice(b"\",");
        device(event.device, out);
        out.push(b',');
        if event.v2 && event.merchant_id {
            out.extend_from_slice(merchant_id.as_bytes());
        }
        merchant_at
    }

    /// ISO 8601 in UTC, or with an offset for a few.
    pub(super) fn timestamp(&mut self, event: &Event) -> &[u8] {
        const HOUR_US: i64 = 3_600_000_000;
        self.stamp.clear();
        if event.broken == Some(BadRow::UnparsableTimestamp) {
            let text = BAD_TIMESTAMPS.get(usize::from(event.stamp) % BAD_TIMESTAMPS.len()).copied().unwrap_or_default();
            self.stamp.extend_from_slice(text.as_bytes());
            return &self.stamp;
        }
        let (shift_us, zone): (i64, &[u8]) = match event.stamp {
            0..236 => (0, b"Z"),
            236..246 => (0, b"+00:00"),
            246..251 => (2 * HOUR_US, b"+02:00"),
            _ => (-5 * HOUR_US, b"-05:00"),
        };
        let local_us = event.at_us + shift_us;
        let day = local_us.div_euclid(DAY_US);
        if day != self.day {
            self.day = day;
            self.date = DateTime::from_timestamp_micros(day * DAY_US)
                .map(|time| time.format("%Y-%m-%dT").to_string())
                .unwrap_or_default();
        }
        let millis = u32::try_from(local_us.rem_euclid(DAY_US) / 1_000).unwrap_or(0);
        let seconds = millis / 1_000;
        self.stamp.extend_from_slice(self.date.as_bytes());
        two_digits(seconds / 3_600, &mut self.stamp);
        self.stamp.push(b':');
        two_digits(seconds / 60 % 60, &mut self.stamp);
        self.stamp.push(b':');
        two_digits(seconds % 60, &mut self.stamp);
        self.stamp.push(b'.');
        self.stamp.push(digit(millis / 100));
        two_digits(millis % 100, &mut self.stamp);
        self.stamp.extend_from_slice(zone);
        &self.stamp
    }
}

pub(super) const CSV_HEADER: &str =
    "transaction_id,user_id,amount,merchant,timestamp,is_fraud,payment_method,location,device_id,merchant_id\n";

/// Name and id; empty for a merchant that does not exist.
pub(super) fn merchant<'a>(event: &Event, world: &'a World) -> (&'a str, &'a str) {
    world.merchants.get(event.merchant as usize).map_or(("", ""), |merchant| (&merchant.name, &merchant.id))
}

pub(super) fn location<'a>(event: &Event, world: &'a World) -> &'a str {
    world.locations.get(usize::from(event.location)).map_or("", |location| location)
}

pub(super) fn payment(event: &Event) -> &'static str {
    PAYMENTS.get(usize::from(event.payment)).copied().unwrap_or_default()
}

/// `xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx` with chance for x: a version 4 UUID in form.
pub(super) fn uuid((high, low): (u64, u64), out: &mut Vec<u8>) {
    let high = (high & !0xf000) | 0x4000;
    let low = (low & !(0b11 << 62)) | (0b10 << 62);
    hex(high >> 32, 8, out);
    out.push(b'-');
    hex(high >> 16, 4, out);
    out.push(b'-');
    hex(high, 4, out);
    out.push(b'-');
    hex(low >> 48, 4, out);
    out.push(b'-');
    hex(low, 12, out);
}

const DEVICE_LEN: u8 = 16;

/// `dev-` and 12 hexadecimal digits.
pub(super) fn device(device: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"dev-");
    hex(device, 12, out);
}

pub(super) fn decimal(number: u32, out: &mut Vec<u8>) {
    let mut digits = [0; 10];
    let (mut left, mut start) = (number, digits.len());
    for slot in digits.iter_mut().rev() {
        *slot = digit(left);
        left /= 10;
        start -= 1;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

/// The shortest text that reads back as the same double.
fn amount(amount: f64, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = write!(out, "{amount}");
}

fn hex(bits: u64, digits: u32, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for place in (0..digits).rev() {
        out.push(DIGITS[((bits >> (4 * place)) & 15) as usize]);
    }
}

fn two_digits(number: u32, out: &mut Vec<u8>) {
    out.push(digit(number / 10));
    out.push(digit(number));
}

#[allow(clippy::cast_possible_truncation, reason = "a digit")]
const fn digit(number: u32) -> u8 {
    b'0' + (number % 10) as u8
}

fn string(text: &[u8], out: &mut Vec<u8>) {
    varint((text.len() as u64) << 1, out);
    out.extend_from_slice(text);
}

#[allow(clippy::cast_possible_truncation, reason = "seven bits at a time")]
fn varint(mut zigzag: u64, out: &mut Vec<u8>) {
    while zigzag > 0x7f {
        out.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}
