//! What is an address, what is none, and that neither shows a password.

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use proptest::prelude::*;

use super::*;
use crate::endpoint::MetNode;

fn endpoint(text: &str) -> Endpoint {
    parse(text.as_bytes())
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .endpoint
}

fn encode(bytes: &[u8]) -> String {
    percent_encode(bytes, NON_ALPHANUMERIC).to_string()
}

#[test]
fn an_address_is_what_the_operator_means() {
    let check = |text, shown: &str| assert_eq!(endpoint(text).to_string(), shown, "{text}");
    check("foo", "redis://foo:6379/0");
    check("foo:7000", "redis://foo:7000/0");
    check("redis:6379", "redis://redis:6379/0");
    check("foo:7000/2", "redis://foo:7000/2");
    check("redis://cache.prod", "redis://cache.prod:6379/0");
    check("REDIS://cache.prod/", "redis://cache.prod:6379/0");
    check("valkey://h", "redis://h:6379/0");
    check("redis://h:1/3", "redis://h:1/3");
    check("redis://h?db=3", "redis://h:6379/3");
    check("redis://h:65535/?db=3", "redis://h:65535/3");
    check("redis://h/3?db=3", "redis://h:6379/3");
    check("redis://[::1]", "redis://[::1]:6379/0");
    check("[2001:db8::7]:7000", "redis://[2001:db8::7]:7000/0");
    check("redis://app:secret@h", "redis://app@h:6379/0");
    check("redis://:secret@h", "redis://h:6379/0");
    check(
        "unix:///run/redis@1.sock",
        "redis+unix:///run/redis@1.sock?db=0",
    );
    check(
        "redis+unix://u:p@/r%20d/x?db=4",
        "redis+unix://u@/r d/x?db=4",
    );
}

#[test]
fn a_service_is_known_by_its_name_and_its_sentinels_in_any_order() {
    let check = |text, shown: &str| assert_eq!(endpoint(text).to_string(), shown, "{text}");
    check("redis-sentinel://h/shop", "redis-sentinel://h:26379/shop/0");
    check(
        "redis-sentinel://u:p@b:2,[::1],a:1/shop/3",
        "redis-sentinel://u@[::1]:26379,a:1,b:2/shop/3",
    );
    check(
        "redis-sentinel://b,a,b/shop?db=3",
        "redis-sentinel://a:26379,b:26379/shop/3",
    );
    let parsed = parse(b"rediss-sentinel://:p@h/shop.eu-1").expect("parses");
    assert!(parsed.tls && !parsed.db_given);
    assert_eq!(parsed.endpoint.password(), Some(b"p".as_slice()));
}

#[test]
fn what_a_url_leaves_unsaid_is_known() {
    let parsed = parse(b"foo").expect("parses");
    assert!(!parsed.scheme_given && !parsed.db_given && parsed.name_alone.is_none());
    let parsed = parse(b"redis://foo/0").expect("parses");
    assert!(parsed.scheme_given && parsed.db_given && !parsed.tls);
    for secure in [
        "rediss://u:p@foo:1/3",
        "valkeys://u:p@foo:1/3",
        "REDISS://u:p@foo:1?db=3",
    ] {
        let parsed = parse(secure.as_bytes()).expect("parses");
        assert!(parsed.tls && parsed.scheme_given, "{secure}");
        // Without settings there is no TLS, so it must not look as if there were.
        assert_eq!(parsed.endpoint.to_string(), "redis://u@foo:1/3");
    }
    let parsed = parse(b"redis://s3cret@foo").expect("parses");
    assert_eq!(parsed.name_alone.as_deref(), Some("s3cret"));
    assert!(!format!("{parsed:?} {}", parsed.endpoint).contains("s3cret"));
    let user_without_password = endpoint("redis://app:@foo");
    assert_eq!(user_without_password.user.as_deref(), Some("app"));
    assert_eq!(user_without_password.password(), Some(b"".as_slice()));
    assert_eq!(endpoint("redis://:@foo").password(), None);
}

#[test]
fn what_is_no_address_is_refused_with_its_reason() {
    let check = |text: &[u8], error: UrlError| {
        assert_eq!(
            parse(text).expect_err("refused"),
            error,
            "{}",
            text.escape_ascii()
        );
    };
    check(b"", UrlError::Empty);
    check(b"http://h", UrlError::UnknownScheme("http".into()));
    check(
        b"redis+sentinel://h",
        UrlError::UnknownScheme("redis+sentinel".into()),
    );
    check(b"unix:/run/redis.sock", UrlError::SlashesMissing("unix"));
    check(b"redis:/h", UrlError::SlashesMissing("redis"));
    check(b"/run/redis.sock", UrlError::PathWithoutScheme);
    check(b"unix://run/redis.sock", UrlError::SocketRelative);
    check(b"unix:///run/", UrlError::SocketRelative);
    check(b"unix:///run/%00", UrlError::SocketNul);
    check(b"redis://", UrlError::NoHost);
    check(b"redis://:6379", UrlError::NoHost);
    check(b"redis://:p@", UrlError::NoHost);
    check(b"redis://h:", UrlError::PortMissing);
    check(b"h:/3", UrlError::PortMissing);
    check(b"redis://a b", UrlError::HostCharacter);
    check(b"redis://h\xff", UrlError::HostCharacter);
    check(b"redis://h/abc", UrlError::Db);
    check(b"redis://h/-1", UrlError::Db);
    check(b"redis://h/+1", UrlError::Db);
    check(b"redis://h/2147483648", UrlError::Db);
    check(b"redis://h/1?db=2", UrlError::DbTwice);
    check(b"redis://h?timeout=5", UrlError::Parameter);
    check(b"::1", UrlError::Ipv6WithoutBrackets(Ipv6Addr::LOCALHOST));
    check(
        b"redis://::1:6379",
        UrlError::Ipv6WithoutBrackets(Ipv6Addr::LOCALHOST),
    );
    check(b"redis://a:b:c", UrlError::Colons);
    check(b"[::1", UrlError::NotIpv6);
    check(b"[::1]x", UrlError::NotIpv6);
    check(b"[localhost]:1", UrlError::NotIpv6);
    check(b"redis://:p@ss@h", UrlError::Unescaped('@'));
    check(b"redis://:p/ss@h", UrlError::Unescaped('/'));
    check(b"redis://:p?ss@h", UrlError::Unescaped('?'));
    check(b"redis://:p#ss@h", UrlError::Unescaped('#'));
    check(b"redis://h#x", UrlError::Unescaped('#'));
    check(b"unix://:p/ss@/run/x", UrlError::Unescaped('/'));
    check(b"redis://:p%ss@h", UrlError::Percent);
    check(b"redis://:p%4@h", UrlError::Percent);
    check(b"redis://%ff:p@h", UrlError::UserNotText);
    check(b"rediss:/h", UrlError::SlashesMissing("rediss"));
    check(
        b"redis-sentinel:/h/x",
        UrlError::SlashesMissing("redis-sentinel"),
    );
    check(b"redis-sentinel://h", UrlError::NoService);
    check(b"redis-sentinel://h:1,g:2/", UrlError::NoService);
    check(b"redis-sentinel://h//0", UrlError::NoService);
    check(b"redis-sentinel://h/a%0ab", UrlError::ServiceCharacter);
    check(b"redis-sentinel://h/a b", UrlError::ServiceCharacter);
    check(b"redis-sentinel://h,/x", UrlError::NoHost);
    check(b"redis-sentinel://h:/x", UrlError::PortMissing);
    check(b"redis-sentinel://h/x/y", UrlError::Db);
    check(b"redis-sentinel://h/x/1?db=2", UrlError::DbTwice);
    check(b"redis-sentinel://:p/ss@h/x", UrlError::Unescaped('/'));
}

#[test]
fn a_bad_port_is_underlined_unless_it_could_be_a_password() {
    let check = |text: &str, marked: &str| {
        let error = parse(text.as_bytes()).expect_err("refused");
        let mark = error.mark().unwrap_or_else(|| panic!("{text}: {error:?}"));
        let carets: String = mark
            .text
            .chars()
            .enumerate()
            .map(|(at, c)| match mark.range.contains(&at) {
                true => format!("[{c}]"),
                false => c.to_string(),
            })
            .collect();
        assert_eq!(carets.replace("][", ""), marked);
    };
    check("redis://h:0", "redis://h:[0]");
    check("rediss://u:secret@h:0", "rediss://***@h:[0]");
    check("h:65536", "h:[65536]");
    check("redis://h:-1/3", "redis://h:[-1]");
    check(
        "redis://u:secret@[::1]:123456",
        "redis://***@[::1]:[123456]",
    );
    check("redis://h:abc", "redis://h:[***]");
    check("redis://user:hunter2", "redis://user:[***]");
    check("redis://user:123456789", "redis://user:[***]");
    check("h:+6379", "h:[***]");
}

proptest! {
    #[test]
    fn any_user_and_any_password_survive_percent_encoding(
        user in ".{0,12}",
        password in proptest::collection::vec(any::<u8>(), 1..40),
        socket in any::<bool>(),
    ) {
        let place = if socket { "redis+unix" } else { "redis" };
        let host = if socket { "/run/x.sock" } else { "h:1/2" };
        let text = format!("{place}://{}:{}@{host}", encode(user.as_bytes()), encode(&password));
        let endpoint = endpoint(&text);
        prop_assert_eq!(endpoint.user.as_deref().unwrap_or(""), user.as_str());
        prop_assert_eq!(endpoint.password(), Some(password.as_slice()));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = parse(&text);
    }

    /// Passwords made of the pieces that matter, written without any escape, reach further than random bytes do.
    #[test]
    fn a_password_is_not_shown_however_it_is_mistyped(
        scheme in prop::sample::select(vec!["redis://", "unix://", "rediss://", "redis-sentinel://", "http://", ""]),
        user in prop::sample::select(vec!["", "u", "%41", "%"]),
        before in pieces("@"),
        after in pieces(""),
    ) {
        let text = format!("{scheme}{user}:{before}swordfish{after}");
        let shown = match parse(text.as_bytes()) {
            Ok(parsed) => format!("{} {:?} {:?}", parsed.endpoint, parsed.endpoint, parsed),
            Err(error) => format!("{error} {error:?} {} {:?}", error.hint(), error.mark()),
        };
        prop_assert!(!shown.contains("swordfish"), "{text} is shown as {shown}");
    }
}

/// Up to four of the pieces that URLs are made of.
fn pieces(without: &'static str) -> impl Strategy<Value = String> {
    let mut all = vec![
        "://", ":/", ":", "/", "?", "#", "%", "%41", "[", "]", "::1", "db=", "h", "0", "65536",
        "-1",
    ];
    if without != "@" {
        all.push("@");
    }
    proptest::collection::vec(prop::sample::select(all), 0..5).prop_map(|pieces| pieces.concat())
}

#[test]
fn several_hosts_are_nodes_of_one_cluster_in_any_order() {
    let check = |text, shown: &str| assert_eq!(endpoint(text).to_string(), shown, "{text}");
    check("redis://b:2,a/3", "redis://a:6379,b:2/3");
    check("u,v:7000", "redis://u:6379,v:7000/0");
    check("rediss://u:p@[::1],a:1", "redis://u@[::1]:6379,a:1/0");
    check("redis-cluster://a,a", "redis://a:6379/0");
    assert_eq!(parse(b"redis://a,,b").err(), Some(UrlError::NoHost));
    assert_eq!(parse(b"redis://a,").err(), Some(UrlError::NoHost));
    let wrong = parse(b"redis://a,b:0")
        .err()
        .and_then(|error| error.mark().cloned());
    let marked = wrong.map(|mark| mark.text);
    assert_eq!(marked.as_deref(), Some("redis://b:0"));
}

/// What an earlier run has met only stands in for what is named.
#[test]
fn nodes_that_were_met_change_nothing_of_what_is_shown() {
    let met = |id: &str, host: &str| MetNode {
        id: id.into(),
        host: host.into(),
        port: 6379,
    };
    let mut of_state = endpoint("a");
    of_state.also_at(&[met("1", "a"), met("2", "b")]);
    assert_eq!(of_state.to_string(), "redis://a:6379/0");
    let Address::Cluster(seeds) = &of_state.address else {
        panic!("{:?}", of_state.address)
    };
    let elsewhere: Vec<String> = seeds.elsewhere().map(|place| place.to_string()).collect();
    assert_eq!(elsewhere, ["b:6379"]);
    assert!(seeds.have_met_one_of(&["9".into(), "2".into()]));
    assert!(!seeds.have_met_one_of(&["9".into()]));
    let mut single = endpoint("a");
    single.also_at(&[]);
    assert_eq!(single.address, endpoint("a").address);
}
