//! The table that a benchmark prints: a row for each thing measured in each round, and then the medians.

use crate::measure::Cost;

/// How many processors other programs may use before the result is called into question. An idle machine shows about
/// 0.05, most of it the kernel's own.
const BUSY_CORES_MAX: f64 = 0.2;

/// The names of the columns; the last one is a ratio.
pub fn print_head(ratio: &str) {
    println!(
        "{:>5}  {:<17} {:>8} | CPU s: {:>8} {:>8} {:>8} {:>8} | {:>7} {:>8} {ratio:>8}",
        "round", "", "wall s", "source", "target", "client", "others", "µs/key", "RSS MiB",
    );
}

/// One row; what `ratio` is stands in the head.
pub fn print_row(round: &str, name: &str, cost: &Cost, keys: usize, ratio: f64) {
    let rss = cost.client_rss_bytes_max.map_or_else(
        || "-".to_owned(),
        |bytes| format!("{:.1}", bytes as f64 / f64::from(1 << 20)),
    );
    println!(
        "{round:>5}  {name:<17} {:>8.3} |        {:>8.3} {:>8.3} {:>8.3} {:>8.3} | {:>7.3} {rss:>8} {ratio:>8.3}",
        cost.wall_seconds,
        cost.source_cpu_seconds,
        cost.target_cpu_seconds,
        cost.client_cpu_seconds,
        cost.others_cpu_seconds,
        cost.client_cpu_seconds * 1e6 / keys as f64,
    );
}

/// The medians of each row over all rounds, and whether they mean anything.
pub fn print_medians(rows: &[&str], costs: &[Vec<Cost>], ratios: &[Vec<f64>], keys: usize) {
    for ((name, costs), ratios) in rows.iter().zip(costs).zip(ratios) {
        if let Some(cost) = median_cost(costs) {
            print_row("mid", name, &cost, keys, median(ratios.iter().copied()));
        }
    }
    let all = || costs.iter().flatten();
    let busy = all().map(|cost| cost.others_cpu_seconds).sum::<f64>()
        / all().map(|cost| cost.wall_seconds).sum::<f64>();
    if busy > BUSY_CORES_MAX {
        println!(
            "others kept {busy:.1} processors busy meanwhile: the wall times and their ratios mean little"
        );
    }
}

/// The median of each figure for itself; `None` for what was not measured.
fn median_cost(costs: &[Cost]) -> Option<Cost> {
    let of = |figure: fn(&Cost) -> f64| median(costs.iter().map(figure));
    (!costs.is_empty()).then(|| Cost {
        wall_seconds: of(|cost| cost.wall_seconds),
        source_cpu_seconds: of(|cost| cost.source_cpu_seconds),
        target_cpu_seconds: of(|cost| cost.target_cpu_seconds),
        client_cpu_seconds: of(|cost| cost.client_cpu_seconds),
        others_cpu_seconds: of(|cost| cost.others_cpu_seconds),
        // Of memory the worst counts.
        client_rss_bytes_max: costs
            .iter()
            .filter_map(|cost| cost.client_rss_bytes_max)
            .max(),
    })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}
