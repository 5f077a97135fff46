use super::{DEFAULTS, Settings};
use crate::features::Enabled;

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
fn features_are_on_off_or_as_the_lake_has_them() {
    let enabled = |value: &str| load(&[("ASSAY_FEATURES_ENABLED", value)]).map(|settings| settings.features.enabled);
    let of_words = ["true", "false", "auto"].map(|word| enabled(word).unwrap());
    assert_eq!(of_words, [Enabled::Yes, Enabled::No, Enabled::Auto]);
    for wrong in ["on", "1"] {
        let error = enabled(wrong).unwrap_err();
        assert!(error.contains("ASSAY_FEATURES_ENABLED") && error.contains("true, false or \"auto\""), "{error}");
    }
}

#[test]
fn a_share_may_be_written_as_a_whole_number() {
    for (text, share) in [("0", 0.0), ("1", 1.0), ("0.25", 0.25)] {
        let settings = load(&[("ASSAY_SCORING_CHALLENGER_SHARE", text)]).unwrap();
        assert_eq!(settings.scoring.challenger_share.to_bits(), f64::to_bits(share));
        assert_eq!(settings.scoring.trial().is_some(), share > 0.0);
    }
    assert!(load(&[("ASSAY_SCORING_SHADOW", "true")]).unwrap().scoring.trial().is_some());
}

#[test]
fn a_password_is_never_shown() {
    let settings = load(&[("ASSAY_REGISTRY_PASSWORD", "hunter2"), ("ASSAY_KAFKA_PASSWORD", "hunter3")]).unwrap();
    let shown = format!("{settings:?}");
    assert!(settings.registry.password.is_some());
    assert!(!shown.contains("hunter"), "{shown}");
}

/// The error of a file, or of a variable.
fn refused(text: &str) -> String {
    let path = std::env::temp_dir().join(format!("assay-settings-{}.toml", uuid::Uuid::new_v4()));
    std::fs::write(&path, text).unwrap();
    let error = Settings::load(Some(&path), []).unwrap_err().to_string();
    std::fs::remove_file(&path).unwrap();
    error.replace(&path.display().to_string(), "assay.toml")
}

#[test]
fn a_refused_value_names_its_key_its_place_and_what_is_accepted() {
    for (text, expected) in [
        (
            "[epoch]\n\ninterval_ms = \"soon\"",
            "assay.toml:3: epoch.interval_ms: the string \"soon\" is not accepted; give a whole number, 0 or more",
        ),
        ("epoch.interval_ms = 0", "assay.toml:1: epoch.interval_ms must be at least 1"),
        (
            "[kafka]\nstart = \"earlies\"",
            "assay.toml:2: kafka.start: \"earlies\" is not accepted; give \"earliest\" or \"latest\"",
        ),
        (
            "[kafka]\ntopics = \"a\"",
            "assay.toml:2: kafka.topics: the string \"a\" is not accepted; give a list, such as [\"a\", \"b\"]",
        ),
        (
            "[kafka]\nbrokers = \" \"",
            "assay.toml:2: kafka.brokers is empty; give host:port, several separated by commas",
        ),
        (
            "[lake]\nhistori_s = 3",
            "assay.toml:2: there is no setting lake.histori_s; did you mean `history_s`? [lake] has: location, options, history_s",
        ),
        ("[scoring]\nchallenger_share = 1.5", "assay.toml:2: scoring.challenger_share must be a share from 0 to 1"),
        ("[scoring]\nchallenger_share = nan", "assay.toml:2: scoring.challenger_share must be a share from 0 to 1"),
        ("[scoring]\nfollow_ms = 0", "assay.toml:2: scoring.follow_ms must be at least 1"),
        (
            "[serve]\nkey_file = \"key.pem\"",
            "assay.toml:2: serve.key_file and serve.certificate_file go together: give both or none",
        ),
        ("[serve]\naddress = \"here\"", "assay.toml:2: serve.address must be host:port, such as 127.0.0.1:9464"),
        ("[registry]\nurl = \"ftp://x\"", "assay.toml:2: registry.url does not begin with http:// or https://"),
    ] {
        assert_eq!(refused(text), expected);
    }
    let error = refused("[log]\nfilter = \"assay=loud\"");
    assert!(error.starts_with("assay.toml:2: log.filter cannot be used: `assay=loud` is not a log filter"), "{error}");
}

#[test]
fn a_refused_variable_is_named_with_its_key_and_what_is_accepted() {
    for (name, value, expected) in [
        (
            "ASSAY_KAFKA_START",
            "earlies",
            "ASSAY_KAFKA_START: kafka.start: \"earlies\" is not accepted; give \"earliest\" or \"latest\"",
        ),
        (
            "ASSAY_LAKE_HISTORY_S",
            "5",
            "ASSAY_LAKE_HISTORY_S: lake.history_s must be at least 600: younger files may belong to an epoch under way",
        ),
        (
            "ASSAY_LAKE_HISTORY",
            "5",
            "ASSAY_LAKE_HISTORY: there is no setting lake.history; did you mean `history_s`? [lake] has: location, options, history_s",
        ),
    ] {
        assert_eq!(load(&[(name, value)]).unwrap_err(), expected);
    }
}

#[cfg(feature = "s3")]
#[test]
fn an_option_that_no_store_takes_is_refused_with_its_name() {
    let options = "[lake.options]\naws_region = \"x\"\nAWS_ENDPOINT = \"y\"\ntimeout = \"5s\"\nmax_retries = \"3\"\n";
    assert!(Settings::parse(options, "assay.toml").unwrap().check().is_ok());
    assert_eq!(
        refused(&format!("{options}aws_acces_key_id = \"z\"\n")),
        "assay.toml:6: lake.options.aws_acces_key_id is no option of the object store; did you mean `aws_access_key_id`?"
    );
    assert_eq!(
        refused("[model.options]\naws_regoin = \"z\"\n"),
        "assay.toml:2: model.options.aws_regoin is no option of the object store; did you mean `aws_region`?"
    );
}

#[test]
fn models_are_kept_with_the_options_of_the_lake_and_their_own_over_them() {
    let text = "[lake.options]\naws_region = \"a\"\ntimeout = \"5s\"\n[model.options]\naws_region = \"b\"\n";
    let options = Settings::parse(text, "assay.toml").unwrap().model_options();
    let told: Vec<(&str, &str)> = options.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(told, [("aws_region", "b"), ("timeout", "5s")]);
}

#[test]
fn a_member_of_the_group_is_one_lake_and_its_topics() {
    let id = |lake: &str, topics: &str| {
        let settings = load(&[("ASSAY_LAKE_LOCATION", lake), ("ASSAY_KAFKA_TOPICS", topics)]).unwrap();
        settings.consumer().instance_id
    };
    let one = id("a", "[\"t\", \"u\"]");
    assert!(one.starts_with("assay-transactions-"), "{one}");
    assert_eq!(one, id("a", "[\"u\", \"t\"]"));
    assert_ne!(one, id("b", "[\"t\", \"u\"]"));
    assert_ne!(one, id("a", "[\"t\"]"));
    assert_eq!(load(&[("ASSAY_KAFKA_INSTANCE_ID", "m")]).unwrap().consumer().instance_id, "m");
}

#[test]
fn folders_in_a_file_are_relative_to_it() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("assay.toml");
    let location = |text: &str, variables: &[(&str, &str)]| {
        std::fs::write(&file, text).unwrap();
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::load(Some(&file), variables).unwrap().lake.location
    };
    assert_eq!(location("[lake]\nlocation = \"l\"", &[]), folder.path().join("l").display().to_string());
    assert_eq!(location("[lake]\nlocation = \"s3://b/l\"", &[]), "s3://b/l");
    assert_eq!(location("[lake]\nlocation = \"l\"", &[("ASSAY_LAKE_LOCATION", "other")]), "other");
    assert_eq!(location("[lake]\nhistory_s = 900", &[]), "lake");
}
