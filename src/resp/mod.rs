//! The wire of the data path: RESP2, incremental and without copies.
