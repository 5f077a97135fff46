//! `assay features`: what the SQL files declare, for people and machines.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use assay::features::{Enabled, Feature, FeatureSettings, in_words};
use assay::refine::TableDef;
use clap::Args;
use serde_json::json;

use crate::app::{App, usage};
use crate::exit::Exit;
use crate::ui::{Look, render_table};

/// List the features that the SQL files declare: what each one is, of whom, over which window.
#[derive(Debug, Clone, Args)]
pub struct FeaturesArgs {
    /// Only those about this entity, such as `user_id`
    #[arg(long, value_name = "COLUMN")]
    pub entity: Option<String>,
}

pub fn run(args: FeaturesArgs, app: &App) -> anyhow::Result<Exit> {
    let settings = FeatureSettings { enabled: Enabled::Yes, ..app.settings.features.clone() };
    let catalog = app.catalog(app.contract()?.as_ref())?.with_features(&settings, |_| true);
    let wanted = |feature: &&Feature| args.entity.as_ref().is_none_or(|entity| *entity == feature.entity);
    let declared: Vec<(&TableDef, &Feature)> = catalog
        .tables
        .iter()
        .flat_map(|def| def.features.iter().filter(wanted).map(move |feature| (def, feature)))
        .collect();
    if let (Some(entity), true) = (&args.entity, declared.is_empty()) {
        let mut known: Vec<&str> =
            catalog.tables.iter().flat_map(|def| def.features.iter().map(|feature| feature.entity.as_str())).collect();
        known.sort_unstable();
        known.dedup();
        return Err(usage(format!("no feature is of the entity `{entity}`; there are {}", known.join(", "))));
    }
    if app.json {
        let lines: Vec<_> = declared.iter().map(|(def, feature)| line(def, feature)).collect();
        say!("{}", serde_json::to_string(&lines)?)?;
        return Ok(Exit::Done);
    }
    let column = |cell: &dyn Fn(&TableDef, &Feature) -> String| {
        Arc::new(declared.iter().map(|(def, feature)| Some(cell(def, feature))).collect::<StringArray>()) as ArrayRef
    };
    let batch = RecordBatch::try_from_iter([
        ("feature", column(&|_, feature| feature.column.clone())),
        ("entity", column(&|_, feature| feature.entity.clone())),
        ("aggregate", column(&|_, feature| feature.measure())),
        ("over", column(&|_, feature| feature.reach())),
        ("grain", column(&|_, feature| grain(feature))),
        ("about", column(&|_, feature| feature.about.clone())),
    ])?;
    crate::ui::print(format_args!("{}", render_table(&batch.schema(), &[batch], Look::of_stdout())?))?;
    let tables: std::collections::BTreeSet<String> = declared.iter().map(|(def, _)| def.table.to_string()).collect();
    let tables = tables.into_iter().collect::<Vec<_>>().join(", ");
    let filled = match app.settings.features.enabled {
        Enabled::Yes => "",
        Enabled::No => ", which is not filled: [features] enabled = false",
        Enabled::Auto => ", kept by a lake that has it: [features] enabled = \"auto\"",
    };
    say!("{} features in {tables}{filled}", declared.len())?;
    Ok(Exit::Done)
}

/// What the borders of a window depend on.
fn grain(feature: &Feature) -> String {
    feature.grain_us.map_or_else(|| "exact".to_owned(), in_words)
}

fn line(def: &TableDef, feature: &Feature) -> serde_json::Value {
    json!({
        "feature": feature.column,
        "table": def.table.to_string(),
        "entity": feature.entity,
        "aggregate": feature.aggregate.as_str(),
        "of": feature.of,
        "filter": feature.filter,
        "window_us": feature.window_us,
        "grain_us": feature.grain_us,
        "last": feature.last,
        "label_delay_us": feature.label_delay.map(assay::features::LabelDelay::us),
        "about": feature.about,
    })
}
