//! The support does what it promises. An oracle that finds nothing, a proxy that lets everything pass or a data set
//! without streams would make every other test pass, so each is tested by what it must find.

/// Clusters have the keys that were put into them, also after resharding and failover.
mod cluster;
/// Every damage changes its key, the oracle finds each one, and finds nothing else.
mod corrupt;
/// Planted differences of each kind are found, and none where there is none.
mod oracle;
/// Every line of the proxy's contract.
mod proxy;
/// Servers of every kind start, report their version, keep or lose their data; processes and secrets are seen.
mod servers;
