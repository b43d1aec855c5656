//! Whether a server's memory has room for big keys at all, so that no size is asked for in vain.
//!
//! The memory of the data is compared with what as many keys as there are take if they are like a sample of them. What
//! keys of ordinary size leave unexplained is what big ones may have.
//!
//! # Invariant
//!
//! Where a server does not tell its memory, or what it tells makes no sense, sizes are asked for before DUMP.

use redis::{Value, cmd};

use super::control::{Control, first_error};
use super::wire::LinkError;

/// Keys of a sample.
const SAMPLE_KEYS: u32 = 1000;
/// Standard errors by which the mean of a sample may be wrong.
const CERTAINTY: f64 = 3.0;
/// So many of the smallest big keys may hide before sizes are asked for: for a key that is hardly big, DUMP is no harm.
const HIDDEN_MAX: f64 = 4.0;
/// Unexplained bytes from which on sizes of strings are asked for as well: large ones are rare, and when one arrives that
/// was not expected, no more is lost than its way here.
const STRINGS_BYTES: f64 = 64.0 * 1024.0 * 1024.0;

/// Elements that MEMORY USAGE looks at: five are its own default, and take a few microseconds.
pub const SAMPLES: &[u8] = b"5";

/// Of which keys the size is asked for before they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Probing {
    /// Of none: there is no room in the server's memory for a big one.
    Nothing,
    /// Of those that are read by DUMP.
    Wholes,
    /// Of all: something is in the server's memory that has not been met.
    All,
}

/// Of which keys of a server the size should be asked for, if they are big from so many bytes on and `met` bytes of such
/// keys are known. The connection has the database selected of which a sample is taken.
///
/// # Errors
///
/// Trouble with the connection, and refusals.
pub async fn look(server: &mut Control, big: u64, met: u64) -> Result<Probing, LinkError> {
    let sight = sight(server, big).await?;
    Ok(sight.map_or(Probing::Wholes, |sight| sight.probing(big, met)))
}

/// What a server says of its memory.
#[derive(Debug, Clone, Copy)]
struct Sight {
    /// Bytes of all data.
    dataset: f64,
    /// Keys in all databases.
    keys: f64,
    /// Mean of the sample, and what it may be wrong by.
    mean: f64,
    error: f64,
}

impl Sight {
    /// Bytes that may belong to big keys at most, and at least.
    fn hidden(&self) -> (f64, f64) {
        let least = self.keys * (self.mean - self.error).max(0.0);
        let most = self.keys * (self.mean + self.error);
        (self.dataset - least, self.dataset - most)
    }

    fn probing(&self, big: u64, met: u64) -> Probing {
        let (most, least) = self.hidden();
        if least - met as f64 > STRINGS_BYTES.max(big as f64) {
            Probing::All
        } else if most > HIDDEN_MAX * big as f64 {
            Probing::Wholes
        } else {
            Probing::Nothing
        }
    }
}

async fn sight(server: &mut Control, big: u64) -> Result<Option<Sight>, LinkError> {
    let memory = server.info_section("memory").await?;
    let keyspace = server.info_section("keyspace").await?;
    let dataset = memory.get("used_memory_dataset");
    let Some(dataset) = dataset.and_then(|bytes| bytes.parse::<f64>().ok()) else {
        return Ok(None);
    };
    let keys: f64 = keyspace.values().filter_map(|db| keys_of(db)).sum();
    let mut sizes = sample(server).await?;
    let sampled = sizes.len() as f64;
    // The others are what they have to be told from.
    sizes.retain(|size| *size < big as f64);
    let count = sizes.len().max(1) as f64;
    let mean = sizes.iter().sum::<f64>() / count;
    let variance = sizes.iter().map(|size| (size - mean).powi(2)).sum::<f64>() / count;
    Ok(Some(Sight {
        dataset,
        keys,
        mean,
        // All keys there are need no estimate.
        error: match sampled < keys {
            true => CERTAINTY * (variance / count).sqrt(),
            false => 0.0,
        },
    }))
}

/// `keys=12,expires=0,…`
fn keys_of(line: &str) -> Option<f64> {
    let fields = line.split(',');
    let keys = fields
        .filter_map(|field| field.strip_prefix("keys="))
        .next()?;
    keys.parse().ok()
}

/// Sizes of some keys.
async fn sample(server: &mut Control) -> Result<Vec<f64>, LinkError> {
    let mut scan = cmd("SCAN");
    scan.arg(0).arg("COUNT").arg(SAMPLE_KEYS);
    let names = match server.ask(&scan).await? {
        Value::Array(mut parts) => match parts.pop() {
            Some(Value::Array(names)) => names,
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    let questions = names.into_iter().filter_map(|name| match name {
        Value::BulkString(name) => {
            let mut usage = cmd("MEMORY");
            usage.arg("USAGE").arg(name).arg("SAMPLES").arg(SAMPLES);
            Some(usage)
        }
        _ => None,
    });
    let answers = server.ask_raw(questions.collect()).await?;
    if let Some(error) = answers.iter().find_map(first_error) {
        return Err(error);
    }
    let sizes = answers.into_iter().filter_map(|answer| match answer {
        Value::Int(bytes) => Some(bytes as f64),
        _ => None,
    });
    Ok(sizes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = 1024.0 * 1024.0;

    fn probing(dataset_mib: f64, keys: f64, mean: f64, error: f64, met_mib: f64) -> Probing {
        let sight = Sight {
            dataset: dataset_mib * MIB,
            keys,
            mean,
            error,
        };
        sight.probing(8 << 20, (met_mib * MIB) as u64)
    }

    #[test]
    fn sizes_are_asked_for_only_where_there_is_room_for_big_keys() {
        // A million keys of 150 bytes.
        assert_eq!(probing(120.0, 1e6, 150.0, 5.0, 0.0), Probing::Nothing);
        // A hash of 40 MiB among them can't be told from the sample's error, but may be.
        assert_eq!(probing(190.0, 1e6, 150.0, 5.0, 0.0), Probing::Wholes);
        assert_eq!(probing(743.0, 1e6, 150.0, 5.0, 0.0), Probing::All);
        // It was met.
        assert_eq!(probing(743.0, 1e6, 150.0, 5.0, 600.0), Probing::Wholes);
    }

    #[test]
    fn the_keys_of_a_database_are_read_as_info_tells_them() {
        assert_eq!(keys_of("keys=12,expires=0,avg_ttl=0"), Some(12.0));
        assert_eq!(keys_of("whatever"), None);
    }
}
