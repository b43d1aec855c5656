//! Names and messages in the report: hostile ones are text, and with `--redact-keys` there is none.

use std::collections::BTreeSet;

use html5gum::{Token, Tokenizer};

use super::*;
use crate::support::proxy::Proxy;

const HOSTILE: &[&[u8]] = &[
    b"",
    b"<script>alert(1)</script>",
    b"\"><img src=x onerror=alert(1)>",
    b"'--></style></title><svg onload=alert(1)>",
    b"&lt;b&gt; &#60;",
    b"\x1b]0;owned\x07\x1b[2J",
    b"=cmd|' /C calc'!A0",
    b"@SUM(1+1)",
    b"\xff\xfe\x00\x80",
    "\u{202e}gnp.exe".as_bytes(),
    "\u{5e9}\u{5dc}\u{5d5}\u{5dd} right to left".as_bytes(),
    b"[link](javascript:alert(1)) ![i](http://x/y) `code` **bold** | cell |",
    b"```\n# heading\n- item",
    b"<!-- {{ 7*7 }} {% raw %} ]]>",
    b"javascript:alert(1)",
];

/// A migration from which the target refused these keys, and then found others to differ.
struct Refused {
    state: tempfile::TempDir,
    _servers: (Server, Server, Proxy),
}

impl Refused {
    /// Keys of these names: the first half is refused with words that hold the name; the second differs.
    fn new(names: &[&[u8]], plan: &[&str]) -> Option<Self> {
        let redis = require(REDIS_7_0)?;
        let (source, target) = (Server::plain(&redis), Server::plain(&redis));
        let proxy = Proxy::start(target.port(), seed());
        let mut connection = source.connection();
        let mut set = |name: &[u8]| {
            redis::cmd("SET")
                .arg(name)
                .arg("value")
                .exec(&mut connection)
                .unwrap();
        };
        let (refused, differing) = names.split_at(names.len() / 2);
        names.iter().for_each(|name| set(name));
        let rules: Vec<_> = refused
            .iter()
            .map(|name| {
                let on = proxy.on("RESTORE").key(name).always();
                let name = String::from_utf8_lossy(name).replace(['\r', '\n'], " ");
                on.answer(&format!("-ERR Bad data format {name}"))
            })
            .collect();
        let state = tempfile::tempdir().unwrap();
        Redknot::migrate(&source.url(0), &proxy.url(0), state.path())
            .args(["--name", NAME, "--write-with", "restore"])
            .args(plan)
            .run()
            .expect_code(1);
        for rule in rules {
            assert!(proxy.fired(rule) > 0, "a key was not refused");
        }
        let mut connection = target.connection();
        for name in differing {
            redis::cmd("SET")
                .arg(name)
                .arg("other")
                .exec(&mut connection)
                .unwrap();
        }
        compare(NAME, state.path())
            .args(["--settle", "50ms"])
            .run()
            .expect_code(1);
        Some(Self {
            state,
            _servers: (source, target, proxy),
        })
    }

    fn text(&self, args: &[&str]) -> String {
        report(self.state.path(), args)
            .run()
            .expect_code(0)
            .stdout()
    }
}

/// Elements and attributes of a page.
fn parts(page: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut elements, mut attributes) = (BTreeSet::new(), BTreeSet::new());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for token in Tokenizer::new(page) {
        let Ok(token) = token;
        if let Token::StartTag(tag) = token {
            elements.insert(text(&tag.name));
            attributes.extend(tag.attributes.keys().map(|name| text(name)));
        }
    }
    (elements, attributes)
}

/// All that the template has.
const ELEMENTS: &str = "b body caption code dd div dl dt figcaption figure footer h1 h2 h3 head header html li main meta p path \
    polyline pre rect section small span style svg table tbody td tfoot th thead title tr ul";
const ATTRIBUTES: &str = "aria-hidden aria-label charset class content d data-is height http-equiv lang name points \
    preserveaspectratio role viewbox width x y";

#[test]
fn hostile_names_are_text_in_every_form() {
    let Some(refused) = Refused::new(HOSTILE, &[]) else {
        return;
    };
    let page = refused.text(&["--html"]);
    let (elements, attributes) = parts(&page);
    let known =
        |list: &str| -> BTreeSet<String> { list.split_whitespace().map(str::to_owned).collect() };
    assert!(elements.is_subset(&known(ELEMENTS)), "{elements:?}");
    assert!(attributes.is_subset(&known(ATTRIBUTES)), "{attributes:?}");
    assert!(
        page.contains("&#60;script&#62;alert(1)"),
        "the name is not in the page as text"
    );

    let markdown = refused.text(&["--md"]);
    let rendered = outside_of_code(&markdown);
    for markup in ["<", "](", "**", "\u{1b}", "\u{202e}", "{{"] {
        assert!(!rendered.contains(markup), "{markup:?} in\n{rendered}");
    }
    let headings = markdown.lines().filter(|line| line.starts_with('#'));
    assert!(
        headings.clone().all(|line| !line.contains("heading")),
        "{markdown}"
    );
    assert!(headings.count() > 8, "{markdown}");

    let json = refused.text(&["--json"]);
    for text in [&page, &markdown, &json] {
        let harmful =
            |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(
            !text.contains(harmful),
            "a control character is in\n{text:?}"
        );
    }
    let told = parsed(refused.state.path());
    // What was refused is missing, and so differs as well.
    assert_eq!(told.quarantined.keys.len(), HOSTILE.len() / 2);
    assert_eq!(told.findings.keys.len(), HOSTILE.len());
    if let Some(chromium) = crate::support::chromium::require() {
        browser::assert_looks_right(&chromium, &page);
    }
}

/// `markdown` without its spans of code.
fn outside_of_code(markdown: &str) -> String {
    let mut outside = String::new();
    for line in markdown.lines() {
        let mut rest = line;
        while let Some(at) = rest.find('`').filter(|at| !rest[..*at].ends_with('\\')) {
            outside.push_str(&rest[..at]);
            let fence: String = rest[at..].chars().take_while(|c| *c == '`').collect();
            let inside = &rest[at + fence.len()..];
            let Some(end) = inside.find(&fence) else {
                panic!("a span of code has no end: {line}");
            };
            rest = inside[end + fence.len()..].trim_start_matches('`');
        }
        outside.push_str(rest);
        outside.push('\n');
    }
    outside
}

#[test]
fn redacted_no_name_is_left_in_any_form() {
    let names: &[&[u8]] = &[
        b"cart:topsecret-1",
        b"topsecret-2",
        b"cart:topsecret-3",
        b"topsecret-4:",
    ];
    let Some(refused) = Refused::new(names, &["--match", "*topsecret-*"]) else {
        return;
    };
    for form in ["--html", "--md", "--json"] {
        assert!(refused.text(&[form]).contains("topsecret"), "{form}");
        for (how, prefixes) in [("hash", false), ("prefix", true)] {
            let text = refused.text(&[form, "--redact-keys", how]);
            assert!(!text.contains("topsecret"), "{form} {how}:\n{text}");
            assert_eq!(text.contains("cart:"), prefixes, "{form} {how}:\n{text}");
            let hash = ::redknot::audit::journal::hex(&blake3::hash(names[1]).as_bytes()[..8]);
            assert!(
                text.contains(&hash),
                "{form} {how}: nobody can find the key again"
            );
        }
    }
}

#[test]
fn a_name_in_the_error_of_a_run_is_redacted() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    for server in [&source, &target] {
        let mut connection = server.connection();
        redis::cmd("SET")
            .arg("topsecret")
            .arg(server.port())
            .exec(&mut connection)
            .unwrap();
    }
    let state = tempfile::tempdir().unwrap();
    Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .args(["--name", NAME, "--on-conflict", "fail"])
        .run()
        .expect_code(27);
    let text = |args: &[&str]| report(state.path(), args).run().expect_code(0).stdout();
    assert!(text(&["--md"]).contains("topsecret"));
    for form in ["--html", "--md", "--json"] {
        let text = text(&[form, "--redact-keys", "hash"]);
        assert!(!text.contains("topsecret"), "{text}");
    }
}
