use ndarray::Array2;

use super::*;
use crate::model::random::Random;

/// `x0 <= 1 ? (x1 <= -2 ? 0.1 : 0.2) : 0.4`, with means as if each leaf held one row.
fn by_hand() -> (Vec<Node>, Vec<f32>) {
    let nodes = vec![
        Node::split(0, 1.0, 1).unwrap(),
        Node::split(1, -2.0, 3).unwrap(),
        Node::leaf(2),
        Node::leaf(3),
        Node::leaf(4),
    ];
    (nodes, vec![0.25, 0.15, 0.4, 0.1, 0.2])
}

/// A tree of random shape, at times a single leaf.
pub(in crate::model::tree) fn at_random(random: &mut Random, width: usize) -> (Vec<Node>, Vec<f32>) {
    let splits = random.below(20) as usize;
    let mut nodes = vec![Node::leaf(0)];
    let mut leaves = vec![0];
    for _ in 0..splits {
        let leaf = leaves.swap_remove(random.below(leaves.len() as u32) as usize);
        let left = nodes.len();
        nodes[leaf] = Node::split(random.below(width as u32) as usize, random.unit() as f32, left).unwrap();
        nodes.extend([Node::leaf(left), Node::leaf(left + 1)]);
        leaves.extend([left, left + 1]);
    }
    let values = nodes.iter().map(|_| random.unit() as f32 - 0.5).collect();
    (nodes, values)
}

/// A chain: at each step another row leaves.
fn chain(random: &mut Random, width: usize, depth: usize) -> (Vec<Node>, Vec<f32>) {
    let mut nodes = Vec::new();
    for step in 0..depth {
        let (feature, left) = (random.below(width as u32) as usize, 2 * step + 1);
        // Behind each split a leaf and the next one.
        nodes.push(Node::split(feature, random.unit() as f32 / 2.0, left).unwrap());
        nodes.push(Node::leaf(left));
    }
    nodes.push(Node::leaf(nodes.len()));
    let values = nodes.iter().map(|_| random.unit() as f32 - 0.5).collect();
    (nodes, values)
}

fn plainly(trees: &Trees, row: &[f32]) -> f64 {
    let mut sum = 0.0;
    for bounds in trees.starts.windows(2) {
        let mut at = 0;
        while trees.nodes[bounds[0] + at] != Node::leaf(at) {
            let node = trees.nodes[bounds[0] + at];
            at = if row[node.feature()] > node.threshold { node.left() + 1 } else { node.left() };
        }
        sum += f64::from(trees.values[bounds[0] + at]);
    }
    sum
}

fn contributions_plainly(trees: &Trees, row: &[f32]) -> Contributions {
    let mut told = Contributions { base: 0.0, features: vec![0.0; trees.width] };
    for (nodes, values) in trees.iter() {
        told.base += f64::from(values[0]);
        let mut at = 0;
        while nodes[at].next(row) != at {
            let next = nodes[at].next(row);
            told.features[nodes[at].feature()] += f64::from(values[next]) - f64::from(values[at]);
            at = next;
        }
    }
    told
}

#[test]
fn a_row_falls_into_its_leaf() {
    let mut trees = Trees::new(2);
    let (nodes, values) = by_hand();
    trees.push(nodes, values);
    for (row, value) in [([1.0, -2.0], 0.1), ([1.0, -1.9], 0.2), ([1.1, -5.0], 0.4), ([f32::NAN, 0.0], 0.2)] {
        assert_eq!(trees.sum(&row), f64::from(value as f32), "{row:?}");
    }
}

#[test]
fn contributions_follow_the_path() {
    let mut trees = Trees::new(3);
    let (nodes, values) = by_hand();
    trees.push(nodes, values);
    let contributions = trees.contributions(&[0.0, 0.0, 9.0]);
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-7, "{a} {b}");
    near(contributions.base, 0.25);
    near(contributions.features[0], 0.15 - 0.25);
    near(contributions.features[1], 0.2 - 0.15);
    assert_eq!(contributions.features[2], 0.0);
}

#[test]
fn every_way_to_walk_gives_the_same() {
    let mut random = Random::new(3, 0);
    let width = 5;
    for (count, kind) in (0..=(3 * LANES + 3)).flat_map(|count| (0..3).map(move |kind| (count, kind))) {
        let mut trees = Trees::new(width);
        for _ in 0..count {
            // Perfect ones; shallow ones; deep ones, and groups of both.
            let (nodes, values) = match (kind, random.below(4)) {
                (0, _) => loop {
                    let (nodes, values) = at_random(&mut random, width);
                    if Perfect::of(&nodes, &values, depth(&nodes), width).is_some() {
                        break (nodes, values);
                    }
                },
                (2, 0) => chain(&mut random, width, 3 * SHALLOW),
                _ => at_random(&mut random, width),
            };
            trees.push(nodes, values);
        }
        assert!(kind != 0 || trees.perfect().is_some());
        let flat = Trees { perfect: Vec::new(), ..trees.clone() };
        assert!(count == 0 || flat.perfect().is_none());
        let rows = BLOCK + 2 * perfect::LANES + LANES + 3;
        let records = Array2::from_shape_simple_fn((rows, width), || random.unit() as f32);
        let sums = trees.sums(records.view());
        // However the cells lie.
        let by_column = records.t().as_standard_layout().into_owned().reversed_axes();
        assert!(by_column.as_slice().is_none());
        assert_eq!(trees.sums(by_column.view()), sums);
        assert_eq!(flat.sums(records.view()), sums);
        let together = trees.contributions_of(records.as_slice().unwrap());
        assert_eq!(together.len(), rows);
        for ((row, sum), together) in records.rows().into_iter().zip(sums).zip(together) {
            let row = row.to_vec();
            assert_eq!(sum.to_bits(), plainly(&trees, &row).to_bits());
            assert_eq!(sum.to_bits(), trees.sum(&row).to_bits());
            let (told, wanted) = (trees.contributions(&row), contributions_plainly(&trees, &row));
            let bits = |told: &Contributions| told.features.iter().map(|part| part.to_bits()).collect::<Vec<_>>();
            assert_eq!((together.base.to_bits(), bits(&together)), (told.base.to_bits(), bits(&told)));
            assert_eq!(bits(&flat.contributions(&row)), bits(&told));
            // Added up in another order.
            let near = |(one, other): (&f64, &f64)| (one - other).abs() < 1e-12;
            assert!(told.features.iter().zip(&wanted.features).all(near), "{told:?} {wanted:?}");
            assert_eq!(told.base.to_bits(), wanted.base.to_bits());
            assert!((told.total() - sum).abs() < 1e-9);
        }
    }
}

#[test]
fn what_is_too_deep_or_too_wide_is_walked_as_it_is() {
    let mut random = Random::new(5, 0);
    for (width, depth, fits) in [(256, 6, true), (256, 7, false), (257, 6, false)] {
        let mut trees = Trees::new(width);
        let (mut nodes, values) = chain(&mut random, width, depth);
        // The last feature decides first.
        nodes[0] = Node::split(width - 1, 0.5, 1).unwrap();
        trees.push(nodes, values);
        assert_eq!(trees.perfect().is_some(), fits, "{width} features, {depth} steps");
        let records = Array2::from_shape_simple_fn((2 * BLOCK + 1, width), || random.unit() as f32);
        let told = trees.contributions_of(records.as_slice().unwrap());
        for ((row, sum), told) in records.rows().into_iter().zip(trees.sums(records.view())).zip(told) {
            let row = row.to_vec();
            assert_eq!(sum.to_bits(), plainly(&trees, &row).to_bits());
            assert_eq!(sum.to_bits(), trees.sum(&row).to_bits());
            let wanted = contributions_plainly(&trees, &row);
            assert_eq!((told.base, told.features), (wanted.base, wanted.features));
        }
    }
}

#[test]
fn values_that_are_not_finite_go_the_same_way_in_every_walk() {
    let mut random = Random::new(6, 0);
    for (odd, depth) in
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().flat_map(|odd| [(odd, 6), (odd, 3 * SHALLOW)])
    {
        let mut trees = Trees::new(3);
        for _ in 0..2 * perfect::LANES {
            let (nodes, values) = chain(&mut random, 3, depth);
            trees.push(nodes, values);
        }
        assert_eq!(trees.perfect().is_some(), depth == 6);
        let mut records = Array2::from_shape_simple_fn((2 * perfect::LANES + 1, 3), || random.unit() as f32);
        records.rows_mut().into_iter().enumerate().for_each(|(number, mut row)| row[number % 3] = odd);
        let together = trees.contributions_of(records.as_slice().unwrap());
        for ((row, sum), together) in records.rows().into_iter().zip(trees.sums(records.view())).zip(together) {
            let row = row.to_vec();
            assert_eq!(sum.to_bits(), plainly(&trees, &row).to_bits());
            assert_eq!(sum.to_bits(), trees.sum(&row).to_bits());
            assert!((together.total() - sum).abs() < 1e-9);
        }
    }
}

#[test]
fn trees_are_taken_back_from_the_end() {
    let mut random = Random::new(4, 0);
    let (mut trees, mut two) = (Trees::new(3), Trees::new(3));
    for tree in 0..5 {
        let (nodes, values) = at_random(&mut random, 3);
        if tree < 2 {
            two.push(nodes.clone(), values.clone());
        }
        trees.push(nodes, values);
    }
    trees.truncate(2);
    assert_eq!((trees.len(), &trees), (2, &two));
}

#[test]
fn what_is_left_is_perfect_once_the_deep_tree_is_taken_back() {
    let mut random = Random::new(7, 0);
    let mut trees = Trees::new(3);
    for depth in [2, 3, 3 * SHALLOW, 4] {
        let (nodes, values) = chain(&mut random, 3, depth);
        trees.push(nodes, values);
    }
    for (kept, is_perfect) in [(4, false), (3, false), (2, true)] {
        trees.truncate(kept);
        assert_eq!(trees.perfect().is_some(), is_perfect, "{kept} trees");
    }
    let (nodes, values) = chain(&mut random, 3, 5);
    trees.push(nodes, values);
    let row = [0.1, 0.6, 0.3];
    assert!(trees.perfect().is_some());
    assert_eq!(trees.sum(&row).to_bits(), plainly(&trees, &row).to_bits());
}

#[test]
fn a_tree_too_large_for_its_links_is_refused() {
    assert!(Node::split(FEATURES_MAX - 1, 0.0, 1).is_some_and(|node| node.feature() == FEATURES_MAX - 1));
    assert_eq!(Node::split(FEATURES_MAX, 0.0, 1), None);
    assert_eq!(Node::split(0, 0.0, NODES_MAX - 1), None);
    assert!(Node::split(0, 0.0, NODES_MAX - 2).is_some());
}
