//! The table that a benchmark prints: a row for each thing measured in each round, and then the medians.

use crate::measure::Cost;

/// How many processors other programs may use before the result is called into question. An idle machine shows about
/// 0.05, most of it the kernel's own.
const BUSY_CORES_MAX: f64 = 0.2;

/// What a row cost in each round.
type Measured<const RATIOS: usize> = Vec<(Cost, [f64; RATIOS])>;

/// All that was measured, in the order in which it was first added.
///
/// Behind each cost stand figures against the floors of the same round; what they are stands in the head.
pub struct Table<const RATIOS: usize> {
    keys: usize,
    rows: Vec<(String, Measured<RATIOS>)>,
}

impl<const RATIOS: usize> Table<RATIOS> {
    /// Prints the head, whose last columns are ratios.
    pub fn new(keys: usize, ratios: [&str; RATIOS]) -> Self {
        let ratios: String = ratios.iter().map(|name| format!(" {name:>8}")).collect();
        println!(
            "{:>5}  {:<17} {:>8} | CPU s: {:>8} {:>8} {:>8} {:>8} | {:>7} {:>8}{ratios}",
            "round", "", "wall s", "source", "target", "client", "others", "µs/key", "RSS MiB",
        );
        Self {
            keys,
            rows: Vec::new(),
        }
    }

    /// Prints a row, and keeps it for the medians.
    pub fn add(&mut self, round: usize, name: &str, cost: Cost, ratios: [f64; RATIOS]) {
        self.print(&round.to_string(), name, &cost, ratios);
        match self.rows.iter_mut().find(|(row, _)| row == name) {
            Some((_, measured)) => measured.push((cost, ratios)),
            None => self.rows.push((name.to_owned(), vec![(cost, ratios)])),
        }
    }

    /// The wall time of row `name` over that of row `plain` in the same round; the median of that.
    pub fn wall_over(&self, name: &str, plain: &str) -> f64 {
        self.over(name, plain, |cost| cost.wall_seconds)
    }

    /// Likewise, the CPU time of the source.
    pub fn source_cpu_over(&self, name: &str, plain: &str) -> f64 {
        self.over(name, plain, |cost| cost.source_cpu_seconds)
    }

    fn over(&self, name: &str, plain: &str, figure: impl Fn(&Cost) -> f64) -> f64 {
        let figures = |wanted: &str| {
            let row = self.rows.iter().find(|(row, _)| row == wanted);
            let measured = row.into_iter().flat_map(|(_, measured)| measured);
            measured.map(|(cost, _)| figure(cost))
        };
        let pairs = figures(name).zip(figures(plain));
        median(pairs.map(|(one, other)| one / other))
    }

    /// Prints the medians, and whether they mean anything.
    pub fn end(self) {
        for (name, measured) in &self.rows {
            let ratio = |at: usize| median(measured.iter().map(|(_, ratios)| ratios[at]));
            let ratios = std::array::from_fn(ratio);
            self.print("mid", name, &median_cost(measured), ratios);
        }
        let all = || self.rows.iter().flat_map(|(_, measured)| measured);
        let busy = all().map(|(cost, _)| cost.others_cpu_seconds).sum::<f64>()
            / all().map(|(cost, _)| cost.wall_seconds).sum::<f64>();
        if busy > BUSY_CORES_MAX {
            println!(
                "others kept {busy:.1} processors busy meanwhile: the wall times and their ratios mean little"
            );
        }
    }

    fn print(&self, round: &str, name: &str, cost: &Cost, ratios: [f64; RATIOS]) {
        let ratios: String = ratios
            .iter()
            .map(|ratio| format!(" {ratio:>8.3}"))
            .collect();
        let rss = cost.client_rss_bytes_max.map_or_else(
            || "-".to_owned(),
            |bytes| format!("{:.1}", bytes as f64 / f64::from(1 << 20)),
        );
        println!(
            "{round:>5}  {name:<17} {:>8.3} |        {:>8.3} {:>8.3} {:>8.3} {:>8.3} | {:>7.3} {rss:>8}{ratios}",
            cost.wall_seconds,
            cost.source_cpu_seconds,
            cost.target_cpu_seconds,
            cost.client_cpu_seconds,
            cost.others_cpu_seconds,
            cost.client_cpu_seconds * 1e6 / self.keys as f64,
        );
    }
}

/// The median of each figure for itself.
fn median_cost<const RATIOS: usize>(measured: &[(Cost, [f64; RATIOS])]) -> Cost {
    let of = |figure: fn(&Cost) -> f64| median(measured.iter().map(|(cost, _)| figure(cost)));
    Cost {
        wall_seconds: of(|cost| cost.wall_seconds),
        source_cpu_seconds: of(|cost| cost.source_cpu_seconds),
        target_cpu_seconds: of(|cost| cost.target_cpu_seconds),
        client_cpu_seconds: of(|cost| cost.client_cpu_seconds),
        others_cpu_seconds: of(|cost| cost.others_cpu_seconds),
        // Of memory the worst counts.
        client_rss_bytes_max: measured
            .iter()
            .filter_map(|(cost, _)| cost.client_rss_bytes_max)
            .max(),
    }
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
