//! A version as one ONNX graph: from the cells of a row to its calibrated probability and the decision.
//!
//! All arithmetic is of doubles, as ours is; only features are single, as ours are. Trees are the operator `TreeEnsemble`
//! of ai.onnx.ml 5, the first whose thresholds, leaves, sums and result can be doubles: the older ones give their sum as
//! a single, and a steep calibration makes much of its last digits.

use prost::Message;
use serde_json::json;

use super::OnnxError;
use super::graph::{Graph, ML_DOMAIN, bytes, doubles, int, ints, tensor, texts};
use super::proto::{ModelProto, OperatorSetIdProto, StringStringEntryProto, element};
use crate::model::calibration::{Calibration, PLATT_EDGE};
use crate::model::registry::{MODEL_FILE, Manifest};
use crate::model::table::{Encoding, FeatureKind};
use crate::model::tree::{Node, Trees};
use crate::model::{Logistic, Model, Scaling, TrainedModel};

/// ONNX 1.16, which has ai.onnx.ml 5; onnxruntime reads it from 1.20 on.
const IR_VERSION: i64 = 10;
const OPSET: i64 = 21;
const ML_OPSET: i64 = 5;

/// What the graph gives of each row.
pub const PROBABILITY: &str = "fraud_probability";
pub const DECISION: &str = "is_fraud";
/// Names of steps begin so, those of columns do not.
const INNER: &str = "/assay/";

/// The bytes of an ONNX file: the same version gives the same.
///
/// # Errors
/// When a column has a name that a graph cannot have.
pub fn export(manifest: &Manifest, model: &TrainedModel) -> Result<Vec<u8>, OnnxError> {
    let mut graph = Graph::default();
    check_names(&manifest.encoding)?;
    let missing = missing_texts(&manifest.encoding);
    let features = features(&mut graph, &manifest.encoding, &missing);
    let calibrated = &model.calibrated;
    let score = match &calibrated.model {
        Model::Logistic(line) => logistic(&mut graph, line, &features),
        Model::Forest(forest) => {
            let sum = trees(&mut graph, forest.flat(), &features);
            let count = graph.double("/assay/trees", forest.trees() as f64);
            graph.step("Div", &[&sum, &count], "/assay/score", Vec::new())
        }
        Model::Boost(boost) => {
            let sum = trees(&mut graph, boost.flat(), &features);
            let start = graph.double("/assay/start", boost.start());
            let sum = graph.step("Add", &[&sum, &start], "/assay/log_odds", Vec::new());
            graph.step("Sigmoid", &[&sum], "/assay/score", Vec::new())
        }
    };
    let probability = calibration(&mut graph, &calibrated.calibration, &score);
    let threshold = graph.double("/assay/threshold", model.threshold);
    let decision = graph.step("GreaterOrEqual", &[&probability, &threshold], "/assay/decision", Vec::new());
    graph.output(PROBABILITY, &probability, element::DOUBLE, "The calibrated probability, within 0 and 1.");
    graph.output(DECISION, &decision, element::BOOL, "Whether the probability reaches the threshold.");
    let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.to_owned(), version };
    let file = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "assay".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        domain: String::new(),
        doc_string: format!(
            "{}@{}: give each column as a tensor of the shape [rows, 1], under its own name. Numbers are doubles, a \
             missing one is NaN; true is 1 and false is 0; a missing text is what `assay.columns` of the metadata says.",
            manifest.name, manifest.version
        ),
        graph: Some(graph.finish(manifest.name.as_str())),
        opset_import: vec![opset("", OPSET), opset(ML_DOMAIN, ML_OPSET)],
        metadata_props: metadata(manifest, model, &missing)?,
    };
    Ok(file.encode_to_vec())
}

fn check_names(encoding: &Encoding) -> Result<(), OnnxError> {
    let taken = |name: &str| name.is_empty() || name == PROBABILITY || name == DECISION || name.starts_with(INNER);
    match encoding.columns.iter().find(|column| taken(&column.column)) {
        Some(column) => Err(OnnxError::ColumnName { column: column.column.clone() }),
        None => Ok(()),
    }
}

/// A tensor of texts has no missing ones: of each column of texts, what stands for it. The empty text is a value like any
/// other.
fn missing_texts(encoding: &Encoding) -> Vec<Option<String>> {
    let of = |kind: &FeatureKind| {
        let FeatureKind::Category { values } = kind else { return None };
        let mut mark = "<missing>".to_owned();
        while values.contains(&mark) {
            mark = format!("<{mark}>");
        }
        Some(mark)
    };
    encoding.columns.iter().map(|column| of(&column.kind)).collect()
}

/// Columns become inputs, and what they give the matrix of features in the model's order.
fn features(graph: &mut Graph, encoding: &Encoding, missing: &[Option<String>]) -> String {
    // Blocks lie side by side in the order in which they are made; `order` says where each feature of the model is.
    let (mut numbers, mut fills, mut picked, mut told) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut places, mut blocks): (Vec<Place>, Vec<(String, usize)>) = (Vec::new(), Vec::new());
    for (column, mark) in encoding.columns.iter().zip(missing) {
        let name = &column.column;
        let fill = match &column.kind {
            FeatureKind::Category { values } => {
                let mark = mark.as_deref().unwrap_or_default();
                let about = format!("A text; a missing one is {mark:?}.");
                graph.input(name, element::STRING, &about);
                let marks = [mark].into_iter().filter(|_| column.tells_missing);
                let width = values.len() + usize::from(column.tells_missing);
                if width == 0 {
                    continue;
                }
                let all = values.iter().map(String::as_str).chain(marks);
                let attributes = vec![texts("cats_strings", all), int("zeros", 1)];
                let hot = graph.ml_step("OneHotEncoder", &[name], &format!("/assay/is/{name}"), attributes);
                let shape = graph.longs(&format!("/assay/shape/{name}"), &[-1, length(width)]);
                let flat = graph.step("Reshape", &[&hot, &shape], &format!("/assay/flat/{name}"), Vec::new());
                places.extend((0..width).map(|at| Place::Block(blocks.len(), at)));
                blocks.push((flat, width));
                continue;
            }
            FeatureKind::Boolean => vec![0.0],
            kind => kind.fills(),
        };
        let about =
            if column.kind == FeatureKind::Boolean { "1 or 0; a missing one is NaN." } else { "A missing one is NaN." };
        graph.input(name, element::DOUBLE, about);
        for fill in fill {
            places.push(Place::Number(fills.len()));
            fills.push(fill);
            picked.push(length(numbers.len()));
        }
        if column.tells_missing {
            places.push(Place::Told(told.len()));
            told.push(length(numbers.len()));
        }
        numbers.push(name.as_str());
    }
    let mut parts = Vec::new();
    if !numbers.is_empty() {
        let raw = graph.concat(&numbers, "/assay/cells");
        let single = graph.cast(&raw, element::FLOAT, "/assay/singles");
        let is_missing = graph.step("IsNaN", &[&single], "/assay/missing", Vec::new());
        let width = numbers.len();
        let values = graph.columns(&single, &picked, width, "/assay/values");
        let gaps = graph.columns(&is_missing, &picked, width, "/assay/gaps");
        let fill = graph.floats("/assay/fills", &fills);
        parts.push(graph.step("Where", &[&gaps, &fill, &values], "/assay/filled", Vec::new()));
        if !told.is_empty() {
            let told = graph.columns(&is_missing, &told, width, "/assay/told");
            parts.push(graph.cast(&told, element::FLOAT, "/assay/flags"));
        }
    }
    let (after_numbers, after_told) = (fills.len(), fills.len() + told.len());
    let mut starts = Vec::new();
    let mut end = after_told;
    for (block, width) in blocks {
        starts.push(end);
        end += width;
        parts.push(block);
    }
    let order: Vec<i64> = places
        .iter()
        .map(|place| match place {
            Place::Number(at) => length(*at),
            Place::Told(at) => length(after_numbers + at),
            Place::Block(block, at) => length(starts.get(*block).unwrap_or(&0) + at),
        })
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let all = graph.concat(&parts, "/assay/parts");
    let single = graph.columns(&all, &order, end, "/assay/features");
    graph.cast(&single, element::DOUBLE, "/assay/doubles")
}

/// Where a feature of the model lies.
enum Place {
    Number(usize),
    Told(usize),
    /// Of a column of texts, by its number.
    Block(usize, usize),
}

/// The log-odds are of doubles; what a feature adds is in the order of ours but for the order of the sum.
fn logistic(graph: &mut Graph, line: &Logistic, features: &str) -> String {
    let scaler = line.scaler();
    let mut rows = features.to_owned();
    if scaler.scaling() == Scaling::SignedLog {
        let one = graph.double("/assay/one", 1.0);
        let sign = graph.step("Sign", &[&rows], "/assay/sign", Vec::new());
        let size = graph.step("Abs", &[&rows], "/assay/size", Vec::new());
        let above = graph.step("Add", &[&size, &one], "/assay/above", Vec::new());
        let log = graph.step("Log", &[&above], "/assay/log", Vec::new());
        rows = graph.step("Mul", &[&sign, &log], "/assay/signed_log", Vec::new());
    }
    let width = line.weights().len();
    let centres = graph.doubles("/assay/centres", &[1, width], scaler.centres());
    let factors = graph.doubles("/assay/factors", &[1, width], scaler.factors());
    let weights = graph.doubles("/assay/weights", &[width, 1], line.weights());
    let intercept = graph.double("/assay/intercept", line.intercept());
    rows = graph.step("Sub", &[&rows, &centres], "/assay/centred", Vec::new());
    rows = graph.step("Mul", &[&rows, &factors], "/assay/scaled", Vec::new());
    let sum = graph.step("MatMul", &[&rows, &weights], "/assay/terms", Vec::new());
    let sum = graph.step("Add", &[&sum, &intercept], "/assay/log_odds", Vec::new());
    graph.step("Sigmoid", &[&sum], "/assay/score", Vec::new())
}

/// The sum of all trees.
fn trees(graph: &mut Graph, trees: &Trees, features: &str) -> String {
    let mut flat = FlatTrees::default();
    for (nodes, values) in trees.iter() {
        flat.push(nodes, values);
    }
    graph.ml_step("TreeEnsemble", &[features], "/assay/sum", flat.attributes())
}

/// Trees as `TreeEnsemble` has them: splits in one list, leaves in another.
#[derive(Default)]
struct FlatTrees {
    roots: Vec<i64>,
    features: Vec<i64>,
    thresholds: Vec<f64>,
    /// Whether a row goes to the first branch below the threshold alone, not at it.
    is_below: bool,
    branches: [Vec<i64>; 2],
    to_leaves: [Vec<i64>; 2],
    leaves: Vec<f64>,
}

impl FlatTrees {
    fn push(&mut self, nodes: &[Node], values: &[f32]) {
        // Splits and leaves are numbered in the order in which they stand.
        let is_leaf: Vec<bool> = nodes.iter().enumerate().map(|(at, node)| *node == Node::leaf(at)).collect();
        let (mut splits, mut leaves) = (self.features.len(), self.leaves.len());
        let numbers: Vec<usize> = is_leaf
            .iter()
            .map(|&leaf| {
                let next = if leaf { &mut leaves } else { &mut splits };
                *next += 1;
                *next - 1
            })
            .collect();
        self.roots.push(length(self.features.len()));
        self.leaves.extend(values.iter().zip(&is_leaf).filter(|(_, leaf)| **leaf).map(|(&value, _)| f64::from(value)));
        if let [true] = is_leaf[..] {
            // A tree must begin with a split: both ways of this one lead to the same value.
            let leaf = length(numbers[0]);
            self.split(0, 0.0, [(leaf, true); 2]);
            return;
        }
        for (node, _) in nodes.iter().zip(&is_leaf).filter(|(_, leaf)| !**leaf) {
            let to =
                |at: usize| (numbers.get(at).map_or(0, |&at| length(at)), is_leaf.get(at).is_some_and(|leaf| *leaf));
            self.split(node.feature(), f64::from(node.parts().0), [to(node.left()), to(node.left() + 1)]);
        }
    }

    fn split(&mut self, feature: usize, threshold: f64, to: [(i64, bool); 2]) {
        self.features.push(length(feature));
        self.thresholds.push(threshold);
        for (branch, (at, is_leaf)) in to.into_iter().enumerate() {
            self.branches[branch].push(at);
            self.to_leaves[branch].push(i64::from(is_leaf));
        }
    }

    fn attributes(self) -> Vec<super::proto::AttributeProto> {
        /// As the operator numbers them: `<=` and `<`.
        const MODES: [u8; 2] = [0, 1];
        /// And its ways of adding up.
        const SUM: i64 = 1;
        let [first, second] = self.branches;
        let [first_leaves, second_leaves] = self.to_leaves;
        let modes = vec![MODES[usize::from(self.is_below)]; self.features.len()];
        vec![
            int("aggregate_function", SUM),
            int("n_targets", 1),
            int("post_transform", 0),
            ints("tree_roots", self.roots),
            tensor("nodes_splits", doubles(&[self.thresholds.len()], &self.thresholds)),
            tensor("nodes_modes", bytes(modes)),
            ints("nodes_featureids", self.features),
            ints("nodes_truenodeids", first),
            ints("nodes_trueleafs", first_leaves),
            ints("nodes_falsenodeids", second),
            ints("nodes_falseleafs", second_leaves),
            ints("leaf_targetids", vec![0; self.leaves.len()]),
            tensor("leaf_weights", doubles(&[self.leaves.len()], &self.leaves)),
        ]
    }
}

fn calibration(graph: &mut Graph, calibration: &Calibration, score: &str) -> String {
    match calibration {
        Calibration::Identity => score.to_owned(),
        Calibration::Platt(platt) => {
            let (slope, shift) = platt.line();
            let low = graph.double("/assay/edge_low", PLATT_EDGE);
            let high = graph.double("/assay/edge_high", 1.0 - PLATT_EDGE);
            let one = graph.double("/assay/whole", 1.0);
            let slope = graph.double("/assay/slope", slope);
            let shift = graph.double("/assay/shift", shift);
            let p = graph.step("Clip", &[score, &low, &high], "/assay/clipped", Vec::new());
            let rest = graph.step("Sub", &[&one, &p], "/assay/rest", Vec::new());
            let odds = graph.step("Div", &[&p, &rest], "/assay/odds", Vec::new());
            let line = graph.step("Log", &[&odds], "/assay/score_log_odds", Vec::new());
            let line = graph.step("Mul", &[&line, &slope], "/assay/sloped", Vec::new());
            let line = graph.step("Add", &[&line, &shift], "/assay/shifted", Vec::new());
            graph.step("Sigmoid", &[&line], "/assay/probability", Vec::new())
        }
        Calibration::Isotonic(isotonic) => {
            let (scores, probabilities) = isotonic.knots();
            interpolate(graph, scores, probabilities, score)
        }
    }
}

/// A tree finds the number of knots at or below a score, and lists of both its neighbours say the rest: what is before the
/// first knot or after the last has two equal ones.
fn interpolate(graph: &mut Graph, scores: &[f64], probabilities: &[f64], score: &str) -> String {
    let mut search = FlatTrees { is_below: true, roots: vec![0], ..FlatTrees::default() };
    search.leaves = (0..=scores.len()).map(|below| below as f64).collect();
    halve(&mut search, scores, 0, scores.len());
    let below = graph.ml_step("TreeEnsemble", &[score], "/assay/knots_below", search.attributes());
    let below = graph.cast(&below, element::INT64, "/assay/knot");
    let around = |values: &[f64], first: f64, last: f64| {
        let before: Vec<f64> = [first].into_iter().chain(values.iter().copied()).collect();
        let after: Vec<f64> = values.iter().copied().chain([last]).collect();
        [before, after]
    };
    let edge = |values: &[f64]| (values.first().copied().unwrap_or(0.0), values.last().copied().unwrap_or(0.0));
    let (first, last) = edge(probabilities);
    let [low, high] = around(probabilities, first, last);
    // The distance is divided by: it must not be 0 where both neighbours are the same knot.
    let (first, last) = edge(scores);
    let [from, to] = around(scores, first - 1.0, last + 1.0);
    let mut pick = |name: &str, values: &[f64]| {
        let table = graph.doubles(&format!("/assay/{name}s"), &[values.len()], values);
        graph.step("Gather", &[&table, &below], &format!("/assay/{name}"), vec![int("axis", 0)])
    };
    let (from, to, low, high) =
        (pick("knot_score", &from), pick("next_score", &to), pick("knot_value", &low), pick("next_value", &high));
    let way = graph.step("Sub", &[score, &from], "/assay/way", Vec::new());
    let span = graph.step("Sub", &[&to, &from], "/assay/span", Vec::new());
    let share = graph.step("Div", &[&way, &span], "/assay/share", Vec::new());
    let rise = graph.step("Sub", &[&high, &low], "/assay/rise", Vec::new());
    let rise = graph.step("Mul", &[&share, &rise], "/assay/risen", Vec::new());
    graph.step("Add", &[&low, &rise], "/assay/probability", Vec::new())
}

/// The split of the middle knot, then those of either side; returns its number. The leaf `n` is for `n` knots at or below.
fn halve(search: &mut FlatTrees, knots: &[f64], from: usize, to: usize) -> (i64, bool) {
    if from == to {
        return (length(from), true);
    }
    let middle = usize::midpoint(from, to);
    let at = search.features.len();
    search.split(0, knots[middle], [(0, true); 2]);
    for (branch, (from, to)) in [(from, middle), (middle + 1, to)].into_iter().enumerate() {
        let (next, is_leaf) = halve(search, knots, from, to);
        search.branches[branch][at] = next;
        search.to_leaves[branch][at] = i64::from(is_leaf);
    }
    (length(at), false)
}

fn metadata(
    manifest: &Manifest,
    model: &TrainedModel,
    missing: &[Option<String>],
) -> Result<Vec<StringStringEntryProto>, OnnxError> {
    let columns: Vec<serde_json::Value> = manifest
        .encoding
        .columns
        .iter()
        .zip(missing)
        .map(|(column, mark)| {
            let kind = match column.kind {
                FeatureKind::Number { .. } | FeatureKind::NumberTwice => "number",
                FeatureKind::Boolean => "boolean",
                FeatureKind::Category { .. } => "text",
            };
            json!({"column": column.column, "type": kind, "missing": mark.as_deref().unwrap_or("NaN")})
        })
        .collect();
    let failed = |cause: serde_json::Error| OnnxError::Json { cause: cause.to_string() };
    let model_blake3 = manifest.files.get(MODEL_FILE).map(|sum| sum.blake3.clone()).unwrap_or_default();
    let entries = [
        ("assay.model", manifest.name.to_string()),
        ("assay.version", manifest.version.to_string()),
        ("assay.family", model.calibrated.model.name().to_string()),
        ("assay.threshold", model.threshold.to_string()),
        ("assay.columns", serde_json::to_string(&columns).map_err(failed)?),
        ("assay.features", serde_json::to_string(&manifest.features).map_err(failed)?),
        ("assay.features_blake3", manifest.features_blake3.clone()),
        ("assay.model_blake3", model_blake3),
    ];
    let entry = |(key, value): (&str, String)| StringStringEntryProto { key: key.to_owned(), value };
    Ok(entries.into_iter().map(entry).collect())
}

fn length(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
