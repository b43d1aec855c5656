//! Two lines at the bottom of the terminal that are drawn anew.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use redknot::progress::{CompareStatus, Status};

use super::lines::{compared, details, keys};
use crate::cli::console::{self, Paint};
use crate::cli::format;

/// Below this a bar has too few steps to be seen moving.
const BAR_COLUMNS_MIN: usize = 8;
/// Above this it says no more.
const BAR_COLUMNS_MAX: usize = 32;

/// The bar. Draws nothing before the first status.
pub struct Bar {
    bar: ProgressBar,
    paint: Paint,
}

impl Bar {
    pub fn new(paint: Paint) -> Self {
        // indicatif only redraws; what stands in the lines, and that they fit, is decided here.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg}").expect("the template is valid");
        bar.set_style(style);
        Self { bar, paint }
    }

    /// Draws `status`.
    pub fn show(&self, status: &Status) {
        // The last column makes some terminals wrap.
        let columns = console::columns().saturating_sub(1);
        self.bar.set_message(lines(status, columns, self.paint));
        self.bar.tick();
    }

    /// Draws how a comparison stands.
    pub fn show_compared(&self, status: &CompareStatus) {
        let columns = console::columns().saturating_sub(1);
        self.bar
            .set_message(compared_line(status, columns, self.paint));
        self.bar.tick();
    }

    /// Writes what `write` writes above the bar.
    pub fn above(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }

    /// Takes the bar off the screen.
    pub fn remove(self) {
        self.bar.finish_and_clear();
    }
}

/// Both lines, none wider than `columns`.
fn lines(status: &Status, columns: usize, paint: Paint) -> String {
    let mut figures = vec![format::percent(status.percent), keys(status)];
    figures.push(format!("{}/s", format::rough(status.keys_per_s)));
    figures.push(format!("{}/s", format::bytes(status.bytes_per_s)));
    if let Some(eta) = status.eta_s {
        figures.push(format!("ETA {}", format::seconds(eta)));
    }
    let figures = fitting("  copy  ", &figures, "   ", columns);
    let room = columns
        .saturating_sub(figures.chars().count() + 1)
        .min(BAR_COLUMNS_MAX);
    let first = match figures.strip_prefix("  copy  ") {
        Some(figures) if room >= BAR_COLUMNS_MIN => {
            format!("  copy  {} {figures}", blocks(status.percent, room, paint))
        }
        _ => figures,
    };
    let second = fitting("  acks  ", &details(status), " \u{b7} ", columns);
    format!("{first}\n{second}")
}

/// One line, not wider than `columns`.
fn compared_line(status: &CompareStatus, columns: usize, paint: Paint) -> String {
    const LEAD: &str = "  compare  ";
    let figures = fitting(LEAD, &compared(status), "   ", columns);
    let room = columns
        .saturating_sub(figures.chars().count() + 1)
        .min(BAR_COLUMNS_MAX);
    match figures.strip_prefix(LEAD) {
        Some(figures) if room >= BAR_COLUMNS_MIN => {
            format!("{LEAD}{} {figures}", blocks(status.percent, room, paint))
        }
        _ => figures,
    }
}

/// As many of `parts` as fit into `columns`, the first of them cut if need be.
fn fitting(lead: &str, parts: &[String], separator: &str, columns: usize) -> String {
    let mut line = lead.to_owned();
    for (at, part) in parts.iter().enumerate() {
        let longer = if at == 0 {
            format!("{line}{part}")
        } else {
            format!("{line}{separator}{part}")
        };
        if longer.chars().count() > columns {
            return if at == 0 {
                format::cut(&longer, columns)
            } else {
                line
            };
        }
        line = longer;
    }
    line
}

/// `████▌···`, in eighths of a column.
fn blocks(percent: f64, columns: usize, paint: Paint) -> String {
    const PARTS: [char; 8] = [
        ' ', '\u{258f}', '\u{258e}', '\u{258d}', '\u{258c}', '\u{258b}', '\u{258a}', '\u{2589}',
    ];
    let eighths =
        ((percent.clamp(0.0, 100.0) / 100.0 * columns as f64 * 8.0) as usize).min(columns * 8);
    let (full, part) = (eighths / 8, eighths % 8);
    let mut done = "\u{2588}".repeat(full);
    let mut rest = columns - full;
    if part > 0 {
        done.push(PARTS[part]);
        rest -= 1;
    }
    format!(
        "{}{}",
        paint.green(&done),
        paint.dim(&"\u{b7}".repeat(rest))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::status;

    #[test]
    fn no_terminal_is_too_narrow() {
        for columns in 0..200 {
            for percent in [0.0, 33.3, 99.99, 100.0, f64::NAN] {
                let status = Status {
                    percent,
                    ..status()
                };
                let text = lines(&status, columns, Paint::PLAIN);
                assert_eq!(text.lines().count(), 2, "{text}");
                for line in text.lines() {
                    assert!(line.chars().count() <= columns.max(1), "{columns}: {line}");
                }
            }
        }
    }

    #[test]
    fn a_wide_terminal_shows_everything() {
        let text = lines(&status(), 120, Paint::PLAIN);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("  copy  \u{2588}\u{2588}"), "{text}");
        assert!(
            lines[0].ends_with(
                "71.4 %   8 911 632 of about 12 481 903 keys   184 k/s   96 MiB/s   ETA 19 s"
            ),
            "{text}"
        );
        assert!(
            lines[1].starts_with("  acks  durable to batch 17 822 \u{b7} in flight 6"),
            "{text}"
        );
    }

    #[test]
    fn the_bar_is_as_long_as_the_part_that_is_done() {
        assert_eq!(blocks(0.0, 4, Paint::PLAIN), "\u{b7}\u{b7}\u{b7}\u{b7}");
        assert_eq!(
            blocks(62.5, 4, Paint::PLAIN),
            "\u{2588}\u{2588}\u{258c}\u{b7}"
        );
        assert_eq!(
            blocks(100.0, 4, Paint::PLAIN),
            "\u{2588}\u{2588}\u{2588}\u{2588}"
        );
    }
}
