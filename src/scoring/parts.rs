//! Transactions that come together, by the version that answers for each.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::error::ArrowError;

use super::scores::Chunk;
use super::{Chosen, Item, Role, Scorer, Scores, ScoringError, Served, Trial};
use crate::contract::Decoded;
use crate::domain::Stint;

/// Transactions that one version is to be asked about; no model was asked yet.
#[derive(Debug)]
pub struct Part {
    scores: Scores,
    /// Of the champion, which answers what a challenger cannot.
    chosen: Chosen,
}

/// What came of asking.
#[derive(Debug)]
pub struct Asked {
    /// Of a challenger: its answers, then those of the champion in its place, where there are any.
    pub scores: Vec<Scores>,
    /// Transactions that the version could not say anything of: a challenger, where the champion could.
    pub failed: u64,
    /// Of a challenger.
    pub trial: Option<Arc<Trial>>,
}

impl Part {
    #[must_use]
    pub fn role(&self) -> Role {
        self.scores.role
    }

    /// Of its transactions, among those that came together.
    #[must_use]
    pub fn places(&self) -> &[usize] {
        &self.scores.places
    }

    #[must_use]
    pub fn rows(&self) -> usize {
        self.scores.rows()
    }
}

/// Which version answers for a transaction, and its number among those that do.
#[derive(Default)]
struct Routes(Vec<(Role, Arc<Served>)>);

impl Routes {
    /// 0 is the champion's.
    fn number(&mut self, role: Role, model: &Arc<Served>) -> usize {
        let known = self.0.iter().position(|(known, served)| *known == role && Arc::ptr_eq(served, model));
        1 + known.unwrap_or_else(|| {
            self.0.push((role, Arc::clone(model)));
            self.0.len() - 1
        })
    }
}

impl Scorer {
    /// Refines JSON objects and looks up what is known of their past. `pins` are the versions that their senders named, in
    /// the order of the objects; empty when nobody did. The champion's part comes first, and holds what is refused.
    ///
    /// # Errors
    /// As [`Scorer::score_json`].
    pub fn prepare_json<'a>(
        &self,
        payloads: impl ExactSizeIterator<Item = &'a [u8]>,
        pins: &[Option<Arc<Served>>],
    ) -> Result<Vec<Part>, ScoringError> {
        let began_us = self.traces.now_us();
        let decoded = self.pipeline.decode(payloads);
        let parsed = Stint::new(began_us, self.traces.now_us());
        self.prepare_parsed(decoded, Some(parsed), |place| pins.get(place).and_then(Option::as_ref))
    }

    /// As [`Scorer::prepare_json`], with rows of the contract; `pin` tells the version that was named for a place.
    ///
    /// # Errors
    /// As [`Scorer::score_json`].
    pub fn prepare<'a>(
        &self,
        decoded: Decoded,
        pin: impl Fn(usize) -> Option<&'a Arc<Served>>,
    ) -> Result<Vec<Part>, ScoringError> {
        self.prepare_parsed(decoded, None, pin)
    }

    fn prepare_parsed<'a>(
        &self,
        decoded: Decoded,
        parsed: Option<Stint>,
        pin: impl Fn(usize) -> Option<&'a Arc<Served>>,
    ) -> Result<Vec<Part>, ScoringError> {
        let chosen = self.models.chosen();
        let mut whole = self.refine(decoded)?;
        if let (Some(watch), Some(parsed)) = (&whole.watch, parsed) {
            watch.took("parse", parsed.began_us, parsed.ended_us);
        }
        let mut routes = Routes::default();
        let of_chunks: Vec<Vec<usize>> =
            whole.chunks.iter().map(|chunk| self.routes_of(chunk, &chosen, &pin, &mut routes)).collect();
        whole.model.clone_from(&chosen.champion);
        if routes.0.is_empty() {
            return Ok(vec![Part { scores: whole, chosen }]);
        }
        apart(whole, &of_chunks, &routes, &chosen).map_err(|error| ScoringError::Contract(error.to_string()))
    }

    fn routes_of<'a>(
        &self,
        chunk: &Chunk,
        chosen: &Chosen,
        pin: &impl Fn(usize) -> Option<&'a Arc<Served>>,
        routes: &mut Routes,
    ) -> Vec<usize> {
        let challenger = chosen.challenger.as_ref().filter(|challenger| challenger.trial.is_on());
        let drawn = match (&self.split, challenger) {
            (Some(split), Some(challenger)) => split.rows(&challenger.served.version, &chunk.silver),
            _ => Vec::new(),
        };
        let mut of_row = |(row, (_, place)): (usize, &(u32, usize))| {
            if let Some(pinned) = pin(*place) {
                return routes.number(Role::Pinned, pinned);
            }
            match challenger {
                Some(challenger) if drawn.get(row) == Some(&true) => {
                    routes.number(Role::Challenger, &challenger.served)
                }
                _ => 0,
            }
        };
        chunk.origins.iter().enumerate().map(&mut of_row).collect()
    }

    /// Asks the version of a part. What a challenger cannot answer, the champion does; a panic of a challenger is an error of
    /// it, and no more.
    #[must_use]
    pub fn ask(&self, part: Part) -> Asked {
        let Part { mut scores, chosen } = part;
        if scores.role != Role::Challenger {
            scores.ask(chosen.problem.as_deref());
            let failed = scores.unanswered();
            return Asked { scores: vec![scores], failed, trial: None };
        }
        let trial = chosen.challenger.as_ref().map(|challenger| Arc::clone(&challenger.trial));
        let Some((own, mut rest)) = scores.ask_or_leave() else {
            return Asked { scores: vec![scores], failed: 0, trial };
        };
        rest.role = Role::Champion;
        rest.model.clone_from(&chosen.champion);
        rest.ask(chosen.problem.as_deref());
        let failed = rest.rows() as u64 - rest.unanswered();
        let scores = own.into_iter().chain([rest]).collect();
        Asked { scores, failed, trial }
    }

    /// What a version says of transactions that the champion was asked about, and how many it can say nothing of. `None`
    /// when that is all of them.
    #[must_use]
    pub fn shadow(&self, of: &Scores, version: &Arc<Served>) -> (Option<Scores>, u64) {
        let mut scores = of.apart(Role::Shadow, Some(Arc::clone(version)));
        scores.ids = self.next_ids(of.ids.count);
        scores.ids.shadow_of = Some(of.ids.first);
        for chunk in of.chunks() {
            let all: Vec<usize> = (0..chunk.silver.num_rows()).collect();
            if let Ok(chunk) = chunk.take(&all) {
                scores.push(chunk);
            }
        }
        match scores.ask_or_leave() {
            None => (Some(scores), 0),
            Some((own, rest)) => (own, rest.rows() as u64),
        }
    }
}

/// Parts of what came together, each with the rows of one version.
fn apart(whole: Scores, of_chunks: &[Vec<usize>], routes: &Routes, chosen: &Chosen) -> Result<Vec<Part>, ArrowError> {
    let mut champion = whole.apart(Role::Champion, whole.model.clone());
    for (place, item) in whole.items.iter().enumerate() {
        if let Item::Refused(_) = item {
            champion.items.push(item.clone());
            champion.places.push(place);
        }
    }
    let others = routes.0.iter().map(|(role, model)| whole.apart(*role, Some(Arc::clone(model))));
    let mut all: Vec<Scores> = std::iter::once(champion).chain(others).collect();
    for (chunk, of_rows) in whole.chunks.iter().zip(of_chunks) {
        for (number, scores) in all.iter_mut().enumerate() {
            let rows: Vec<usize> =
                of_rows.iter().enumerate().filter(|(_, of)| **of == number).map(|(row, _)| row).collect();
            if !rows.is_empty() {
                scores.push(chunk.take(&rows)?);
            }
        }
    }
    all.retain(|scores| !scores.items.is_empty());
    Ok(all.into_iter().map(|scores| Part { scores, chosen: chosen.clone() }).collect())
}

impl Scores {
    /// Rows that the version says nothing of.
    fn unanswered(&self) -> u64 {
        let rows = |(number, chunk): (usize, &Chunk)| {
            (0..chunk.silver.num_rows()).filter(|row| self.probability(number, *row).is_err()).count() as u64
        };
        self.chunks().iter().enumerate().map(rows).sum()
    }

    /// Asks the version, whatever it does. Where it says nothing of some rows: those of which it does say something, and
    /// those of which it does not.
    fn ask_or_leave(&mut self) -> Option<(Option<Self>, Self)> {
        if catch_unwind(AssertUnwindSafe(|| self.ask(None))).is_err() {
            tracing::error!(version = %self.version(), "the version panicked");
            self.chunks.iter_mut().for_each(|chunk| chunk.answers = Err("the version panicked".to_owned()));
        }
        if self.unanswered() == 0 {
            return None;
        }
        let mut own = self.apart(self.role, self.model.clone());
        let mut rest = self.apart(self.role, None);
        for (number, chunk) in self.chunks.iter().enumerate() {
            let rows = 0..chunk.silver.num_rows();
            let (told, untold): (Vec<usize>, Vec<usize>) = rows.partition(|row| self.probability(number, *row).is_ok());
            for (scores, rows) in [(&mut own, told), (&mut rest, untold)] {
                let taken = (!rows.is_empty()).then(|| chunk.take(&rows)).transpose();
                // Rows of one's own that cannot be picked: an error of assay, told by an answer that is missing.
                if let Ok(Some(taken)) = taken {
                    scores.push(taken);
                }
            }
        }
        // Rows are independent of each other: those left say the same again.
        if catch_unwind(AssertUnwindSafe(|| own.ask(None))).is_err() {
            own.chunks.drain(..).for_each(|chunk| rest.push(chunk));
            return Some((None, rest));
        }
        Some(((!own.items.is_empty()).then_some(own), rest))
    }

    fn version(&self) -> String {
        self.model.as_ref().map(|model| model.version.to_string()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
