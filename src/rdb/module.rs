//! Which module a value belongs to, as far as its payload and a server's list of modules tell.

use super::decode::module_type_name;

/// Precedes a length of eight bytes. Ids are never shorter.
const LENGTH_OF_64_BITS: u8 = 0x81;

/// Types whose names do not tell the module, with the names under which modules that have them are listed.
const PROVIDERS: [(&str, &[&str]); 10] = [
    ("MBbloom--", &["bf"]),
    ("MBbloomCF", &["bf"]),
    ("bloomfltr", &["bf"]),
    ("CMSk-TYPE", &["bf"]),
    ("TopK-TYPE", &["bf"]),
    ("TDIS-TYPE", &["bf"]),
    ("TSDB-TYPE", &["timeseries"]),
    ("ReJSON-RL", &["ReJSON", "json"]),
    ("graphdata", &["graph"]),
    ("graphmeta", &["graph"]),
];

/// Shorter names say too little to recognise a module by its type.
const TELLING_NAME_BYTES: usize = 4;

/// The name of a module value's type (type 7); `None`, where there is none.
pub fn type_name(payload: &[u8]) -> Option<String> {
    let (head, id) = payload.get(1..10)?.split_first()?;
    if *head != LENGTH_OF_64_BITS {
        return None;
    }
    let id = u64::from_be_bytes(id.try_into().ok()?);
    String::from_utf8(module_type_name(id).to_vec()).ok()
}

/// Whether a module that is listed under this name has the type.
pub fn provides(module: &str, type_name: &str) -> bool {
    let same = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
    if let Some((_, modules)) = PROVIDERS.iter().find(|(name, _)| *name == type_name) {
        return modules.iter().any(|name| same(name, module));
    }
    // Names of types have nine characters, so they are padded, or more is said in them.
    let plain = type_name.trim_end_matches(['-', '_']);
    let is_beginning = |of: &str, beginning: &str| {
        beginning.len() >= TELLING_NAME_BYTES
            && of
                .get(..beginning.len())
                .is_some_and(|start| same(start, beginning))
    };
    is_beginning(plain, module) || is_beginning(module, plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_recognised_in_its_payload() {
        // "vectorset", version 1.
        let payload = b"\x07\x81\xbd\xe7\x2d\xa2\xbb\x1e\xb4\x01\x02";
        assert_eq!(type_name(payload).as_deref(), Some("vectorset"));
        assert_eq!(type_name(&payload[..9]), None);
        assert_eq!(
            type_name(b"\x07\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a"),
            None
        );
    }

    #[test]
    fn a_module_is_known_by_its_types() {
        let check = |module: &str, type_name: &str, expected: bool| {
            assert_eq!(
                provides(module, type_name),
                expected,
                "{module} {type_name}"
            );
        };
        check("vectorset", "vectorset", true);
        check("bf", "MBbloom--", true);
        check("ReJSON", "ReJSON-RL", true);
        check("json", "ReJSON-RL", true);
        check("tairhash", "tairhash-", true);
        check("TairHash", "tairhash-", true);
        check("exstrtype", "exstrtype", true);
        check("lua", "vectorset", false);
        check("search", "ReJSON-RL", false);
        check("bf", "bfsomethi", false);
        check("", "vectorset", false);
        check("tairhash", "---------", false);
    }
}
