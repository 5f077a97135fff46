use serde_json::{Value, json};

use super::*;
use crate::model::random::Random;
use crate::model::tree::trees::tests::at_random;

fn some_trees() -> Trees {
    let mut random = Random::new(5, 0);
    let mut trees = Trees::new(4);
    for _ in 0..6 {
        let (nodes, values) = at_random(&mut random, 4);
        trees.push(nodes, values);
    }
    trees
}

/// One tree of three nodes, with one of its columns replaced.
fn altered(column: &str, words: &[u32]) -> Result<Trees, serde_json::Error> {
    let infinite = f32::INFINITY.to_bits();
    let mut stored = json!({
        "width": 2,
        "sizes": [3],
        "thresholds": encode([0.5_f32.to_bits(), infinite, infinite].into_iter()),
        "links": encode([1 << 22 | 1, 1, 2].into_iter()),
        "values": encode([0, 0, 0].into_iter()),
    });
    if !column.is_empty() {
        stored[column] = Value::String(encode(words.iter().copied()));
    }
    serde_json::from_value(stored)
}

#[test]
fn what_is_written_comes_back_to_the_bit() {
    let trees = some_trees();
    let text = serde_json::to_string(&trees).unwrap();
    assert_eq!(serde_json::from_str::<Trees>(&text).unwrap(), trees);
}

#[test]
fn what_could_lead_astray_is_refused() {
    let infinite = f32::INFINITY.to_bits();
    assert!(altered("", &[]).is_ok());
    let broken: [(&str, &[u32]); 9] = [
        ("links", &[1 << 22, 1, 2]),                               // a circle at the root
        ("links", &[1 << 22 | 2, 1, 2]),                           // a right child beyond the end
        ("links", &[2 << 22 | 1, 1, 2]),                           // a feature beyond the width
        ("links", &[1 << 22 | 1, 0, 2]),                           // back to the parent
        ("links", &[1 << 22 | 1, 1]),                              // cut off
        ("thresholds", &[f32::NAN.to_bits(), infinite, infinite]), // a split that no value passes
        ("thresholds", &[0, 0, infinite]),                         // a leaf that leads on
        ("values", &[0, f32::NAN.to_bits(), 0]),
        ("values", &[0, 0]),
    ];
    for (column, words) in broken {
        assert!(altered(column, words).is_err(), "{column} {words:?}");
    }
}

#[test]
fn a_node_of_two_splits_is_refused() {
    let infinite = f32::INFINITY.to_bits();
    let tree = |second: u32| {
        serde_json::from_value::<Trees>(json!({
            "width": 2,
            "sizes": [5],
            "thresholds": encode([0, 0, infinite, infinite, infinite].into_iter()),
            "links": encode([1, second, 2, 3, 4].into_iter()),
            "values": encode([0; 5].into_iter()),
        }))
    };
    assert!(tree(3).is_ok());
    assert!(tree(2).is_err());
}

#[test]
fn every_cut_off_text_is_refused() {
    let text = serde_json::to_string(&some_trees()).unwrap();
    for end in (0..text.len()).step_by(7) {
        assert!(serde_json::from_str::<Trees>(&text[..end]).is_err());
    }
    let mut value = serde_json::to_value(some_trees()).unwrap();
    value["sizes"] = json!([u64::MAX, 1]);
    assert!(serde_json::from_value::<Trees>(value.clone()).is_err());
    value["sizes"] = json!([0]);
    assert!(serde_json::from_value::<Trees>(value.clone()).is_err());
    for column in ["thresholds", "links", "values"] {
        value[column] = json!("");
    }
    value["sizes"] = json!([]);
    assert!(serde_json::from_value::<Trees>(value).is_err());
}
