//! What people buy, and how thieves do.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::event::Scenario;
use super::random::{Dice, mix};
use super::world::{CREDIT_CARD, CRYPTO, DEBIT_CARD, DIGITAL_WALLET, World, cents};

/// Who buys where for how much.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purchase {
    pub user: u32,
    pub merchant: u32,
    pub amount: f64,
    pub location: u16,
    pub payment: u8,
    pub device: u64,
}

impl Purchase {
    /// A customer at home with an own device, but for a few who travel or have a new one.
    pub(super) fn ordinary(world: &World, dice: &mut Dice) -> Self {
        let id = world.customer(dice);
        let user = world.user(id);
        let merchant = world.merchant(dice);
        let unusual = dice.unit();
        let location = if unusual < 0.012 { world.abroad(user.country, false, dice) } else { user.home };
        let device = if (0.012..0.02).contains(&unusual) { dice.bits() } else { user.device(dice) };
        let payment = user.payment(dice);
        Self { user: id, merchant, amount: world.price(merchant, &user, dice), location, payment, device }
    }
}

/// A purchase of a thief, at its time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planned {
    at_us: i64,
    /// Tells purchases of the same time apart, in the order in which they were planned.
    number: u64,
    pub scenario: Scenario,
    pub purchase: Purchase,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        (self.at_us, self.number) == (other.at_us, other.number)
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.number).cmp(&(other.at_us, other.number))
    }
}

/// The purchases that thieves have planned.
pub(super) struct Campaigns {
    /// Chance that a campaign starts at a message.
    start: f64,
    planned: BinaryHeap<Reverse<Planned>>,
    number: u64,
}

/// Purchases of a campaign on average, over all scenarios as they are drawn below.
const PURCHASES_MEAN: f64 = 0.34 * 8.0 + 0.12 * 14.5 + 0.32 * 4.0 + 0.22 * 3.0;

impl Campaigns {
    pub(super) fn new(fraud: f64) -> Self {
        Self { start: fraud / PURCHASES_MEAN, planned: BinaryHeap::new(), number: 0 }
    }

    pub(super) fn due(&mut self, now_us: i64) -> Option<Planned> {
        let is_due = self.planned.peek().is_some_and(|Reverse(first)| first.at_us <= now_us);
        is_due.then(|| self.planned.pop().map(|Reverse(first)| first)).flatten()
    }

    /// Lets a campaign start by chance, and plans all of its purchases.
    pub(super) fn start_some(&mut self, world: &World, dice: &mut Dice, now_us: i64) {
        if !dice.chance(self.start) {
            return;
        }
        match dice.unit() {
            0.0..0.34 => self.stolen_card(world, dice, now_us),
            0.34..0.46 => self.compromised_merchant(world, dice, now_us),
            0.46..0.78 => self.account_takeover(world, dice, now_us),
            _ => self.crypto_cash_out(world, dice, now_us),
        }
    }

    /// One or two small tests of the card, then a burst of dear things, all within minutes and from one strange device.
    fn stolen_card(&mut self, world: &World, dice: &mut Dice, mut at_us: i64) {
        let mut victim = Purchase::ordinary(world, dice);
        let user = world.user(victim.user);
        victim.device = dice.bits();
        victim.location = if dice.chance(0.5) { world.abroad(user.country, dice.chance(0.3), dice) } else { user.home };
        victim.payment = if dice.chance(0.75) { CREDIT_CARD } else { DEBIT_CARD };
        for step in 0..5 + dice.below(7) {
            at_us += seconds(dice.between(20.0, 110.0));
            let (merchant, amount) = if step < 2 {
                (world.merchant(dice), dice.between(0.5, 3.0))
            } else {
                (world.electronics(dice), dice.between(150.0, 1_400.0))
            };
            self.plan(at_us, Scenario::StolenCard, Purchase { merchant, amount: cents(amount), ..victim });
        }
    }

    /// Cards skimmed at one shop are charged there again, with round sums, for the better part of an hour.
    fn compromised_merchant(&mut self, world: &World, dice: &mut Dice, mut at_us: i64) {
        let merchant = world.merchant(dice);
        for _ in 0..8 + dice.below(14) {
            at_us += seconds(dice.between(30.0, 200.0));
            let victim = Purchase::ordinary(world, dice);
            let amount = f64::from(2 + dice.below(16)) * 50.0 - 0.01 * f64::from(dice.below(2));
            let device = if dice.chance(0.6) { mix(u64::from(merchant)) } else { victim.device };
            let payment = if dice.chance(0.8) { CREDIT_CARD } else { DEBIT_CARD };
            self.plan(
                at_us,
                Scenario::CompromisedMerchant,
                Purchase { merchant, amount: cents(amount), device, payment, ..victim },
            );
        }
    }

    /// A new device in a new country spends several times what the user does, some minutes apart.
    fn account_takeover(&mut self, world: &World, dice: &mut Dice, mut at_us: i64) {
        let mut victim = Purchase::ordinary(world, dice);
        let user = world.user(victim.user);
        victim.device = dice.bits();
        victim.location = world.abroad(user.country, dice.chance(0.5), dice);
        victim.payment = if dice.chance(0.5) { DIGITAL_WALLET } else { victim.payment };
        for _ in 0..3 + dice.below(3) {
            at_us += seconds(dice.between(60.0, 420.0));
            let merchant = if dice.chance(0.5) { world.electronics(dice) } else { world.merchant(dice) };
            let amount = (world.price(merchant, &user, dice) * dice.between(2.5, 8.0)).min(19_000.0);
            self.plan(at_us, Scenario::AccountTakeover, Purchase { merchant, amount: cents(amount), ..victim });
        }
    }

    /// What an account holds goes to an exchange in two to four large sums.
    fn crypto_cash_out(&mut self, world: &World, dice: &mut Dice, mut at_us: i64) {
        let mut victim = Purchase::ordinary(world, dice);
        victim.payment = CRYPTO;
        victim.merchant = world.exchange(dice);
        if dice.chance(0.7) {
            victim.device = dice.bits();
        }
        for _ in 0..2 + dice.below(3) {
            at_us += seconds(dice.between(40.0, 600.0));
            let amount = cents(dice.between(1_200.0, 9_500.0));
            self.plan(at_us, Scenario::CryptoCashOut, Purchase { amount, ..victim });
        }
    }

    fn plan(&mut self, at_us: i64, scenario: Scenario, purchase: Purchase) {
        self.number += 1;
        self.planned.push(Reverse(Planned { at_us, number: self.number, scenario, purchase }));
    }
}

#[allow(clippy::cast_possible_truncation, reason = "some minutes")]
fn seconds(seconds: f64) -> i64 {
    (seconds * 1e6) as i64
}
