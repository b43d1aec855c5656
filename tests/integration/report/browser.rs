//! The page in a real browser: nothing sticks out at the width of a desk or of a phone, and nothing is complained about.

use super::*;
use crate::support::chromium::{self, Chromium};

const WIDTHS: [u32; 3] = [1280, 390, 320];

/// Looks at a page.
#[track_caller]
pub fn assert_looks_right(chromium: &Chromium, page: &str) {
    let seen = chromium.look(page, &WIDTHS);
    assert!(seen.console.is_empty(), "{:#?}", seen.console);
    assert_eq!(seen.frames.len(), WIDTHS.len());
    for frame in &seen.frames {
        assert_eq!(
            frame["scroll_width"], frame["width"],
            "it scrolls sideways: {frame:#}"
        );
        assert_eq!(frame["sticking_out"], serde_json::json!([]), "{frame:#}");
        assert_eq!(frame["acting"], 0, "{frame:#}");
        assert_eq!(frame["handlers"], serde_json::json!([]), "{frame:#}");
        assert_eq!(frame["unnamed_images"], 0, "a plot has no name: {frame:#}");
        assert!(
            frame["text"].as_u64().unwrap() > 1000,
            "it is nearly empty: {frame:#}"
        );
    }
}

#[test]
fn nothing_sticks_out_at_the_width_of_a_desk_or_of_a_phone() {
    let Some(chromium) = chromium::require() else {
        return;
    };
    let fill_source = |source: &Server| {
        fill(source, 0, &DataSet::new(20_000, seed()));
    };
    let Some(story) = Story::of(fill_source, 5_000, "100") else {
        return;
    };
    let finished = report(story.state.path(), &["--html"]).run().expect_code(0);
    assert_looks_right(&chromium, &finished.stdout());
}

#[test]
fn a_browser_sees_what_would_stick_out_or_act() {
    let Some(chromium) = chromium::require() else {
        return;
    };
    let page = "<!doctype html><body><div style='width:900px'>wide</div><a href='x'>link</a><svg></svg><script>console.log('it runs')</script>";
    let seen = chromium.look(page, &[390]);
    assert_eq!(seen.frames[0]["acting"], 2, "{seen:?}");
    assert_eq!(seen.frames[0]["unnamed_images"], 1, "{seen:?}");
    assert!(
        seen.frames[0]["scroll_width"].as_u64() > Some(390),
        "{seen:?}"
    );
    assert!(
        seen.console.iter().any(|line| line.contains("it runs")),
        "{seen:?}"
    );
}
