//! Any text as a file of settings: what is accepted can be printed and given as variables too; what is not, has a place.

use assay::settings::{DEFAULTS, Settings, SettingsError};
use toml::{Table, Value};

pub fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let settings = match Settings::parse(text, PLACE) {
        Ok(settings) => settings,
        Err(error) => return check_place(text, &error),
    };
    let table: Table = toml::from_str(text).expect("what is settings is TOML");
    let printed = toml::to_string(&table).expect("what was read can be written");
    assert_eq!(Settings::parse(&printed, PLACE).expect("accepted before"), settings, "{printed}");
    let loaded = Settings::load(None, variables(&table));
    match settings.check() {
        Ok(()) => assert_eq!(loaded.expect("accepted in a file"), settings),
        Err(refused) => {
            let refused = refused.to_string();
            let (key, cause) = refused.split_once(": ").expect("a key and a cause");
            let loaded = loaded.expect_err("refused in a file").to_string();
            assert!(loaded.ends_with(&format!(": {key} {cause}")), "{loaded}, but in a file {refused}");
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        DEFAULTS,
        include_str!("../examples/retail/assay.toml"),
        "pipeline = 'p'\nlake.options = { aws_region = \"x\", timeout = '5s' }\n[kafka.properties]\n\"sasl.username\" = \"\"\"u\n\"\"\"\n",
        "[registry]\nurl = \"https://r\"\nusername = \"\\u00e4\\n\"\nattempts = 0x3\n[log]\nfilter = \"assay=debug,h2=off\"\n",
        "[kafka]\ntopics = [\"a\", 'b',\n # c\n]\nstart = \"latest\"\n[serve]\naddress = \"[::1]:0\"\n",
        "[epoch]\ninterval_ms = \"soon\"\n",
        "[lake]\nhistori_s = 3\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

const PLACE: &str = "f.toml";

fn check_place(text: &str, error: &SettingsError) {
    let SettingsError::Invalid { place, cause } = error else { panic!("no file was read: {error}") };
    assert!(!cause.is_empty());
    if place == PLACE && cause.contains("recursion limit") {
        return;
    }
    let Some(line) = place.strip_prefix(PLACE).and_then(|place| place.strip_prefix(':')) else {
        panic!("`{error}` has no line")
    };
    let line: usize = line.parse().expect("a number");
    assert!((1..=text.matches('\n').count() + 1).contains(&line), "{error}");
}

/// The same settings as variables.
fn variables(table: &Table) -> Vec<(String, String)> {
    let name = |path: &[&str]| format!("ASSAY_{}", path.join("_").to_ascii_uppercase());
    let mut variables = Vec::new();
    for (section, value) in table {
        match value {
            Value::Table(keys) => {
                variables.extend(keys.iter().map(|(key, value)| (name(&[section, key]), value.to_string())));
            }
            value => variables.push((name(&[section]), value.to_string())),
        }
    }
    variables
}
