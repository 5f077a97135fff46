//! The row of values that a client binds. Nothing of what it sends is trusted: a message may say that a buffer has more bytes
//! than it has, or than there are.

use std::pin::pin;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::ipc::{MessageHeader, root_as_message};
use arrow_flight::FlightData;
use arrow_flight::utils::flight_data_to_batches;
use futures::{Stream, StreamExt};
use tonic::Status;

use crate::serve::sql::failure::{Failure, state};

/// Messages that one row may come in.
const MESSAGES_MAX: usize = 16;
/// Bytes of all of them.
const BYTES_MAX: usize = 1 << 20;
/// Until the last of them.
const PATIENCE: Duration = Duration::from_secs(30);

fn bad(told: impl std::fmt::Display) -> Failure {
    Failure::new(state::PROTOCOL, format!("the values cannot be read: {told}"))
}

/// The one row that comes.
pub(super) async fn row(messages: impl Stream<Item = Result<FlightData, Status>>) -> Result<RecordBatch, Failure> {
    let read = async {
        let (mut messages, mut bytes, mut kept) = (pin!(messages), 0, Vec::new());
        while let Some(message) = messages.next().await {
            let message = message.map_err(|status| bad(status.message()))?;
            bytes += message.data_header.len() + message.data_body.len() + message.app_metadata.len();
            if bytes > BYTES_MAX || kept.len() == MESSAGES_MAX {
                return Err(bad(format!("{MESSAGES_MAX} messages and {BYTES_MAX} bytes are the most")));
            }
            kept.push(message);
        }
        Ok(kept)
    };
    let messages = tokio::time::timeout(PATIENCE, read).await;
    let messages = messages.map_err(|_| bad(format!("they did not end within {} s", PATIENCE.as_secs())))??;
    // Arrow panics on a buffer that is not where its message says; so it reads in a task of its own.
    let row = tokio::task::spawn_blocking(move || decoded(messages)).await;
    row.unwrap_or_else(|_| Err(bad("a buffer is not where its message says")))
}

fn decoded(mut messages: Vec<FlightData>) -> Result<RecordBatch, Failure> {
    messages.retain(|message| !message.data_header.is_empty());
    messages.iter().try_for_each(plain)?;
    let batches = flight_data_to_batches(&messages).map_err(bad)?;
    let first = batches.first().ok_or_else(|| bad("none came"))?;
    let rows = batches.iter().fold(0_usize, |rows, batch| rows.saturating_add(batch.num_rows()));
    if rows != 1 {
        let told = Failure::new(state::PROTOCOL, format!("{rows} rows of values came where one was expected"));
        return Err(
            told.with_hint("a question is asked once for one row; for several values use IN (…), or ask several times")
        );
    }
    concat_batches(&first.schema(), &batches).map_err(bad)
}

/// Refuses what may be far larger than it came: compressed buffers, and dictionaries that grow.
fn plain(message: &FlightData) -> Result<(), Failure> {
    let header = root_as_message(&message.data_header).map_err(bad)?;
    match header.header_type() {
        MessageHeader::Schema => Ok(()),
        MessageHeader::RecordBatch
            if header.header_as_record_batch().is_some_and(|batch| batch.compression().is_none()) =>
        {
            Ok(())
        }
        MessageHeader::RecordBatch => Err(bad("they are compressed; send them as they are")),
        MessageHeader::DictionaryBatch => Err(bad("they are in a dictionary; send them as they are")),
        _ => Err(bad("neither a schema nor a batch came")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int64Array, StringArray};
    use arrow::datatypes::Int32Type;
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::IpcWriteOptions;
    use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
    use futures::TryStreamExt;

    use super::*;

    fn batch(column: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter([("1", column)]).unwrap()
    }

    async fn sent(batch: RecordBatch, options: IpcWriteOptions) -> Vec<FlightData> {
        let encoder = FlightDataEncoderBuilder::new().with_options(options);
        let encoder = encoder.with_dictionary_handling(DictionaryHandling::Resend);
        encoder.build(futures::stream::iter([Ok(batch)])).try_collect().await.unwrap()
    }

    async fn read(messages: Vec<FlightData>) -> Result<RecordBatch, String> {
        row(futures::stream::iter(messages.into_iter().map(Ok))).await.map_err(|failure| failure.message().to_owned())
    }

    #[tokio::test]
    async fn one_plain_row_is_read_and_nothing_else() {
        let one = batch(Arc::new(Int64Array::from(vec![7])));
        assert_eq!(read(sent(one.clone(), IpcWriteOptions::default()).await).await, Ok(one.clone()));
        let two = batch(Arc::new(Int64Array::from(vec![7, 8])));
        assert!(read(sent(two, IpcWriteOptions::default()).await).await.unwrap_err().contains("2 rows"));
        let lz4 = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME)).unwrap();
        assert!(read(sent(one.clone(), lz4).await).await.unwrap_err().contains("compressed"));
        let words: DictionaryArray<Int32Type> = ["a"].into_iter().collect();
        let told = read(sent(batch(Arc::new(words)), IpcWriteOptions::default()).await).await;
        assert!(told.unwrap_err().contains("dictionary"));
        let long = batch(Arc::new(StringArray::from(vec!["x".repeat(BYTES_MAX)])));
        assert!(read(sent(long, IpcWriteOptions::default()).await).await.unwrap_err().contains("the most"));
        assert!(read(Vec::new()).await.is_err());
    }

    #[tokio::test]
    async fn a_message_cut_or_changed_anywhere_is_an_answer() {
        let one = batch(Arc::new(StringArray::from(vec!["seven"])));
        let good = sent(one, IpcWriteOptions::default()).await;
        for (at, message) in good.iter().enumerate() {
            for place in 0..message.data_header.len() {
                for value in [0, 0x7f, 0xff] {
                    let mut bad = good.clone();
                    let mut header = message.data_header.to_vec();
                    header[place] = value;
                    bad[at].data_header = header.into();
                    // Whatever it says, the process lives and answers.
                    let _ = read(bad).await;
                }
            }
            let mut cut = good.clone();
            cut[at].data_body = bytes::Bytes::new();
            let _ = read(cut).await;
        }
    }
}
