use super::{DEFAULTS, Settings};

fn load(variables: &[(&str, &str)]) -> Result<Settings, String> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::load(None, variables).map_err(|e| e.to_string())
}

#[test]
fn the_file_of_defaults_says_what_the_code_does() {
    assert_eq!(Settings::parse(DEFAULTS, "default.toml").expect("valid"), Settings::default());
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let error = Settings::parse("pipeline = \"x\"\n[lake]\nlocatoin = \"y\"\n", "assay.toml").unwrap_err().to_string();
    assert!(error.starts_with("assay.toml:3: ") && error.contains("locatoin"), "{error}");
}

#[test]
fn a_bad_value_is_named_with_its_line() {
    let error = Settings::parse("[epoch]\ninterval_ms = \"soon\"\n", "assay.toml").unwrap_err().to_string();
    assert!(error.starts_with("assay.toml:2: "), "{error}");
}

#[test]
fn variables_lie_over_the_file() {
    let settings =
        load(&[("ASSAY_LAKE_LOCATION", "s3://b/p"), ("ASSAY_EPOCH_INTERVAL_MS", "250"), ("HOME", "x")]).unwrap();
    assert_eq!((settings.lake.location.as_str(), settings.epoch.interval_ms), ("s3://b/p", 250));
    let error = load(&[("ASSAY_EPOCH_INTERVAL_MS", "soon")]).unwrap_err();
    assert!(error.contains("ASSAY_EPOCH_INTERVAL_MS"), "{error}");
}

#[test]
fn a_password_is_never_shown() {
    let settings = load(&[("ASSAY_REGISTRY_PASSWORD", "hunter2"), ("ASSAY_KAFKA_PASSWORD", "hunter3")]).unwrap();
    let shown = format!("{settings:?}");
    assert!(settings.registry.password.is_some());
    assert!(!shown.contains("hunter"), "{shown}");
}
