//! MATCH, for names that come by another way than SCAN: the patterns that Redis knows.
//!
//! # Invariant
//!
//! A name matches here exactly if it matches on a server. Time is bounded by pattern times name, whatever the pattern.

/// Whether `name` matches `glob`: `*`, `?`, `[a-z]`, `[^a]`, and `\` before a character that is meant literally.
///
/// Ends of ranges beyond ASCII mean something else on processors whose `char` has no sign; they are refused where patterns
/// are given.
pub fn matches(glob: &[u8], name: &[u8]) -> bool {
    if name.is_empty() {
        // Servers look at nothing when there is nothing to be looked at; `*` alone they do not even try to match.
        return matches!(glob, b"" | b"*");
    }
    let (mut at, mut seen) = (0, 0);
    // Behind the last star, and what it has swallowed so far: only that one ever has to swallow more.
    let mut star: Option<(usize, usize)> = None;
    while let Some(&byte) = name.get(seen) {
        if glob.get(at) == Some(&b'*') {
            at += 1;
            star = Some((at, seen));
        } else if let Some(next) = one(glob, at, byte) {
            at = next;
            seen += 1;
        } else if let Some((behind, swallowed)) = star {
            star = Some((behind, swallowed + 1));
            (at, seen) = (behind, swallowed + 1);
        } else {
            return false;
        }
    }
    glob[at..].iter().all(|&byte| byte == b'*')
}

/// Where the pattern goes on if its next element matches `byte`.
fn one(glob: &[u8], at: usize, byte: u8) -> Option<usize> {
    let (matched, next) = match *glob.get(at)? {
        b'?' => (true, at + 1),
        b'[' => class(glob, at + 1, byte),
        b'\\' if at + 1 < glob.len() => (glob[at + 1] == byte, at + 2),
        literal => (literal == byte, at + 1),
    };
    matched.then_some(next)
}

/// Whether `byte` is in the class whose content begins at `at`, and where the pattern goes on behind it.
fn class(glob: &[u8], mut at: usize, byte: u8) -> (bool, usize) {
    let negated = glob.get(at) == Some(&b'^');
    at += usize::from(negated);
    let mut found = false;
    while let Some(&first) = glob.get(at) {
        match first {
            b']' => {
                at += 1;
                break;
            }
            b'\\' if at + 1 < glob.len() => {
                found |= glob[at + 1] == byte;
                at += 2;
            }
            _ if glob.get(at + 1) == Some(&b'-') && at + 2 < glob.len() => {
                let last = glob[at + 2];
                found |= (first.min(last)..=first.max(last)).contains(&byte);
                at += 3;
            }
            _ => {
                found |= first == byte;
                at += 1;
            }
        }
    }
    (found != negated, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_to_a_server() {
        let check = |glob: &str, name: &str, wanted: bool| {
            assert_eq!(
                matches(glob.as_bytes(), name.as_bytes()),
                wanted,
                "{glob} {name}"
            );
        };
        check("user:*", "user:1", true);
        check("user:*", "user:", true);
        check("user:*", "users:1", false);
        check("*", "", true);
        check("**", "x", true);
        check("**", "", false);
        check("a*", "", false);
        check("", "", true);
        check("", "x", false);
        check("h?llo", "hello", true);
        check("h?llo", "hllo", false);
        check("h[ae]llo", "hallo", true);
        check("h[ae]llo", "hillo", false);
        check("h[^e]llo", "hallo", true);
        check("h[^e]llo", "hello", false);
        check("h[a-c]llo", "hbllo", true);
        check("h[c-a]llo", "hbllo", true);
        check("h[a-c]llo", "hdllo", false);
        check("a\\*b", "a*b", true);
        check("a\\*b", "axb", false);
        check("[\\]]", "]", true);
        check("a]b", "a]b", true);
        check("*:cart:*", "{tag1}:cart:7", true);
        check("*a*b*c", "xxaxxbxxabc", true);
        check("*a*b*c", "xxaxxbxxabd", false);
    }

    #[test]
    fn many_stars_take_no_time() {
        let glob = "a*".repeat(200) + "b";
        assert!(!matches(glob.as_bytes(), "a".repeat(20_000).as_bytes()));
    }
}
