use std::sync::Arc;

use arrow::array::Array;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::lake::{Lake, LakeSettings, RecordAppender, open_session};
use crate::scoring::testing::{Kept, receipts, transaction};

/// As the table was before versions had roles.
fn older() -> TableSpec {
    let spec = receipts_table();
    let kept = spec.schema.fields().iter().filter(|field| !["role", "shadow_of"].contains(&field.name().as_str()));
    TableSpec { schema: Arc::new(Schema::new(kept.cloned().collect::<Vec<_>>())), ..spec }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_an_older_assay_gains_its_columns_and_keeps_its_rows() {
    let folder = TempDir::new().unwrap();
    let settings =
        LakeSettings { location: folder.path().join("lake").display().to_string(), ..LakeSettings::default() };
    let lake = Lake::open(&settings, "test", true).await.unwrap();
    let (_kept, scorer) = Kept::champion();
    let rows = |id: &str| {
        let sent: Value = transaction(id, 7, 3_000.5);
        let scores = scorer.score_json([sent.to_string().as_bytes()].into_iter()).unwrap();
        receipts(&scorer, &[Arc::new(scores)])
    };
    let append = async |spec: TableSpec, id: &str| {
        let encoding = spec.encoding.clone();
        RecordAppender::new(lake.clone(), spec).append(&[rows(id)], &encoding, 0).await.unwrap();
    };
    // What the encoder does not find in the older table it leaves out.
    append(older(), "before").await;
    let read = async |query: &str| {
        let session = open_session(&lake, None, 0, None).await.unwrap();
        session.context.sql(query).await.unwrap().collect().await.unwrap()
    };
    let all = "SELECT * FROM gold.predictions ORDER BY transaction_id DESC";
    let found: Vec<Receipt> = read(all).await.iter().flat_map(Receipt::read).collect();
    assert_eq!((found.len(), found[0].role.as_str()), (1, "champion"), "it is read before it has the columns");
    append(receipts_table(), "after").await;
    let found: Vec<Receipt> = read(all).await.iter().flat_map(Receipt::read).collect();
    let told: Vec<_> = found.iter().map(|receipt| (receipt.transaction_id.as_str(), receipt.role.as_str())).collect();
    assert_eq!(told, [("before", "champion"), ("after", "champion")]);
    let missing = read("SELECT transaction_id FROM gold.predictions WHERE role IS NULL").await;
    assert_eq!(missing.iter().map(|batch| batch.column(0).len()).sum::<usize>(), 1);
}
