//! Where the marks of the report's plots lie.
//!
//! A plot has no text in it: it is stretched to the width of the page, and its labels stand beside it as text of the page.
//!
//! # Invariant
//!
//! No number makes a mark that lies outside its plot, or that is not a number.

use super::curve::follows;
use super::model::{Report, RunEnd, Sample};
use crate::figures::{self, count};
use crate::progress::{KeyKind, Life, LifeCount, SIZE_CLASSES, SizeCount};

/// Width of every plot, in its own units.
pub const WIDTH: f64 = 1000.0;
/// Height of a curve, in its own units.
pub const HEIGHT: f64 = 120.0;
/// Steps of a curve; what is finer is averaged.
const POINTS_MAX: usize = 240;
/// Narrowest mark that can be seen.
const MARK_MIN: f64 = 3.0;

/// A span of time in the strip.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// Left edge.
    pub x: f64,
    /// Width.
    pub width: f64,
    /// How it is drawn.
    pub class: &'static str,
    /// What it is, in words.
    pub title: String,
}

/// A row of the strip.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What it shows.
    pub label: &'static str,
    /// All of it, in words.
    pub title: String,
    /// In the order of time.
    pub marks: Vec<Mark>,
}

/// What happened when.
#[derive(Debug, Clone, PartialEq)]
pub struct Strip {
    /// Rows that are not empty.
    pub rows: Vec<Row>,
    /// First instant, Unix milliseconds.
    pub from_ms: u64,
    /// Last instant, Unix milliseconds.
    pub to_ms: u64,
}

/// Brings instants to places.
struct Scale {
    from_ms: u64,
    span_ms: f64,
}

impl Scale {
    fn new(from_ms: u64, to_ms: u64) -> Self {
        Self {
            from_ms,
            span_ms: (to_ms.saturating_sub(from_ms) as f64).max(1.0),
        }
    }

    fn x(&self, at_ms: u64) -> f64 {
        let since = at_ms.saturating_sub(self.from_ms) as f64;
        (since / self.span_ms * WIDTH).clamp(0.0, WIDTH)
    }

    fn mark(&self, from_ms: u64, to_ms: u64, class: &'static str, title: String) -> Mark {
        let x = self.x(from_ms);
        let width = (self.x(to_ms) - x).max(MARK_MIN);
        Mark {
            x: rounded(x.min(WIDTH - MARK_MIN)),
            width: rounded(width.min(WIDTH - x.min(WIDTH - MARK_MIN))),
            class,
            title,
        }
    }
}

/// The strip of `report`; none before the first run.
pub fn strip(report: &Report) -> Option<Strip> {
    let from_ms = report.runs.iter().map(|run| run.began_ms).min()?;
    let to_ms = report.runs.iter().map(|run| run.ended_ms).max()?;
    let scale = Scale::new(from_ms, to_ms);
    let took = |from: u64, to: u64| figures::seconds(to.saturating_sub(from) as f64 / 1000.0);
    let runs = report.runs.iter().map(|run| {
        let (class, how) = match run.end {
            RunEnd::Done => ("done", "done"),
            RunEnd::Stopped => ("stopped", "stopped on request"),
            RunEnd::Failed => ("failed", "failed"),
            RunEnd::Died => ("failed", "died without a word"),
            RunEnd::Running => ("done", "at work"),
            RunEnd::Unknown => ("stopped", "ended"),
        };
        let took = took(run.began_ms, run.ended_ms);
        let title = format!("run {}, {took}, {how}", run.run);
        scale.mark(run.began_ms, run.ended_ms, class, title)
    });
    let passes = report.passes.iter().map(|pass| {
        let class = if pass.superseded { "given-up" } else { "done" };
        let title = format!("database {}, pass {}: {}", pass.db, pass.pass, pass.reason);
        scale.mark(pass.began_ms, pass.ended_ms, class, title)
    });
    let compares = report.compares.iter().map(|compare| {
        let ended = compare.ended_ms.unwrap_or(to_ms);
        let title = format!("comparison {}", compare.compare);
        scale.mark(compare.began_ms, ended, "done", title)
    });
    let repairs = report.repairs.iter().map(|repair| {
        let ended = repair.ended_ms.unwrap_or(to_ms);
        scale.mark(
            repair.began_ms,
            ended,
            "done",
            format!("repair {}", repair.repair),
        )
    });
    let waits = report.waits.iter().map(|wait| {
        let side = match wait.side.as_str() {
            "" => String::new(),
            side => format!("{side}: "),
        };
        scale.mark(
            wait.from_ms,
            wait.to_ms,
            "wait",
            format!("{side}{}", wait.reason),
        )
    });
    let rows = [
        row("runs", runs.collect()),
        row("passes", passes.collect()),
        row("waits", waits.collect()),
        row("comparisons", compares.collect()),
        row("repairs", repairs.collect()),
    ];
    Some(Strip {
        rows: rows.into_iter().flatten().collect(),
        from_ms,
        to_ms,
    })
}

fn row(label: &'static str, marks: Vec<Mark>) -> Option<Row> {
    let title = format!("{label}: {}", count(marks.len() as u64));
    (!marks.is_empty()).then_some(Row {
        label,
        title,
        marks,
    })
}

/// A line over time; broken where nothing is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// What it shows.
    pub label: &'static str,
    /// Points of each unbroken line, `x,y x,y`.
    pub lines: Vec<String>,
    /// The value at the top, for people.
    pub top: String,
    /// The value in the middle, for people.
    pub middle: String,
    /// First instant, Unix milliseconds.
    pub from_ms: u64,
    /// Last instant, Unix milliseconds.
    pub to_ms: u64,
}

/// Keys a second, bytes a second and latency; those of which enough is known.
pub fn curves(report: &Report) -> Vec<Curve> {
    let samples = &report.curve;
    let rough = |value: f64| format!("{}/s", figures::rough(value).replace(' ', "\u{202f}"));
    let bytes = |value: f64| format!("{}/s", figures::bytes(value));
    let ms = |value: f64| match value {
        ..10.0 => format!("{value:.1} ms"),
        _ => format!("{value:.0} ms"),
    };
    let of = |label, value: &dyn Fn(&Sample) -> Option<f64>, show: &dyn Fn(f64) -> String| {
        curve(samples, label, value, show)
    };
    let all = [
        of("keys a second", &|at| Some(at.keys_per_s), &rough),
        of("bytes a second", &|at| Some(at.bytes_per_s), &bytes),
        of(
            "latency of the source, 99 of 100 pings",
            &|at| at.latency_ms,
            &ms,
        ),
    ];
    all.into_iter().flatten().collect()
}

/// One curve; none if nothing of it is known.
fn curve(
    samples: &[Sample],
    label: &'static str,
    value: &dyn Fn(&Sample) -> Option<f64>,
    show: &dyn Fn(f64) -> String,
) -> Option<Curve> {
    let begin = |sample: &Sample| sample.at_ms.saturating_sub(sample.over_ms);
    let from_ms = begin(samples.first()?);
    let to_ms = samples.last()?.at_ms;
    let scale = Scale::new(from_ms, to_ms);
    let lines = steps(samples, &scale, value);
    if lines.is_empty() {
        return None;
    }
    let highest = lines.iter().flatten().map(|(_, y)| *y).fold(0.0, f64::max);
    let top = nice(highest);
    let y = |value: f64| rounded(HEIGHT - (value / top).clamp(0.0, 1.0) * HEIGHT);
    let lines = lines
        .iter()
        .map(|line| {
            let points = line
                .iter()
                .map(|(x, value)| format!("{},{}", rounded(*x), y(*value)));
            points.collect::<Vec<_>>().join(" ")
        })
        .collect();
    Some(Curve {
        label,
        lines,
        top: show(top),
        middle: show(top / 2.0),
        from_ms,
        to_ms,
    })
}

/// Unbroken lines of steps, each step as wide as the time that it is the mean of; what is too narrow is made one with
/// its neighbours.
fn steps(
    samples: &[Sample],
    scale: &Scale,
    value: &dyn Fn(&Sample) -> Option<f64>,
) -> Vec<Vec<(f64, f64)>> {
    let mut lines: Vec<Vec<(f64, f64)>> = Vec::new();
    // Left and right edge, and sum and number of what is in between.
    let mut step: Option<(f64, f64, f64, f64)> = None;
    let mut before: Option<&Sample> = None;
    let draw = |step: Option<(f64, f64, f64, f64)>, lines: &mut Vec<Vec<(f64, f64)>>| {
        if let (Some((left, right, sum, number)), Some(line)) = (step, lines.last_mut()) {
            line.extend([(left, sum / number), (right, sum / number)]);
        }
    };
    for sample in samples {
        let Some(y) = value(sample).filter(|y| y.is_finite()) else {
            continue;
        };
        let left = scale.x(sample.at_ms.saturating_sub(sample.over_ms));
        let right = scale.x(sample.at_ms).max(left + MARK_MIN / 2.0).min(WIDTH);
        let unbroken = before.is_some_and(|before| follows(before, sample));
        before = Some(sample);
        step = match step {
            Some((from, _, sum, number))
                if unbroken && right - from < WIDTH / POINTS_MAX as f64 =>
            {
                Some((from, right, sum + y, number + 1.0))
            }
            last => {
                draw(last, &mut lines);
                if !unbroken {
                    lines.push(Vec::new());
                }
                Some((left, right, y, 1.0))
            }
        };
    }
    draw(step, &mut lines);
    lines.retain(|line| !line.is_empty());
    lines
}

/// The next of 1, 2, 5, 10, … that is not below `value`.
fn nice(value: f64) -> f64 {
    if !value.is_finite() || value <= 0.0 {
        return 1.0;
    }
    let magnitude = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|step| step * magnitude)
        .find(|step| *step >= value)
        .unwrap_or(10.0 * magnitude)
}

/// Columns of sizes, of one type.
#[derive(Debug, Clone, PartialEq)]
pub struct SizeRow {
    /// Type.
    pub label: &'static str,
    /// Keys of it.
    pub keys: u64,
    /// Share of all keys, percent.
    pub percent: f64,
    /// Columns of the classes that are not empty.
    pub columns: Vec<Column>,
}

/// A column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
    /// What it is, in words.
    pub title: String,
}

/// Height of a column, in its own units.
pub const COLUMN_HEIGHT: f64 = 40.0;

/// Keys by type and size, on one axis of sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizes {
    /// Types that there are.
    pub rows: Vec<SizeRow>,
    /// Labels of the axis, in equal distances.
    pub axis: Vec<String>,
}

/// Keys by type and size.
pub fn sizes(report: &Report) -> Option<Sizes> {
    let all: Vec<SizeCount> = report.makeup.sizes().collect();
    let total: u64 = all.iter().map(|SizeCount(_, _, keys)| keys).sum();
    let classes = || all.iter().map(|SizeCount(_, class, _)| usize::from(*class));
    let (first, last) = (classes().min()?, classes().max()?);
    // A few classes at least, so that no column is as wide as the page.
    let last = last.max(first + 7).min(SIZE_CLASSES - 1);
    let first = first.min(last.saturating_sub(7));
    let width = WIDTH / (last - first + 1) as f64;
    let rows = KeyKind::ALL.into_iter().filter_map(|kind| {
        let of_kind = || all.iter().filter(move |SizeCount(of, _, _)| *of == kind);
        let keys: u64 = of_kind().map(|SizeCount(_, _, keys)| keys).sum();
        let most = of_kind().map(|SizeCount(_, _, keys)| *keys).max()?;
        let columns = of_kind().map(|SizeCount(_, class, keys)| {
            let height = (*keys as f64 / most as f64 * COLUMN_HEIGHT).max(1.5);
            Column {
                x: rounded((usize::from(*class) - first) as f64 * width + 1.0),
                y: rounded(COLUMN_HEIGHT - height),
                width: rounded(width - 2.0),
                height: rounded(height),
                title: format!("{}: {} keys", class_name(usize::from(*class)), count(*keys)),
            }
        });
        Some(SizeRow {
            label: kind.name(),
            keys,
            percent: 100.0 * keys as f64 / total as f64,
            columns: columns.collect(),
        })
    });
    let step = (last - first + 1).div_ceil(6);
    Some(Sizes {
        rows: rows.collect(),
        axis: (first..=last).step_by(step).map(lower_bound).collect(),
    })
}

/// The smallest size of a class.
fn lower_bound(class: usize) -> String {
    match class {
        0 => "0".to_owned(),
        _ => figures::bytes((1_u64 << (class - 1)) as f64),
    }
}

fn class_name(class: usize) -> String {
    match class {
        0 => "no payload".to_owned(),
        _ => format!(
            "{} to {}",
            lower_bound(class),
            figures::bytes((1_u64 << class) as f64)
        ),
    }
}

/// A class of times to live.
#[derive(Debug, Clone, PartialEq)]
pub struct LifeRow {
    /// The class.
    pub label: &'static str,
    /// Keys in it, by column.
    pub keys: Vec<u64>,
    /// The same, as share of the largest of all, 0 to [`WIDTH`].
    pub widths: Vec<f64>,
}

/// Times to live.
#[derive(Debug, Clone, PartialEq)]
pub struct Lives {
    /// What the columns are.
    pub columns: Vec<&'static str>,
    /// Classes that are not empty.
    pub rows: Vec<LifeRow>,
}

/// For how long keys live on: when they were copied, and on both sides where that was compared.
pub fn lives(report: &Report) -> Option<Lives> {
    let mut columns = vec![("copied", by_life(report.makeup.lives()))];
    if let Some(lives) = report.compares.last().and_then(|last| last.lives.as_ref()) {
        columns.push(("source", by_life(lives.lives(0))));
        columns.push(("target", by_life(lives.lives(1))));
    }
    let most = columns.iter().flat_map(|(_, keys)| keys).copied().max();
    let most = most.filter(|most| *most > 0)? as f64;
    let rows = (0..)
        .zip(Life::ALL)
        .filter_map(|(at, life): (usize, Life)| {
            let keys: Vec<u64> = columns.iter().map(|(_, keys)| keys[at]).collect();
            keys.iter().any(|keys| *keys > 0).then(|| LifeRow {
                label: life.name(),
                widths: keys
                    .iter()
                    .map(|keys| rounded(*keys as f64 / most * WIDTH))
                    .collect(),
                keys,
            })
        });
    Some(Lives {
        rows: rows.collect(),
        columns: columns.into_iter().map(|(name, _)| name).collect(),
    })
}

fn by_life(counts: impl Iterator<Item = LifeCount>) -> [u64; Life::ALL.len()] {
    let mut keys = [0; Life::ALL.len()];
    for LifeCount(life, number) in counts {
        keys[life as usize] = number;
    }
    keys
}

fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}
