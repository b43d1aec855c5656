//! The report as Markdown, to be pasted into a ticket.
//!
//! # Invariant
//!
//! Whatever a name or a message contains, it is text of one line: no markup, no link, no HTML.

use std::fmt;

use askama::Template;
use askama::filters::Escaper;

use super::model::{Compare, Lane, Process, Repair, Report, Run, Setting, Side};
use super::plot::{self, Lives, Sizes};
use super::show;
use crate::figures;

/// How text is escaped that a template shows.
#[derive(Debug, Clone, Copy)]
pub struct Markdown;

impl Escaper for Markdown {
    fn write_escaped_str<W: fmt::Write>(&self, mut dest: W, text: &str) -> fmt::Result {
        let mut rest = text.char_indices().peekable();
        while let Some((at, character)) = rest.next() {
            let next = rest.peek().map(|(_, next)| *next);
            // What some readers make a link of without being asked to.
            let links = match character {
                ':' => next == Some('/'),
                '.' => text[..at].to_ascii_lowercase().ends_with("www"),
                _ => false,
            };
            match links {
                true => write!(dest, "&#{};", character as u32)?,
                false => self.write_escaped_char(&mut dest, character)?,
            }
        }
        Ok(())
    }

    fn write_escaped_char<W: fmt::Write>(&self, mut dest: W, character: char) -> fmt::Result {
        match character {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' | '$' => {
                write!(dest, "\\{character}")
            }
            '<' | '>' | '&' => write!(dest, "&#{};", character as u32),
            '\n' | '\r' => dest.write_char(' '),
            _ => dest.write_char(character),
        }
    }
}

/// `text` as it is, between as many backticks as it takes: nothing in there is markup. Bars are escaped, since it may
/// stand in a table.
fn code(text: &str) -> String {
    let mut longest = 0;
    let mut run = 0;
    for character in text.chars() {
        run = if character == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat(longest + 1);
    let body = text.replace(['\n', '\r'], " ").replace('|', "\\|");
    let edge = |character: Option<char>| character.is_none_or(|at| at == '`' || at == ' ');
    match edge(body.chars().next()) || edge(body.chars().last()) {
        true => format!("{fence} {body} {fence}"),
        false => format!("{fence}{body}{fence}"),
    }
}

#[derive(Template)]
#[template(
    path = "report.md",
    config = "src/audit/report/templates.toml",
    whitespace = "preserve"
)]
struct Page<'a> {
    report: &'a Report,
    sizes: Option<Sizes>,
    lives: Option<Lives>,
}

/// `report` as Markdown.
pub fn markdown(report: &Report) -> String {
    let page = Page {
        report,
        sizes: plot::sizes(report),
        lives: plot::lives(report),
    };
    page.render().expect("a string takes whatever is written")
}

impl Page<'_> {
    fn code(&self, text: impl AsRef<str>) -> String {
        code(text.as_ref())
    }

    fn check(&self) -> String {
        format!("redknot audit check {}", self.report.migration)
    }

    fn count(&self, number: &u64) -> String {
        figures::count(*number)
    }

    fn percent(&self, percent: &f64) -> String {
        show::percent(*percent)
    }

    fn time(&self, at_ms: &u64) -> String {
        figures::time(*at_ms)
    }

    fn span(&self, from_ms: &u64, to_ms: &u64) -> String {
        show::span(*from_ms, *to_ms)
    }

    fn origin(&self, setting: &Setting) -> &'static str {
        show::origin(setting)
    }

    fn servers(&self, side: &Side) -> String {
        let named = |process: &Process| {
            let version = match process.version.as_str() {
                "" => "unknown",
                version => version,
            };
            format!("{version} (run_id {})", show::run_id(process))
        };
        let all: Vec<String> = side.processes.iter().map(named).collect();
        match all.is_empty() {
            true => "never met".to_owned(),
            false => all.join(", then "),
        }
    }

    fn served(&self, side: &Side) -> String {
        let commands = side.served.commands.iter();
        let mut parts: Vec<String> = commands
            .map(|(command, calls)| format!("{command} {}", figures::count(*calls)))
            .collect();
        let nodes = side.served.nodes.iter();
        parts.extend(nodes.map(|(node, calls)| format!("{} by {node}", figures::count(*calls))));
        parts.extend(show::unknown(side));
        match parts.is_empty() {
            true => "not known".to_owned(),
            false => parts.join(", "),
        }
    }

    fn tls(&self, side: &Side) -> &'static str {
        show::tls(side)
    }

    fn databases(&self, lane: &Lane) -> String {
        show::databases(lane)
    }

    fn balance(&self) -> String {
        show::balance(&self.report.counters)
    }

    fn compared(&self, compare: &Compare) -> String {
        show::compared(compare)
    }

    fn verdicts(&self, compare: &Compare) -> Vec<(&'static str, u64, bool)> {
        show::verdicts(compare)
    }

    fn repaired(&self, repair: &Repair) -> String {
        show::repaired(repair)
    }

    fn end(&self, run: &Run) -> String {
        show::end(run)
    }

    fn took(&self, run: &Run) -> String {
        show::took(run)
    }

    fn who(&self, run: &Run) -> String {
        show::who(run)
    }

    fn of_runs(&self, side: &Side) -> String {
        show::of_runs(side)
    }

    fn redaction(&self) -> &'static str {
        show::redaction(self.report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_text_contains_is_no_markup() {
        let check = |text: &str, shown: &str| {
            let mut escaped = String::new();
            Markdown
                .write_escaped_str(&mut escaped, text)
                .expect("a string takes it");
            assert_eq!(escaped, shown);
        };
        check("user:1093 at 14:02", "user:1093 at 14:02");
        check("<b>&amp;", "&#60;b&#62;&#38;amp;");
        check("a|b\n# c", "a\\|b \\# c");
        check("![x](http://y)", "\\!\\[x\\](http&#58;//y)");
        check("www.x and WWW.y", "www&#46;x and WWW&#46;y");
        check("`*_~", "\\`\\*\\_\\~");
    }

    #[test]
    fn a_name_stays_within_its_backticks() {
        let check = |text: &str, shown: &str| assert_eq!(code(text), shown);
        check("user:1", "`user:1`");
        check("", "`  `");
        check("a`b``c", "```a`b``c```");
        check("`", "`` ` ``");
        check("a|<b>", "`a\\|<b>`");
    }
}
