//! A big key of one server, read in small answers and digested as they come, so that it keeps nobody waiting for long.
//!
//! DUMP of a hash with a million fields keeps a server busy for two seconds. Here no answer takes more than a millisecond,
//! and the digest is the one that the payload would have.
//!
//! # Invariants
//!
//! - Nothing here changes a server.
//! - This shares no code with the pieces of the copy: what one of them leaves out, the other one misses.

mod answers;
mod reader;
mod stream;
mod watch;

pub use answers::is_change;
pub use reader::{Keeps, Look, Read, Reader};
pub use watch::{unchanged, watch};
