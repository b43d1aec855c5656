//! Keys that change while they are read.
