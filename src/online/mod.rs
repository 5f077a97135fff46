//! What is known of users, merchants and devices, in a Redis that several servers share.
//!
//! A job [feeds](Feeder) it: it follows a lake, and after each complete epoch writes the state of every entity that got
//! rows. Servers [ask](OnlineReader) it for the entities of the rows that they score together, in one round trip, and
//! compute from these states what they would compute from memory: values are functions of the *set* of rows of an
//! entity, so nothing is lost on the way.
//!
//! | key | holds |
//! |---|---|
//! | `<prefix>:<lake>:<definitions>:marker` | the generation that answers, its epoch, when that was published, and the oldest instant that may be asked about |
//! | `<prefix>:<lake>:<definitions>:feeder` | who writes; expires |
//! | `<prefix>:<lake>:<definitions>:<generation>:<table>.<kind>:<entity>` | the state of an entity as of an epoch, and the one before it |
//!
//! Definitions are a hash over all that the states depend on: who has other ones looks elsewhere. Entities are hashes
//! under the key of the lake. **An epoch is seen as a whole**: its states are written first, each beside the one before
//! it, and then the marker moves. Who asks takes of each entity the newest state that is not newer than the marker, and
//! all of them at one moment. A generation that is written anew is seen when all of it is there.

mod error;
mod feeder;
mod layout;
mod memory;
mod reader;
mod scripts;
mod settings;
mod store;

pub use error::OnlineError;
pub use feeder::{Fed, FedLake, Feeder, Removed, Status};
pub use reader::OnlineReader;
pub use settings::OnlineSettings;
pub use store::Held;
