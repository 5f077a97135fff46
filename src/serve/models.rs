use serde_json::{Value, json};

use crate::scoring::Scorer;

/// The versions of the model that is served, the newest first. Reads files.
pub(super) fn told(scorer: &Scorer) -> Result<Value, String> {
    let models = &scorer.models;
    let (registry, name) = (models.registry(), models.name());
    let aliases = registry.aliases(name).map_err(|error| error.to_string())?;
    let mut versions = Vec::new();
    for version in registry.versions(name).map_err(|error| error.to_string())? {
        let manifest = registry.manifest(name, &version);
        let (manifest, damage) = match manifest {
            Ok(manifest) => (Some(manifest), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let recorded = manifest.as_ref().and_then(|manifest| manifest.recorded.as_ref());
        versions.push(json!({
            "version": version,
            "aliases": aliases.of(&version),
            "passed": manifest.as_ref().is_some_and(|manifest| manifest.passed),
            "family": recorded.map(|recorded| recorded.family),
            "threshold": recorded.map(|recorded| recorded.threshold),
            "f1": recorded.map(|recorded| recorded.out_of_fold.f1),
            "average_precision": recorded.and_then(|recorded| recorded.out_of_fold.average_precision),
            "epoch": manifest.as_ref().and_then(|manifest| manifest.data.lake.as_ref()).map(|lake| lake.epoch),
            "damage": damage,
        }));
    }
    let chosen = models.chosen();
    let standing = scorer.features.standing();
    let serving = chosen.champion.map(|champion| {
        json!({
            "version": champion.version,
            "threshold": champion.threshold(),
            "features": champion.features(),
            "model_blake3": champion.blake3,
            "contributions_in": champion.scale(),
        })
    });
    let settings = &scorer.settings;
    let challenger = chosen.challenger.map(|challenger| {
        let verdict = challenger.trial.verdict();
        json!({
            "version": challenger.served.version,
            "threshold": challenger.served.threshold(),
            "share": if verdict.is_none() { settings.challenger_share } else { 0.0 },
            "shadow": settings.shadow,
            "taken_out": verdict.map(|verdict| json!({
                "cause": verdict.cause.as_str(),
                "transactions": verdict.seen.transactions,
                "failed": verdict.seen.failed,
                "slow": verdict.seen.slow,
            })),
        })
    });
    Ok(json!({
        "model": name,
        "serving": serving,
        "problem": chosen.problem,
        "challenger": challenger,
        "challenger_problem": chosen.challenger_problem,
        "features_epoch": standing.epoch,
        "versions": versions,
    }))
}
