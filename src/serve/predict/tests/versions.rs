//! Challengers, and versions that requests name.

use super::*;
use crate::model::registry::{CHALLENGER, MODEL_FILE, Version};
use crate::scoring::{ScoringSettings, position};

fn shared(share: f64) -> ScoringSettings {
    ScoringSettings { challenger_share: share, challenger_latency_us: 60_000_000, ..ScoringSettings::default() }
}

impl Service {
    fn version(&self, alias: &str) -> Version {
        self.kept.registry.aliases(&self.kept.name).unwrap().get(alias).unwrap().clone()
    }

    async fn pinned(&self, headers: &str, body: &Value) -> Answer {
        self.send("POST", "/predict", &format!("{JSON}{headers}"), body.to_string().as_bytes()).await
    }

    async fn metrics(&self) -> String {
        String::from_utf8(self.send("GET", "/metrics", "", b"").await.body).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_of_users_is_answered_by_the_challenger_by_every_route() {
    let service = start_with(Kept::challenged(shared(0.4)), ServeSettings::default()).await;
    let (champion, challenger) = (service.version(CHAMPION), service.version(CHALLENGER));
    let sent: Vec<Value> = (0..120).map(|user| transaction(&user.to_string(), user, 1_500.0)).collect();
    let batch = service.send("POST", "/predict/batch", JSON, Value::Array(sent.clone()).to_string().as_bytes()).await;
    let batch = batch.json();
    assert!(batch["model"].is_null(), "several answered");
    let lines: Vec<String> = sent.iter().map(Value::to_string).collect();
    let kind = "content-type: application/x-ndjson\r\n";
    let lines = service.send("POST", "/predict/batch", kind, lines.join("\n").as_bytes()).await;
    let lines: Vec<Value> =
        String::from_utf8(lines.body).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut by_challenger = 0;
    for (user, body) in sent.iter().enumerate() {
        let is_drawn = position(&challenger, &user.to_string()) < 0.4;
        let (role, version) = if is_drawn { ("challenger", &challenger) } else { ("champion", &champion) };
        by_challenger += u64::from(is_drawn);
        let single = service.predict(body).await.json();
        assert_eq!((&single["role"], &single["model"]["version"]), (&json!(role), &json!(version)), "{user}");
        assert_eq!(single["decision"], if is_drawn { "fraud" } else { "legitimate" });
        for told in [&batch["results"][user], &lines[user]] {
            assert_eq!(told["transaction_id"], json!(user.to_string()));
            for member in ["role", "model_version", "fraud_probability"] {
                assert_eq!(told[member], single[member], "{member} of {user}");
            }
        }
    }
    let metrics = service.metrics().await;
    for line in [
        format!("assay_role_predictions_total{{decision=\"fraud\",role=\"challenger\"}} {}", 3 * by_challenger),
        format!("assay_role_probability_count{{role=\"challenger\"}} {}", 3 * by_challenger),
        format!("assay_role_probability_count{{role=\"champion\"}} {}", 360 - 3 * by_challenger),
        format!("assay_predictions_total{{decision=\"fraud\",version=\"{challenger}\"}} {}", 3 * by_challenger),
    ] {
        assert!(metrics.lines().any(|found| found == line), "no `{line}` in\n{metrics}");
    }
    let told = service.send("GET", "/models", "", b"").await.json();
    assert_eq!((&told["challenger"]["version"], &told["challenger"]["share"]), (&json!(challenger), &json!(0.4)));
    assert!(told["challenger"]["taken_out"].is_null() && told["challenger_problem"].is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_challenger_is_taken_out_and_nobody_is_refused() {
    let settings = ScoringSettings { challenger_latency_us: 1, challenger_transactions_min: 20, ..shared(1.0) };
    let service = start_with(Kept::challenged(settings), ServeSettings::default()).await;
    let batch = Value::Array((0..50).map(|user| transaction("t", user, 5.0)).collect()).to_string();
    for _ in 0..2 {
        let told = service.send("POST", "/predict/batch", JSON, batch.as_bytes()).await.json();
        assert_eq!(told["results"][0]["role"], "challenger", "how long a batch takes says nothing");
    }
    let mut roles = Vec::new();
    for user in 0..80 {
        let answer = service.predict(&transaction("t", user, 5.0)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        roles.push(answer.json()["role"].as_str().unwrap().to_owned());
    }
    let first = roles.iter().position(|role| role == "champion").expect("it is taken out");
    // Of 100 in batches and as many beside as are more than 2% of them.
    assert_eq!(first, 3, "{roles:?}");
    assert!(roles[first..].iter().all(|role| role == "champion"), "{roles:?}");
    let metrics = service.metrics().await;
    assert!(metrics.contains("assay_challenger_returns_total{cause=\"latency\"} 1"), "{metrics}");
    let told = service.send("GET", "/models", "", b"").await.json();
    let expected = json!({"cause": "latency", "transactions": 103, "failed": 0, "slow": 3});
    assert_eq!((&told["challenger"]["taken_out"], &told["challenger"]["share"]), (&expected, &json!(0.0)));
    // Who names it gets it all the same.
    let answer = service.pinned("x-model-version: challenger\r\n", &transaction("t", 1, 5.0)).await.json();
    assert_eq!((&answer["role"], &answer["model_version"]), (&json!("pinned"), &json!(service.version(CHALLENGER))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_answered_by_the_version_that_it_names() {
    let service = start(ServeSettings::default()).await;
    let champion = service.version(CHAMPION);
    let other = service.kept.record(NOON_US + 9_000_000, 1_000.0);
    let body = transaction("t", 1, 1_500.0);
    let plain = service.predict(&body).await.json();
    assert_eq!((&plain["decision"], &plain["role"]), (&json!("legitimate"), &json!("champion")));
    for (named, version, decision) in [
        (other.to_string(), &other, "fraud"),
        (champion.to_string(), &champion, "legitimate"),
        ("champion".into(), &champion, "legitimate"),
    ] {
        let header = format!("X-Model-Version: {named}\r\n");
        let told = service.pinned(&header, &body).await.json();
        assert_eq!((&told["model"]["version"], &told["role"]), (&json!(version), &json!("pinned")), "{named}");
        assert_eq!(told["decision"], decision, "{named}");
        let batch = Value::Array(vec![body.clone(); 3]).to_string();
        let told = service.send("POST", "/predict/batch", &format!("{JSON}{header}"), batch.as_bytes()).await.json();
        assert_eq!((&told["model"]["version"], &told["results"][2]["role"]), (&json!(version), &json!("pinned")));
    }
    let metrics = service.metrics().await;
    assert!(metrics.contains("assay_predictions_total{decision=\"fraud\",version=\"pinned\"} 4"), "{metrics}");
    assert!(!metrics.contains(&other.to_string()), "versions that are named are no label");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_cannot_answer_is_refused_with_those_that_there_are() {
    let service = start(ServeSettings::default()).await;
    let champion = service.version(CHAMPION);
    let damaged = service.kept.record(NOON_US + 9_000_000, 1_000.0);
    std::fs::write(service.kept.path(&damaged).join(MODEL_FILE), b"{}").unwrap();
    let silver = |column| (column, "silver.transactions", column);
    let window = ("recent", "gold.platform_hourly", "transactions");
    let unfit = [silver("amount"), window, ("method", "silver.transactions", "payment_method")];
    let unfit = service.kept.record_with(NOON_US + 10_000_000, 1_000.0, &unfit);
    let body = transaction("t", 1, 5.0);
    for (named, code, detail) in [
        ("20200101T000000Z".to_owned(), "unknown_version", "has no version 20200101T000000Z"),
        ("gamma".to_owned(), "unknown_version", "has no alias `gamma`"),
        ("../fraud".to_owned(), "unknown_version", "is no version or alias"),
        (String::new(), "unknown_version", "is no version or alias"),
        ("champion\r\nx-model-version: champion".to_owned(), "unknown_version", "more than once"),
        (damaged.to_string(), "unusable_version", "not what was written"),
        (unfit.to_string(), "unusable_version", "which requests do not have"),
    ] {
        for (path, text) in [("/predict", body.to_string()), ("/predict/batch", format!("[{body}]"))] {
            let headers = format!("{JSON}x-model-version: {named}\r\n");
            let answer = service.send("POST", path, &headers, text.as_bytes()).await;
            let told = answer.json();
            assert_eq!((answer.status, &told["code"], &told["header"]), (400, &json!(code), &json!("X-Model-Version")));
            assert!(told["detail"].as_str().unwrap().contains(detail), "{named}: {told}");
            assert_eq!(told["aliases"], json!({"champion": champion}));
            assert_eq!(told["versions"], json!([unfit, damaged, champion]));
        }
    }
    assert_eq!(service.predict(&body).await.status, 200);
}
