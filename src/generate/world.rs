//! Who buys what, where: countries, merchants and users.

use super::random::{Dice, exp, mix, scale, unit};

pub(super) const PAYMENTS: [&str; 8] = [
    "credit_card",
    "debit_card",
    "paypal",
    "bank_transfer",
    "digital_wallet",
    "crypto",
    "gift_card",
    "cash_on_delivery",
];
pub(super) const CREDIT_CARD: u8 = 0;
pub(super) const DEBIT_CARD: u8 = 1;
pub(super) const DIGITAL_WALLET: u8 = 4;
pub(super) const CRYPTO: u8 = 5;
/// From here on, payment methods that the contract does not know.
pub(super) const UNKNOWN_PAYMENT: u8 = 6;

struct Country {
    name: &'static str,
    /// Share of the users, in thousandths.
    weight: u16,
    high_risk: bool,
    cities: &'static [&'static str],
}

const fn country(name: &'static str, weight: u16, cities: &'static [&'static str]) -> Country {
    Country { name, weight, high_risk: false, cities }
}

const fn high_risk(name: &'static str, weight: u16, cities: &'static [&'static str]) -> Country {
    Country { name, weight, high_risk: true, cities }
}

const COUNTRIES: [Country; 24] = [
    country("United States", 240, &["New York", "Los Angeles", "Chicago", "Houston", "Seattle"]),
    country("United Kingdom", 110, &["London", "Manchester", "Leeds", "Glasgow"]),
    country("Germany", 100, &["Berlin", "Hamburg", "München", "Köln"]),
    country("France", 80, &["Paris", "Lyon", "Marseille"]),
    country("India", 80, &["Mumbai", "Delhi", "Bengaluru"]),
    country("Brazil", 55, &["São Paulo", "Rio de Janeiro", "Curitiba"]),
    country("Canada", 45, &["Toronto", "Montréal", "Vancouver"]),
    country("Japan", 45, &["Tokyo", "Osaka"]),
    country("Australia", 35, &["Sydney", "Melbourne"]),
    country("Spain", 35, &["Madrid", "Barcelona"]),
    country("Italy", 30, &["Rome", "Milan"]),
    country("Netherlands", 25, &["Amsterdam", "Utrecht"]),
    country("Mexico", 25, &["Mexico City", "Guadalajara"]),
    country("Poland", 20, &["Warsaw", "Kraków"]),
    country("Sweden", 15, &["Stockholm", "Göteborg"]),
    country("Singapore", 10, &["Singapore"]),
    country("South Africa", 10, &["Cape Town", "Johannesburg"]),
    country("United Arab Emirates", 10, &["Dubai"]),
    high_risk("Nigeria", 9, &["Lagos", "Abuja"]),
    high_risk("Russia", 8, &["Moscow", "Novosibirsk"]),
    high_risk("Venezuela", 4, &["Caracas"]),
    high_risk("Iran", 3, &["Tehran"]),
    high_risk("Myanmar", 3, &["Yangon"]),
    high_risk("North Korea", 3, &["Pyongyang"]),
];

struct Category {
    word: &'static str,
    /// Merchants of this kind among 1,000.
    weight: u16,
    /// Typical price, and its spread on a logarithmic scale.
    price: f64,
    spread: f64,
}

const fn category(word: &'static str, weight: u16, price: f64, spread: f64) -> Category {
    Category { word, weight, price, spread }
}

const CATEGORIES: [Category; 11] = [
    category("Grocery", 170, 38.0, 0.6),
    category("Restaurant", 150, 27.0, 0.5),
    category("Fashion", 140, 62.0, 0.6),
    category("Electronics", 110, 210.0, 0.8),
    category("Home", 100, 85.0, 0.7),
    category("Pharmacy", 90, 24.0, 0.5),
    category("Games", 80, 22.0, 0.6),
    category("Books", 60, 19.0, 0.5),
    category("Travel", 50, 430.0, 0.8),
    category("Jewelry", 30, 380.0, 0.8),
    category("Exchange", 20, 260.0, 0.9),
];
const ELECTRONICS: u8 = 3;
const EXCHANGE: u8 = 10;

const BRANDS: [&str; 24] = [
    "Northwind",
    "Bluebird",
    "Acorn",
    "Summit",
    "Harbor",
    "Lumen",
    "Juniper",
    "Cobalt",
    "Meridian",
    "Willow",
    "Atlas",
    "Orchid",
    "Pioneer",
    "Quartz",
    "Redwood",
    "Solstice",
    "Tundra",
    "Umber",
    "Vista",
    "Waypoint",
    "Zephyr",
    "Ember",
    "Fable",
    "Granite",
];

pub(super) struct Merchant {
    pub name: Box<str>,
    pub id: Box<str>,
    category: u8,
    log_price: f64,
    spread: f64,
}

/// What is known of a user, derived from the seed whenever it is needed: a million users cost no memory.
#[derive(Clone, Copy)]
pub(super) struct User {
    pub country: u8,
    pub home: u16,
    devices: u32,
    first_device: u64,
    payment: u8,
    /// How much more than others, on a logarithmic scale.
    log_level: f64,
}

impl User {
    pub(super) fn device(&self, dice: &mut Dice) -> u64 {
        mix(self.first_device ^ u64::from(dice.below(self.devices)))
    }

    /// The usual method, or another one now and then.
    pub(super) fn payment(&self, dice: &mut Dice) -> u8 {
        const OTHERS: [u8; 16] = [0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5];
        if dice.chance(0.8) { self.payment } else { *dice.pick(&OTHERS).unwrap_or(&CREDIT_CARD) }
    }
}

pub(super) struct World {
    seed: u64,
    users: u32,
    pub merchants: Vec<Merchant>,
    electronics: Vec<u32>,
    exchanges: Vec<u32>,
    /// `City, Country`, all countries one after the other.
    pub locations: Vec<Box<str>>,
    /// The first location of each country, and one past the last.
    first_location: [u16; COUNTRIES.len() + 1],
    home_countries: [u8; 1024],
}

impl World {
    pub(super) fn new(seed: u64, users: u32, merchants: u32) -> Self {
        let mut locations = Vec::new();
        let mut first_location = [0; COUNTRIES.len() + 1];
        for (country, next) in COUNTRIES.iter().zip(first_location.iter_mut().skip(1)) {
            locations.extend(country.cities.iter().map(|city| format!("{city}, {}", country.name).into_boxed_str()));
            *next = u16::try_from(locations.len()).unwrap_or(u16::MAX);
        }
        let categories: [u8; 1024] = spread(CATEGORIES.map(|category| category.weight));
        let merchants: Vec<Merchant> = (0..merchants).map(|index| merchant(seed, index, &categories)).collect();
        let of = |category: u8| {
            (0_u32..)
                .zip(&merchants)
                .filter(|(_, merchant)| merchant.category == category)
                .map(|(index, _)| index)
                .collect()
        };
        let (electronics, exchanges) = (of(ELECTRONICS), of(EXCHANGE));
        let home_countries = spread(COUNTRIES.each_ref().map(|country| country.weight));
        Self { seed, users, merchants, electronics, exchanges, locations, first_location, home_countries }
    }

    /// A customer: 5% buy four times as often as the average, 70% half as often.
    pub(super) fn customer(&self, dice: &mut Dice) -> u32 {
        let bits = dice.bits();
        let users = self.users;
        let (often, regular) = (users / 20, users / 20 * 6);
        let (from, to) = match bits & 0xff {
            0..51 if often > 0 => (0, often),
            0..153 if regular > often => (often, regular),
            _ => (regular, users),
        };
        1 + (from + scale(mix(bits), to - from)) % users
    }

    pub(super) fn user(&self, user: u32) -> User {
        let bits = mix(self.seed ^ mix(u64::from(user)));
        let more = mix(bits);
        let country = self.home_countries[(bits & 1023) as usize];
        let payment = match (bits >> 10) & 0xff {
            0..105 => CREDIT_CARD,
            105..180 => DEBIT_CARD,
            180..212 => 2,
            212..228 => 3,
            228..252 => DIGITAL_WALLET,
            _ => CRYPTO,
        };
        User {
            country,
            home: self.location_in(country, bits >> 20),
            devices: 1 + scale(bits.rotate_left(17), 3),
            first_device: more,
            payment,
            log_level: (unit(more) - 0.5) * 1.2,
        }
    }

    /// A merchant, a few far more popular than most: the first of 2,000 has some 5% of the sales.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the number of merchants")]
    pub(super) fn merchant(&self, dice: &mut Dice) -> u32 {
        let u = dice.unit();
        let count = u32::try_from(self.merchants.len()).unwrap_or(u32::MAX);
        ((f64::from(count) * u * u * u.sqrt()) as u32).min(count.saturating_sub(1))
    }

    pub(super) fn electronics(&self, dice: &mut Dice) -> u32 {
        dice.pick(&self.electronics).copied().unwrap_or_else(|| self.merchant(dice))
    }

    pub(super) fn exchange(&self, dice: &mut Dice) -> u32 {
        dice.pick(&self.exchanges).copied().unwrap_or_else(|| self.merchant(dice))
    }

    pub(super) fn price(&self, merchant: u32, user: &User, dice: &mut Dice) -> f64 {
        let Some(merchant) = self.merchants.get(merchant as usize) else { return 1.0 };
        let price = exp(merchant.log_price + user.log_level + merchant.spread * dice.normal());
        cents(price.clamp(0.5, 20_000.0))
    }

    /// Abroad: one of the other countries, or of those with a high risk.
    pub(super) fn abroad(&self, home: u8, high_risk: bool, dice: &mut Dice) -> u16 {
        let count = u32::try_from(COUNTRIES.len()).unwrap_or(1);
        for _ in 0..16 {
            let country = dice.below(count);
            let fits = COUNTRIES.get(country as usize).is_some_and(|country| country.high_risk || !high_risk);
            if fits && country != u32::from(home) {
                return self.location_in(u8::try_from(country).unwrap_or(0), dice.bits());
            }
        }
        self.location_in(home, dice.bits())
    }

    fn location_in(&self, country: u8, bits: u64) -> u16 {
        let first = self.first_location[country as usize];
        let next = self.first_location[country as usize + 1];
        first + u16::try_from(scale(mix(bits), u32::from(next - first))).unwrap_or(0)
    }
}

/// Whole cents.
pub(super) fn cents(amount: f64) -> f64 {
    (amount * 100.0).round() / 100.0
}

fn merchant(seed: u64, index: u32, categories: &[u8; 1024]) -> Merchant {
    let bits = mix(seed.rotate_left(32) ^ mix(u64::from(index) + 0x6d65_7263));
    let category = categories[(bits & 1023) as usize];
    let Category { word, price, spread, .. } = CATEGORIES[category as usize];
    let brand = BRANDS[scale(bits, 24) as usize];
    Merchant {
        name: format!("{brand} {word} {index}").into(),
        id: format!("M{index:07}").into(),
        category,
        log_price: ln(price) + (unit(mix(bits)) - 0.5) * 0.8,
        spread,
    }
}

/// The natural logarithm by Newton's method on [`exp`], for prices from 1 to 1,000.
fn ln(price: f64) -> f64 {
    (0..20).fold(4.0, |guess, _| guess + price / exp(guess) - 1.0)
}

/// 1,024 places shared out by weight: a place drawn at random is a weighted choice.
fn spread<const N: usize>(weights: [u16; N]) -> [u8; 1024] {
    let total: u32 = weights.iter().map(|weight| u32::from(*weight)).sum();
    let mut places = [0; 1024];
    for (place, slot) in (0_u32..).zip(places.iter_mut()) {
        let mut left = place * total / 1024;
        *slot = (0_u8..)
            .zip(weights)
            .find(|(_, weight)| {
                let found = left < u32::from(*weight);
                left = left.saturating_sub(u32::from(*weight));
                found
            })
            .map_or(0, |(index, _)| index);
    }
    places
}
