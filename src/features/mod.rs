//! Features: what is known of a user, a merchant or a device when a transaction comes.
//!
//! A [`Feature`] is declared once; [`Features`] holds the keyed state that follows from a set of them. Pure and
//! synchronous: batches in, columns out; what lies in the past is asked of a [`History`](crate::domain::History).
//!
//! **What a value is.** For a row with event time *t*, a feature looks at the rows of the same entity that *arrived
//! before it*, the row itself not included: its own attributes are features of their own. Of these it takes
//!
//! - without a grain, those with event time in `(t - window, t]`, to the microsecond;
//! - with a grain, those in the pane of *t* and the `window / grain - 1` panes before it. Pane *p* is
//!   `[p * grain, (p + 1) * grain)`, counted from 1970-01-01T00:00Z. A row of the same pane counts although its event
//!   time is after *t*, because it was known;
//! - with a label delay, those in the `window / grain` panes before the one that *t - delay* falls into: nothing that is
//!   younger than the delay;
//! - of the last *N*, the *N* rows with the newest event times, as far as these are after `t - window`. Rows that share
//!   the oldest of those times with a row that is not among the *N* are left out, all of them, so that no order of
//!   arrival decides.
//!
//! All of these are functions of the *set* of rows that came before. So a value is the same at any cut into batches,
//! after any restart, and in any engine. A value given out is not revised when a late row comes.

mod columns;
mod declaration;
mod distinct;
mod entity;
mod keys;
mod log;
mod operator;
mod panes;
mod plan;
mod recent;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod words;

pub use declaration::{Aggregate, EXACT_WINDOW_US_MAX, Feature, LabelDelay, in_words};
pub(crate) use keys::Keys;
pub use operator::Features;
pub use settings::{Enabled, FeatureSettings};
