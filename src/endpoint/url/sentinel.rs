//! `host[:port][,host[:port]…]/service[/db][?db=n]`, behind `redis-sentinel://` and the credentials.

use super::{
    SENTINEL_PORT_DEFAULT, Shown, UrlError, db_number, decode, host_port, one_db, query_db,
    split_at,
};
use crate::endpoint::{Address, HostPort, Sentinels};

/// The service and the database, if it is named. `tail` begins where the hosts end.
pub(super) fn address(
    hosts: &[u8],
    tail: &[u8],
    shown: Shown,
) -> Result<(Address, Option<u32>), UrlError> {
    let hosts: Vec<HostPort> = hosts
        .split(|byte| *byte == b',')
        .map(|host| host_port(host, SENTINEL_PORT_DEFAULT, shown))
        .collect::<Result<_, _>>()?;
    let (path, query) = split_at(tail, |byte| matches!(byte, b'?' | b'#'));
    let path = path.strip_prefix(b"/").ok_or(UrlError::NoService)?;
    let (service, db) = split_at(path, |byte| byte == b'/');
    let service = service_name(service)?;
    let db = match db {
        b"" | b"/" => None,
        [_, digits @ ..] => Some(db_number(digits)?),
    };
    let address = Address::Sentinel(Sentinels::new(hosts, service));
    Ok((address, one_db(db, query_db(query)?)?))
}

/// What a sentinel takes for a name: letters, digits and `.-_`.
fn service_name(text: &[u8]) -> Result<String, UrlError> {
    let name = decode(text)?;
    if name.is_empty() {
        return Err(UrlError::NoService);
    }
    let belongs = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_".contains(byte);
    match String::from_utf8(name) {
        Ok(name) if name.as_bytes().iter().all(belongs) => Ok(name),
        _ => Err(UrlError::ServiceCharacter),
    }
}
