//! redknot moves a Redis that you can only SCAN.
//!
//! The modules in reading order: [`plan`] says what is to be moved, [`copy`] moves it, [`compare`] says whether both
//! sides are equal, [`repair`] makes them equal where they are not, [`client`] speaks to both servers, [`state`] remembers
//! what both of them have acknowledged, [`audit`] keeps the journal. [`resp`], [`rdb`], [`digest`], [`recorded`], [`cluster`] and [`key`]
//! are pure: bytes in, values out.
//!
//! `docs/ARCHITECTURE.md` tells the life of a batch and which module may know which.

pub mod config;
pub mod endpoint;
pub mod plan;
pub mod renaming;
pub mod selection;

pub mod audit;
pub mod client;
pub mod compare;
pub mod copy;
pub mod databases;
pub mod gentle;
mod pace;
pub mod repair;
pub mod state;
pub mod tls;

pub mod cluster;
pub mod digest;
pub mod figures;
pub mod glob;
pub mod key;
pub mod rdb;
pub mod recorded;
pub mod resp;

pub mod crash_point;
pub mod error;
pub mod progress;
pub mod shutdown;
pub mod temporary;
