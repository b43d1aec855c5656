//! The report as one HTML file, to be looked at, printed and sent.
//!
//! # Invariant
//!
//! Whatever a name or a message contains, it is text: the template escapes what it shows, and the page allows itself no
//! script and nothing from elsewhere.

use askama::Template;

use super::model::{Compare, Lane, Process, Repair, Report, Run, Setting, Side};
use super::plot::{self, Curve, LifeRow, Lives, Sizes, Strip};
use super::show;
use super::verdict::Gravity;
use crate::figures;
use crate::progress::{Counters, TlsUse};

#[derive(Template)]
#[template(path = "report.html", config = "src/audit/report/templates.toml")]
struct Page<'a> {
    report: &'a Report,
    strip: Option<Strip>,
    curves: Vec<Curve>,
    sizes: Option<Sizes>,
    lives: Option<Lives>,
}

/// `report` as a page.
pub fn html(report: &Report) -> String {
    let page = Page {
        report,
        strip: plot::strip(report),
        curves: plot::curves(report),
        sizes: plot::sizes(report),
        lives: plot::lives(report),
    };
    page.render().expect("a string takes whatever is written")
}

/// Spaces within figures must not end a line.
fn spaced(text: &str) -> String {
    let mut spaced = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    let mut before = ' ';
    while let Some(character) = characters.next() {
        let between = before.is_ascii_digit()
            && characters.peek().is_some_and(char::is_ascii_digit)
            && character == ' ';
        spaced.push(if between { '\u{202f}' } else { character });
        before = character;
    }
    spaced
}

impl Page<'_> {
    fn gravity(&self) -> &'static str {
        match self.report.verdict.kind.gravity() {
            Gravity::Good => "good",
            Gravity::Open => "open",
            Gravity::Bad => "bad",
        }
    }

    fn sides(&self) -> [(&'static str, &Side); 2] {
        [
            ("Source", &self.report.source),
            ("Target", &self.report.target),
        ]
    }

    fn spaced(&self, text: impl AsRef<str>) -> String {
        spaced(text.as_ref())
    }

    fn count(&self, number: &u64) -> String {
        spaced(&figures::count(*number))
    }

    fn bytes(&self, number: &u64) -> String {
        figures::bytes(*number as f64).replace(' ', "\u{a0}")
    }

    fn percent(&self, percent: &f64) -> String {
        show::percent(*percent).replace(' ', "\u{a0}")
    }

    fn time(&self, at_ms: &u64) -> String {
        figures::time(*at_ms)
    }

    fn span(&self, from_ms: &u64, to_ms: &u64) -> String {
        show::span(*from_ms, *to_ms).replace(' ', "\u{a0}")
    }

    fn run_id<'a>(&self, process: &'a Process) -> &'a str {
        show::run_id(process)
    }

    fn tls(&self, side: &Side) -> &'static str {
        show::tls(side)
    }

    fn is_unverified(&self, side: &Side) -> bool {
        side.tls == Some(TlsUse::Unverified)
    }

    fn databases(&self, lane: &Lane) -> String {
        show::databases(lane)
    }

    fn outcomes(&self, counters: &Counters) -> [(&'static str, u64); 6] {
        [
            ("scanned", counters.keys_scanned),
            ("written", counters.keys_written),
            ("vanished", counters.keys_vanished),
            ("kept", counters.keys_kept),
            ("quarantined", counters.keys_quarantined),
            ("filtered", counters.keys_filtered),
        ]
    }

    fn about(&self, process: &Process) -> String {
        show::about(process)
    }

    fn axis(&self, from_ms: &u64, to_ms: &u64) -> [String; 2] {
        show::axis(*from_ms, *to_ms)
    }

    fn at(&self, at_ms: &u64) -> String {
        show::at(*at_ms)
    }

    fn unknown(&self, side: &Side) -> Vec<String> {
        show::unknown(side)
    }

    fn origin(&self, setting: &Setting) -> &'static str {
        show::origin(setting)
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

    fn who(&self, run: &Run) -> String {
        show::who(run)
    }

    fn of_runs(&self, side: &Side) -> String {
        show::of_runs(side)
    }

    fn redaction(&self) -> &'static str {
        show::redaction(self.report)
    }

    fn columns<'a>(&self, lives: &'a Lives, row: &'a LifeRow) -> Vec<(&'a str, u64)> {
        let keys = row.keys.iter().copied();
        lives.columns.iter().copied().zip(keys).collect()
    }

    fn drifts(&self) -> Option<Vec<(&'static str, u64)>> {
        show::drifts(self.report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::report::sample;

    #[test]
    fn spaces_within_figures_do_not_end_a_line() {
        assert_eq!(
            spaced("12 481 903 of 3 keys, 1 h"),
            "12\u{202f}481\u{202f}903 of 3 keys, 1 h"
        );
    }

    #[test]
    fn the_page_says_what_the_report_says() {
        let page = html(&sample::report());
        if let Ok(folder) = std::env::var("REDKNOT_REPORT_DIR") {
            std::fs::write(format!("{folder}/sample.html"), &page).unwrap();
            std::fs::write(
                format!("{folder}/sample.md"),
                super::super::markdown::markdown(&sample::report()),
            )
            .unwrap();
        }
        for said in [
            "12\u{202f}481\u{202f}903 of 12\u{202f}481\u{202f}903 keys equal; compared by value; safe to cut over",
            "cache.prod.example.com:6379",
        ] {
            assert!(page.contains(said), "{said}");
        }
    }
}
