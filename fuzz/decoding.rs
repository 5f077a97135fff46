//! What holds of every decoder of messages.

use assay::contract::{Decoded, Decoder, Rejected};
use assay::domain::MessageBatchBuilder;

/// Decodes the messages as one batch: each is a row or a dead letter, and the one that it is without its neighbours.
pub fn decode_each(decoder: &mut Decoder, messages: &[&[u8]]) -> Decoded {
    let together = decode(decoder, messages);
    assert_eq!(together.rows.num_rows(), together.message_of_row.len());
    assert_eq!(together.rows.num_rows(), together.schema_ids.len());
    assert_eq!(together.rows.num_rows() + together.rejected.len(), messages.len());
    for (at, message) in (0..).zip(messages) {
        let alone = decode(decoder, &[message]);
        if let Some(row) = together.message_of_row.iter().position(|of_row| *of_row == at) {
            assert_eq!(alone.rows, together.rows.slice(row, 1));
            assert_eq!(alone.schema_ids, [together.schema_ids[row]]);
        } else {
            let rejected = together.rejected.iter().find(|rejected| rejected.message == at);
            let rejected = rejected.expect("a message that is no row is a dead letter");
            assert_eq!(alone.rejected, [Rejected { message: 0, ..rejected.clone() }]);
        }
    }
    together
}

fn decode(decoder: &mut Decoder, messages: &[&[u8]]) -> Decoded {
    let mut builder = MessageBatchBuilder::default();
    for (offset, message) in (0..).zip(messages) {
        builder.push("t", 0, offset, None, None, Some(message), Vec::new());
    }
    decoder.decode(&builder.finish()).expect("the lookup never fails")
}
