//! Whatever a message says, it ends as a row, a quarantined row or a dead letter.

use assay::pipeline::Target;

use crate::fault::FaultStore;
use crate::kit::{Cut, Lab, Tx, messages};

#[test]
fn extreme_values_stop_nothing() {
    let at = "2026-01-06T10:00:00Z";
    let tx = |id: &str| Tx::new(id, at);
    let amounts =
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, -0.0, 0.0, f64::MIN_POSITIVE, 0.005, 999_999.985];
    let times = [
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999999Z",
        "0000-00-00T00:00:00Z",
        "-9999-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "2026-02-30T00:00:00Z",
        "2026-01-06",
        "",
        " ",
        "now",
        "2026-01-06T10:00:00+99:99",
        "262143-12-31T23:59:59Z",
        "1e308",
        "9223372036854775807",
    ];
    let texts = [
        String::new(),
        "\0".into(),
        "a\0b".into(),
        "🦀👩‍👩‍👧‍👦".into(),
        "x".repeat(1 << 20),
        "\u{feff}bom".into(),
        "'; DROP TABLE silver.transactions; --".into(),
        ",".into(),
        ", ,,".into(),
        "\u{202e}gnirts".into(),
        "line\nbreak\ttab\r".into(),
    ];
    let mut all: Vec<Tx> = vec![tx("plain")];
    all.extend(amounts.iter().enumerate().map(|(n, amount)| Tx { amount: *amount, ..tx(&format!("amount-{n}")) }));
    all.extend(times.iter().enumerate().map(|(n, at)| Tx::new(&format!("time-{n}"), at)));
    all.extend(texts.iter().enumerate().map(|(n, text)| Tx { merchant: text.clone(), ..tx(&format!("merchant-{n}")) }));
    all.extend(texts.iter().enumerate().map(|(n, text)| Tx { location: text.clone(), ..tx(&format!("location-{n}")) }));
    all.extend(texts.iter().map(|text| tx(text)));
    all.extend(
        texts.iter().map(|text| Tx { merchant_id: Some(Some(text.clone())), ..tx(&format!("v2-{}", text.len())) }),
    );
    all.extend([i32::MIN, i32::MAX, 0, -1].map(|user| Tx { user, ..tx(&format!("user-{user}")) }));
    let mut payloads: Vec<Vec<u8>> = all.iter().map(Tx::payload).collect();
    // And what is no transaction at all.
    let plain = tx("cut").payload();
    payloads.extend((0..plain.len()).step_by(7).map(|end| plain[..end].to_vec()));
    payloads.extend([
        vec![0; 5],
        vec![0xff; 64],
        [&[0, 0, 0, 0, 1][..], &[0xff; 20]].concat(),
        vec![0, 0x7f, 0xff, 0xff, 0xff],
    ]);
    let mut stream = messages(payloads);
    stream.push(crate::kit::Msg { payload: None, offset: stream.len() as i64, ..stream[0].clone() });
    stream[3].timestamp_ms = i64::MAX;
    stream[4].timestamp_ms = i64::MIN;
    stream[5].key = vec![0, 0xff, 0xfe];

    FaultStore::named("extreme");
    let lab = Lab::at("fault://extreme/lake");
    lab.run(&stream, &Cut::epochs(&[13, 1, 40])).unwrap();
    lab.assert_complete(&stream);
    lab.assert_verified();
    let silver = lab.sql("SELECT count(*) FROM silver.transactions WHERE transaction_id LIKE 'merchant-%' OR transaction_id LIKE 'location-%'");
    assert_eq!(silver, [(2 * texts.len()).to_string()]);
    let amounts = lab.sql("SELECT transaction_id, CAST(amount AS VARCHAR) FROM silver.transactions WHERE transaction_id LIKE 'amount-%' ORDER BY 1");
    assert_eq!(amounts, ["amount-9 | 999999.98"], "half to even, and nothing that is not above 0");
    let times = lab.sql("SELECT transaction_id FROM silver.transactions WHERE transaction_id LIKE 'time-%'");
    assert!(times.len() <= 2, "{times:?}");
    let wanted = lab.contents();
    lab.rebuild(Target::All).unwrap();
    lab.contents().assert_equals(&wanted, "rebuilt");
}
