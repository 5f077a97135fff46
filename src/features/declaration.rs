use super::settings::FeatureSettings;

/// Windows without a grain hold every event; longer ones are refused.
pub const EXACT_WINDOW_US_MAX: i64 = HOUR_US;
/// The past is read back so far at a start.
const WINDOW_US_MAX: i64 = 366 * DAY_US;
const GRAIN_US_MIN: i64 = MINUTE_US;
/// A row looks through the panes of its window.
const PANES_MAX: i64 = 400;
/// A row looks through the last events.
const LAST_MAX: usize = 100;

const SECOND_US: i64 = 1_000_000;
const MINUTE_US: i64 = 60 * SECOND_US;
const HOUR_US: i64 = 60 * MINUTE_US;
const DAY_US: i64 = 24 * HOUR_US;

/// What is made of the rows that a feature looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    /// How many there are.
    Count,
    /// The sum of `of`; 0 where there is none.
    Sum,
    /// The sum of `of` divided by the number of its values, one division of whole numbers in double precision; NULL where
    /// there is none.
    Average,
    /// How many different values of `of` there are.
    Distinct,
    /// The share of rows for which `of` is true, one division in double precision; NULL where there is none.
    Rate,
    /// Seconds since the newest of the last `last` rows that is not after the row; NULL where there is none.
    SecondsSincePrevious,
    /// Whether one of the last `last` rows has the same `of`.
    Seen,
    /// The share of the last `last` rows with another `of`; NULL where there is none.
    MismatchRate,
}

impl Aggregate {
    pub const ALL: [Self; 8] = [
        Self::Count,
        Self::Sum,
        Self::Average,
        Self::Distinct,
        Self::Rate,
        Self::SecondsSincePrevious,
        Self::Seen,
        Self::MismatchRate,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Average => "average",
            Self::Distinct => "distinct",
            Self::Rate => "rate",
            Self::SecondsSincePrevious => "seconds_since_previous",
            Self::Seen => "seen",
            Self::MismatchRate => "mismatch_rate",
        }
    }

    /// Whether it looks at the last rows instead of at all in the window.
    #[must_use]
    pub const fn is_of_last(self) -> bool {
        matches!(self, Self::SecondsSincePrevious | Self::Seen | Self::MismatchRate)
    }

    const fn needs_column(self) -> bool {
        !matches!(self, Self::Count | Self::SecondsSincePrevious)
    }
}

/// How long the labels that a rate counts take to arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelDelay {
    /// As the settings say.
    Setting(i64),
    /// As the declaration says.
    Own(i64),
}

impl LabelDelay {
    /// As the settings say when nothing is set.
    #[must_use]
    pub fn standard() -> Self {
        Self::Setting(FeatureSettings::default().label_delay_us())
    }

    #[must_use]
    pub const fn us(self) -> i64 {
        match self {
            Self::Setting(us) | Self::Own(us) => us,
        }
    }
}

/// A feature: a column of values about an entity, each as it was known when its row came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// The name of the column.
    pub column: String,
    /// The column whose value names the entity.
    pub entity: String,
    pub aggregate: Aggregate,
    /// The column that is summed up, compared or counted.
    pub of: Option<String>,
    /// A boolean column: only rows for which it is true are looked at.
    pub filter: Option<String>,
    pub window_us: i64,
    /// The length of a pane; `None` where the window is exact.
    pub grain_us: Option<i64>,
    /// How many of the newest rows are looked at.
    pub last: Option<usize>,
    pub label_delay: Option<LabelDelay>,
    /// One sentence for people.
    pub about: String,
}

impl Feature {
    /// Checks what can be known without the columns of the source.
    ///
    /// # Errors
    /// In words, for the first part that does not fit the others.
    pub fn check(&self) -> Result<(), String> {
        let name = self.aggregate.as_str();
        let refuse = |problem: String| Err(format!("the feature `{}` {problem}", self.column));
        if self.about.trim().is_empty() {
            return refuse("says nothing in `about`: say in one sentence what it is".to_owned());
        }
        if self.aggregate.needs_column() != self.of.is_some() {
            let problem = if self.of.is_some() { "looks at rows only; leave out" } else { "needs a column:" };
            return refuse(format!("is a {name}, which {problem} `of`"));
        }
        let back_us = self.label_delay.map_or(self.window_us, |delay| self.window_us.max(delay.us()));
        if back_us > WINDOW_US_MAX {
            return refuse(format!("looks back {}; at most 366 days are kept", in_words(back_us)));
        }
        if self.aggregate.is_of_last() {
            return self.check_last().or_else(refuse);
        }
        if self.last.is_some() {
            return refuse(format!("is a {name}, which looks at all rows of the window; leave out `last`"));
        }
        if self.filter.is_some() && matches!(self.aggregate, Aggregate::Distinct | Aggregate::Rate) {
            return refuse(format!("is a {name}, which takes no `filter`"));
        }
        if self.label_delay.is_some() && self.aggregate != Aggregate::Rate {
            return refuse(format!("is a {name}; `label_delay` belongs to a rate"));
        }
        self.check_grain().or_else(refuse)
    }

    fn check_last(&self) -> Result<(), String> {
        let name = self.aggregate.as_str();
        match self.last {
            Some(1..=LAST_MAX) => {}
            _ => return Err(format!("is a {name}: say of how many of the last rows with `last`, 1 to {LAST_MAX}")),
        }
        if self.grain_us.is_some() || self.filter.is_some() || self.label_delay.is_some() {
            return Err(format!("is a {name}, which takes no `grain`, `filter` or `label_delay`"));
        }
        Ok(())
    }

    fn check_grain(&self) -> Result<(), String> {
        let Some(grain_us) = self.grain_us else {
            if self.window_us > EXACT_WINDOW_US_MAX {
                return Err(format!(
                    "is exact over {}; at most an hour is: give a `grain`, such as \"1 hour\"",
                    in_words(self.window_us)
                ));
            }
            if matches!(self.aggregate, Aggregate::Distinct | Aggregate::Rate) {
                return Err(format!("is a {} and needs a `grain`", self.aggregate.as_str()));
            }
            return Ok(());
        };
        if grain_us < GRAIN_US_MIN || (self.aggregate == Aggregate::Distinct && grain_us < HOUR_US) {
            return Err(format!("has a grain of {}, which is too short", in_words(grain_us)));
        }
        if self.window_us % grain_us != 0 || self.window_us / grain_us > PANES_MAX {
            return Err(format!(
                "has a grain of {}, which must divide the window of {} into whole parts, at most {PANES_MAX}",
                in_words(grain_us),
                in_words(self.window_us)
            ));
        }
        Ok(())
    }

    /// The columns of the source that it looks at, its entity first.
    pub fn columns(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.entity).chain(&self.of).chain(&self.filter)
    }

    /// The aggregate with its column, for people: `sum(amount)`.
    #[must_use]
    pub fn measure(&self) -> String {
        let name = self.aggregate.as_str();
        let of = self.of.as_deref().unwrap_or(if self.aggregate == Aggregate::Count { "*" } else { "" });
        let filter = self.filter.as_ref().map_or_else(String::new, |filter| format!(" where {filter}"));
        format!("{name}({of}){filter}")
    }

    /// What it looks back on, for people: `24 hours`, `last 20 in 30 days`.
    #[must_use]
    pub fn reach(&self) -> String {
        let window = in_words(self.window_us);
        let delay = self.label_delay.map_or_else(String::new, |delay| format!(", {} ago", in_words(delay.us())));
        self.last.map_or(format!("{window}{delay}"), |last| format!("last {last} in {window}"))
    }
}

/// A length of time as people write it: the largest unit of which it is a whole number.
#[must_use]
pub fn in_words(us: i64) -> String {
    let units =
        [(DAY_US, "day"), (HOUR_US, "hour"), (MINUTE_US, "minute"), (SECOND_US, "second"), (1_000, "millisecond")];
    let fits = |(unit, _): &&(i64, &str)| us >= *unit && us % unit == 0;
    // A day is more often called 24 hours.
    let unit = if us == DAY_US { Some(&(HOUR_US, "hour")) } else { units.iter().find(fits) };
    match unit {
        Some((unit, name)) if us == *unit => format!("1 {name}"),
        Some((unit, name)) => format!("{} {name}s", us / unit),
        None => format!("{us} microseconds"),
    }
}
