//! What can't arrive in pieces, and why.
