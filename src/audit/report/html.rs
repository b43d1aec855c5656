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

/// Spaces within figures, and hyphens within dates, must not end a line.
fn spaced(text: &str) -> String {
    let mut spaced = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    let mut before = ' ';
    while let Some(character) = characters.next() {
        let between =
            before.is_ascii_digit() && characters.peek().is_some_and(char::is_ascii_digit);
        spaced.push(match character {
            ' ' if between => '\u{202f}',
            '-' if between => '\u{2011}',
            _ => character,
        });
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

    fn took(&self, run: &Run) -> String {
        show::took(run).replace(' ', "\u{a0}")
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

    fn bars(&self, lives: &Lives, row: &LifeRow) -> Vec<(&'static str, f64, String)> {
        let columns = lives.columns.iter().zip(&row.keys).zip(&row.widths);
        columns
            .map(|((column, keys), width)| {
                let class = if *column == "copied" {
                    "before"
                } else {
                    "column"
                };
                let title = format!("{}, {column}: {}", row.label, figures::count(*keys));
                (class, *width, title)
            })
            .collect()
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
            spaced("12 481 903 of 3 keys, 1 h on 2026-11-22"),
            "12\u{202f}481\u{202f}903 of 3 keys, 1 h on 2026\u{2011}11\u{2011}22"
        );
    }

    #[test]
    fn the_page_says_what_the_report_says() {
        let page = html(&sample::report());
        for said in [
            "12\u{202f}481\u{202f}903 of 12\u{202f}481\u{202f}903 keys equal; compared by value; safe to cut over",
            "cache.prod.example.com:6379",
            "redis 6.2.14",
            "TLS, the server was verified",
            "died without a word",
            "the source is another process",
            "OOM command not allowed",
            "vector-effect",
            "redknot audit check shop-7f3a",
        ] {
            assert!(page.contains(said), "{said}");
        }
        assert_eq!(
            page.matches("<polyline").count(),
            9,
            "three runs, three curves"
        );
    }

    /// Relative luminance of `#rgb` or `#rrggbb`, by WCAG 2.
    fn luminance(color: &str) -> f64 {
        let digits = color.trim_start_matches('#');
        let wide: String = match digits.len() {
            3 => digits.chars().flat_map(|digit| [digit, digit]).collect(),
            _ => digits.to_owned(),
        };
        let part = |at: usize| {
            let byte = u8::from_str_radix(&wide[at..at + 2], 16).expect("a colour in hex");
            let part = f64::from(byte) / 255.0;
            match part <= 0.03928 {
                true => part / 12.92,
                false => ((part + 0.055) / 1.055).powf(2.4),
            }
        };
        0.2126 * part(0) + 0.7152 * part(2) + 0.0722 * part(4)
    }

    #[test]
    fn text_has_enough_contrast_by_day_by_night_and_on_paper() {
        let css = include_str!("templates/report.css");
        let palettes: Vec<&str> = css.split("--paper:").skip(1).collect();
        assert_eq!(palettes.len(), 3);
        for palette in palettes {
            let palette = format!("--paper:{}", palette.split('}').next().unwrap_or_default());
            let color = |name: &str| {
                let (_, rest) = palette
                    .split_once(&format!("--{name}:"))
                    .unwrap_or_else(|| panic!("{name} is not in {palette}"));
                luminance(rest.split(';').next().unwrap_or_default().trim())
            };
            let check = |text: &str, ground: &str, least: f64| {
                let (one, other) = (color(text), color(ground));
                let contrast = (one.max(other) + 0.05) / (one.min(other) + 0.05);
                assert!(
                    contrast >= least,
                    "{text} on {ground}: {contrast:.2} in {palette}"
                );
            };
            for text in ["ink", "soft", "accent", "alarm"] {
                check(text, "paper", 4.5);
                check(text, "wash", 4.5);
            }
        }
    }
}
