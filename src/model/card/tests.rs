use super::*;
use crate::model::{
    FamilyName, Refusal, Samples, SearchSettings, Segmentation, TrainData, TrainSettings, Verdict, random::Random,
    train,
};

const ROWS: usize = 4_000;

/// One family on data with names that markup could trip over.
fn report() -> TrainReport {
    let mut random = Random::new(9, 0);
    let (mut one, mut two, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROWS {
        let (x, y) = (random.unit(), random.unit());
        one.push(x as f32);
        two.push(y as f32);
        labels.push(x + y > 1.4 && random.unit() < 0.9);
    }
    let columns = vec![("a<b & \"c\"".to_owned(), one), ("pipe|name".to_owned(), two)];
    let times = (0..ROWS as i64).map(|row| 1_795_219_200_000_000 + row * 1_800_000_000).collect();
    let samples = Samples::from_columns(columns, labels, times).unwrap();
    let settings = TrainSettings {
        families: vec![FamilyName::Logistic],
        stratified_folds: 2,
        search: SearchSettings { candidates_max: 1, ..SearchSettings::default() },
        ..TrainSettings::default()
    };
    let segments =
        [Segmentation { dimension: "country".to_owned(), values: vec!["<DE>".to_owned()], codes: vec![0; ROWS] }];
    train(&settings, &TrainData { samples: &samples, cards: None, segments: &segments }, &|_| {}).unwrap().report
}

fn head() -> CardHead {
    CardHead { title: "Fraud & co".to_owned(), facts: vec![("Version".to_owned(), "2026-11-21T00:00:00Z".to_owned())] }
}

/// Elements of a well-formed document, by a reader that knows tags, attributes and entities only.
fn elements(document: &str) -> Vec<String> {
    let (mut open, mut seen) = (Vec::new(), Vec::new());
    let mut rest = document;
    while let Some(start) = rest.find('<') {
        let text = &rest[..start];
        assert!(!text.contains('>') && entities_hold(text), "{text}");
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
        } else if !tag.starts_with('!') {
            assert!(tag.matches('"').count().is_multiple_of(2) && entities_hold(tag), "{tag}");
            let name = tag.split([' ', '/']).next().unwrap_or_default().to_owned();
            if !tag.ends_with('/') {
                open.push(name.clone());
            }
            seen.push(name);
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
    seen
}

fn entities_hold(text: &str) -> bool {
    text.split('&').skip(1).all(|after| ["amp;", "lt;", "gt;", "quot;"].iter().any(|name| after.starts_with(name)))
}

#[test]
fn every_plot_is_a_well_formed_svg_with_numbers_within_the_frame() {
    let plots = plots(&report());
    let names: Vec<&str> = plots.iter().map(|plot| plot.name).collect();
    assert_eq!(names, ["precision_recall", "roc", "calibration", "confusion", "importances", "scores"]);
    for plot in &plots {
        let seen = elements(&plot.svg);
        assert_eq!((seen[0].as_str(), seen[1].as_str()), ("svg", "title"));
        assert!(seen.len() > 8, "{}", plot.name);
        assert!(!plot.svg.contains("NaN") && !plot.svg.contains("inf\""), "{}", plot.name);
    }
    assert!(plots[4].svg.contains("a&lt;b &amp; &quot;c&quot;") && plots[0].svg.contains("polyline"));
}

#[test]
fn the_page_stands_alone_and_says_what_the_report_says() {
    let report = report();
    let page = html(&report, &head());
    let seen = elements(
        page.split_once("</style>")
            .map(|(_, body)| body.split_once("<body>").unwrap().1)
            .unwrap()
            .split_once("</body>")
            .unwrap()
            .0,
    );
    assert_eq!(seen.iter().filter(|name| *name == "svg").count(), 6);
    assert!(
        !page.contains("http://")
            || page.matches("http://").count() == page.matches("http://www.w3.org/2000/svg").count()
    );
    let champion = report.champion.as_ref().unwrap();
    for expected in [
        "<title>Fraud &amp; co</title>".to_owned(),
        "2026-11-21T00:00:00Z".to_owned(),
        format!("{:.4}", champion.test.f1),
        format!("{:.4}", report.best().unwrap().in_time.pooled.precision),
        "country: &lt;DE&gt;".to_owned(),
        "<code>pipe|name</code>".to_owned(),
        "logistic regression".to_owned(),
        "2 stratified".to_owned(),
    ] {
        assert!(page.contains(&expected), "{expected}");
    }
}

#[test]
fn the_markdown_links_its_plots_and_keeps_its_tables_whole() {
    let text = markdown(&report(), &head(), "plots/");
    assert!(text.starts_with("# Fraud & co\n") && text.contains("![ROC curve](plots/roc.svg)"));
    assert!(text.contains("pipe\\|name") && text.contains("`a<b & \"c\"`") && !text.contains("<DE>"));
    for table in text.split("\n\n").filter(|block| block.starts_with("| ")) {
        let columns: Vec<usize> = table.lines().map(|line| line.replace("\\|", "").matches('|').count()).collect();
        assert!(columns.iter().all(|count| *count == columns[0]), "{table}");
    }
}

#[test]
fn a_refused_run_says_why_and_has_no_plots() {
    let report = TrainReport {
        champion: None,
        families: Vec::new(),
        verdict: Verdict::Refused { reasons: vec![Refusal::Constant { feature: "<x>".to_owned() }] },
        ..report()
    };
    assert_eq!(plots(&report), []);
    assert!(markdown(&report, &head(), "").contains("- Refused: feature `<x>` never varies"));
    assert!(html(&report, &head()).contains("Refused: feature <code>&lt;x&gt;</code> never varies"));
}

#[test]
fn a_lone_backtick_is_left_alone() {
    let page = markup::html_page("t", &[Block::Text("a `b` c` d".to_owned())]);
    assert!(page.contains("<p>a <code>b</code> c` d</p>"), "{page}");
}
