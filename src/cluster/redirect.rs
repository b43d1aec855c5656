//! What MOVED and ASK say: the slot, and the node to go to.

use super::slot::{SLOTS, Slot};
use super::topology::NodeAddress;

/// The answer of a node that does not have a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The key's slot.
    pub slot: Slot,
    /// Where to go.
    pub to: NodeAddress,
}

impl Redirect {
    /// Reads an error line such as `MOVED 3999 127.0.0.1:6381`; `None` if it is none of this kind.
    ///
    /// A node that does not know how others are reached leaves the host out: it is then the one that was asked, `asked`.
    pub fn parse(line: &[u8], asked: &NodeAddress) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let mut words = line.split_ascii_whitespace();
        if !matches!(words.next()?, "MOVED" | "ASK") {
            return None;
        }
        let slot: Slot = words.next()?.parse().ok()?;
        // An IPv6 address comes without brackets, so the port is behind the last colon.
        let (host, port) = words.next()?.rsplit_once(':')?;
        let port: u16 = port.parse().ok()?;
        let host = match host {
            "" | "?" => asked.host.clone(),
            host => host.trim_matches(['[', ']']).to_owned(),
        };
        let to = NodeAddress { host, port };
        (slot < SLOTS).then_some(Self { slot, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_are_read_and_nothing_else_is() {
        let asked = NodeAddress {
            host: "10.0.0.1".into(),
            port: 6379,
        };
        let check = |line: &[u8], wanted: Option<(Slot, &str, u16)>| {
            let found = Redirect::parse(line, &asked);
            let found = found
                .as_ref()
                .map(|redirect| (redirect.slot, redirect.to.host.as_str(), redirect.to.port));
            assert_eq!(found, wanted, "{line:?}");
        };
        check(
            b"MOVED 3999 127.0.0.1:6381",
            Some((3999, "127.0.0.1", 6381)),
        );
        check(b"ASK 0 ::1:7000", Some((0, "::1", 7000)));
        check(
            b"ASK 16383 node-2.example:7000",
            Some((16_383, "node-2.example", 7000)),
        );
        check(b"MOVED 1 :7001", Some((1, "10.0.0.1", 7001)));
        check(b"MOVED 1 ?:7001", Some((1, "10.0.0.1", 7001)));
        check(b"MOVED 16384 127.0.0.1:6381", None);
        check(b"MOVED 1 127.0.0.1", None);
        check(b"MOVED 1 127.0.0.1:70000", None);
        check(b"MOVED", None);
        check(b"TRYAGAIN 1 127.0.0.1:6381", None);
        check(b"\xff\xfe", None);
        check(b"", None);
    }
}
