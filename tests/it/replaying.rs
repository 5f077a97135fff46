//! Dead letters that are sent once more.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use assay::domain::{Layer, TableName};
use assay::lake::Lease;
use assay::pipeline::{Letter, REPLAYED, Replay, letters_of};
use futures::StreamExt;

use crate::kit::{Cut, Lab, Msg, NOON_US, TOPIC, Tx, dirty, generated, wait_for};

fn waiting(lab: &Lab, replay: &Replay) -> Vec<Letter> {
    let session = lab.session(None);
    wait_for(async {
        let mut stream = replay.letters(&session, &TableName::new(Layer::Bronze, "transactions")).await.unwrap();
        let mut letters = Vec::new();
        while let Some(batch) = stream.next().await {
            letters.extend(letters_of(&batch.unwrap()).unwrap());
        }
        letters
    })
}

fn count(lab: &Lab, table: &str) -> i64 {
    let session = lab.session(None);
    let sql = format!("SELECT count(*) FROM {table}");
    let batches = wait_for(async { session.context.sql(&sql).await.unwrap().collect().await });
    batches.unwrap()[0].column(0).as_primitive::<Int64Type>().value(0)
}

fn all(lab: &Lab) -> Replay {
    Replay { lake: lab.open_lake().unwrap().id(), topics: vec![TOPIC.to_owned()], ..Replay::default() }
}

fn sent(letters: &[Letter], from: i64) -> Vec<Msg> {
    let message = |(offset, letter): (i64, &Letter)| Msg {
        partition: 0,
        offset,
        timestamp_ms: NOON_US / 1000,
        key: letter.key.clone().unwrap_or_default(),
        payload: letter.payload.clone(),
        headers: letter.headers.clone(),
    };
    (from..).zip(letters).map(message).collect()
}

#[test]
fn a_letter_is_sent_again_once_with_its_bytes_and_where_it_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    let (made, _) = generated(dirty(3, 300));
    lab.run(&made, &Cut::every(100)).unwrap();
    let all = all(&lab);
    let letters = waiting(&lab, &all);
    assert_eq!(letters.len() as i64, count(&lab, "bronze.dead_letters WHERE payload IS NOT NULL"));
    for letter in &letters {
        let place =
            letter.headers.iter().find(|header| header.name == REPLAYED).and_then(|header| header.value.clone());
        let place = String::from_utf8(place.unwrap()).unwrap();
        let mut parts = place.split('/').skip(2).map(|part| part.parse::<i64>().unwrap());
        let (partition, offset) = (parts.next().unwrap(), parts.next().unwrap());
        let came =
            made.iter().find(|message| i64::from(message.partition) == partition && message.offset == offset).unwrap();
        let expected = (&came.payload, TOPIC, came.partition);
        assert_eq!((&letter.payload, letter.topic.as_str(), letter.partition), expected, "{place}");
    }
    assert!(waiting(&lab, &Replay { topics: vec!["another".into()], ..all.clone() }).is_empty());
    assert!(waiting(&lab, &Replay { to_epoch: Some(0), ..all.clone() }).is_empty());
    let of_reason = Replay { reasons: vec!["unknown_schema_id".into(), "it's none".into()], ..all.clone() };
    let few = waiting(&lab, &of_reason).len() as i64;
    assert_eq!(few, count(&lab, "bronze.dead_letters WHERE reason = 'unknown_schema_id'"));

    // Half of them are mended meanwhile, say by a contract that knows them.
    let end = made.iter().map(|message| message.offset).max().unwrap() + 1;
    let mut again = sent(&letters, end);
    let mended = again.len() / 2;
    for (number, message) in again.iter_mut().take(mended).enumerate() {
        message.payload = Some(Tx::new(&format!("mended-{number}"), "2026-01-05T23:30:00Z").payload());
    }
    let stream: Vec<Msg> = made.iter().chain(&again).cloned().collect();
    lab.run(&stream, &Cut::every(50)).unwrap();
    let left = waiting(&lab, &all);
    assert_eq!(
        left.len(),
        letters.len() - mended,
        "what came is not sent again; what is still bad may be, under its new place"
    );
    assert!(left.iter().all(|letter| {
        let places = letter.headers.iter().filter(|header| header.name == REPLAYED).collect::<Vec<_>>();
        let text = String::from_utf8(places[0].value.clone().unwrap()).unwrap();
        places.len() == 1 && text.rsplit('/').next().unwrap().parse::<i64>().unwrap() >= end
    }));
    lab.assert_verified();
}

#[test]
fn what_was_sent_twice_waits_once() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    let (made, _) = generated(dirty(4, 200));
    lab.run(&made, &Cut::every(100)).unwrap();
    let all = all(&lab);
    let letters = waiting(&lab, &all);
    assert!(letters.len() > 1);
    // Two replays before the first had arrived; of the first letter one copy is taken, and somebody writes such a header.
    let end = made.iter().map(|message| message.offset).max().unwrap() + 1;
    let mut again = sent(&letters, end);
    again.extend(sent(&letters, end + again.len() as i64));
    again[0].payload = Some(Tx::new("mended", "2026-01-05T23:30:00Z").payload());
    let mut forged = again.last().unwrap().clone();
    forged.offset += 1;
    forged.payload = Some(Tx::new("forged", "2026-01-05T23:30:00Z").payload());
    forged.headers = vec![assay::domain::Header { name: REPLAYED.to_owned(), value: Some(vec![0xff]) }];
    again.push(forged);
    let stream: Vec<Msg> = made.iter().chain(&again).cloned().collect();
    lab.run(&stream, &Cut::every(30)).unwrap();
    assert_eq!(waiting(&lab, &all).len(), letters.len() - 1);
}

#[test]
fn what_another_lake_sent_is_a_message_like_others() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, other) = (Lab::at(one.path().to_str().unwrap()), Lab::at(other.path().to_str().unwrap()));
    let (made, _) = generated(dirty(5, 200));
    one.run(&made, &Cut::every(100)).unwrap();
    let letters = waiting(&one, &all(&one));
    let end = made.iter().map(|message| message.offset).max().unwrap() + 1;
    let stream: Vec<Msg> = made.iter().chain(&sent(&letters, end)).cloned().collect();
    one.run(&stream, &Cut::every(100)).unwrap();
    other.run(&stream, &Cut::every(100)).unwrap();
    // Each letter of the one was sent once; the other sent none of its own, whatever the headers say.
    assert_eq!(waiting(&one, &all(&one)).len(), letters.len());
    let there = count(&other, "bronze.dead_letters WHERE payload IS NOT NULL");
    assert_eq!((waiting(&other, &all(&other)).len() as i64, there as usize), (there, 2 * letters.len()));
}

#[test]
fn two_replays_exclude_each_other_and_no_writer() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    let (made, _) = generated(dirty(6, 50));
    lab.run(&made, &Cut::every(50)).unwrap();
    let lake = lab.open_lake().unwrap();
    let first = Lease::of_replay(&lake).unwrap();
    drop(Lease::acquire(&lake).unwrap());
    let refused = Lease::of_replay(&lake).unwrap_err();
    assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
    drop(first);
    drop(Lease::of_replay(&lake).unwrap());
}
