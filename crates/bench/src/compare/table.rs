//! Medians of all rounds, and ratios to the first system of each load, as Markdown.

use std::collections::BTreeMap;
use std::fmt;

use super::{Case, Outcome, System};

/// What was measured so far. Loads in the order they first came.
pub(super) struct Table {
    systems: Vec<&'static str>,
    cases: Vec<Case>,
    /// By load and system, both as positions in the lists above.
    outcomes: BTreeMap<(usize, usize), Vec<Outcome>>,
}

impl Table {
    pub(super) fn new(systems: &[System]) -> Self {
        let systems = systems.iter().map(|system| system.name).collect();
        Self { systems, cases: Vec::new(), outcomes: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, case: &Case, system: usize, outcome: Outcome) {
        let known = self.cases.iter().position(|known| known == case);
        let index = known.unwrap_or_else(|| {
            self.cases.push(*case);
            self.cases.len() - 1
        });
        self.outcomes.entry((index, system)).or_default().push(outcome);
    }

    fn load(&self, f: &mut fmt::Formatter<'_>, index: usize, case: &Case) -> fmt::Result {
        let of = |system: usize| self.outcomes.get(&(index, system)).map_or(&[][..], Vec::as_slice);
        let first = (0..self.systems.len()).find(|system| !of(*system).is_empty()).unwrap_or(0);
        for (system, name) in self.systems.iter().enumerate() {
            let outcomes = of(system);
            if outcomes.is_empty() {
                continue;
            }
            write!(f, "| {case} | {name} |")?;
            for figure in FIGURES {
                let values: Vec<_> = outcomes.iter().filter_map(|o| (figure.of)(o)).collect();
                write!(f, " {} |", Spread { values, decimals: figure.decimals })?;
            }
            writeln!(f)?;
            if system != first {
                write!(f, "| | ÷ {} |", self.systems.get(first).unwrap_or(&""))?;
                for figure in FIGURES {
                    // Neighbours in time are compared, so that the machine's moods cancel out.
                    let pairs = outcomes.iter().zip(of(first));
                    let values = pairs
                        .filter_map(|(other, own)| Some((figure.of)(other)? / (figure.of)(own)?))
                        .filter(|ratio| ratio.is_finite());
                    write!(f, " {} |", Spread { values: values.collect(), decimals: 2 })?;
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }

    fn starts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| | start to first topic, ms | idle, MiB resident |\n|---|---|---|")?;
        for (system, name) in self.systems.iter().enumerate() {
            let all = || {
                let outcomes = self.outcomes.iter().filter(|((_, of), _)| *of == system);
                outcomes.flat_map(|(_, outcomes)| outcomes)
            };
            let ready = all().map(|outcome| outcome.ready_in.as_secs_f64() * 1e3).collect();
            let idle = all().filter_map(|outcome| outcome.idle_bytes.map(mebibytes)).collect();
            let (ready, idle) =
                (Spread { values: ready, decimals: 0 }, Spread { values: idle, decimals: 0 });
            writeln!(f, "| {name} | {ready} | {idle} |")?;
        }
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| load | system |")?;
        for figure in FIGURES {
            write!(f, " {} |", figure.name)?;
        }
        writeln!(f, "\n|---|---|{}", "---|".repeat(FIGURES.len()))?;
        for (index, case) in self.cases.iter().enumerate() {
            self.load(f, index, case)?;
        }
        writeln!(f)?;
        self.starts(f)
    }
}

/// One column.
struct Figure {
    name: &'static str,
    of: fn(&Outcome) -> Option<f64>,
    decimals: usize,
}

const FIGURES: &[Figure] = &[
    Figure { name: "produce MB/s", of: |o| Some(o.produced.megabytes_per_second()), decimals: 0 },
    Figure { name: "CPU s/GB", of: |o| o.produced.cpu_seconds_per_gigabyte(), decimals: 2 },
    Figure { name: "answered ms", of: |o| o.produced.answered_ms(0.5), decimals: 2 },
    Figure { name: "p99 ms", of: |o| o.produced.answered_ms(0.99), decimals: 2 },
    Figure { name: "fetch MB/s", of: |o| Some(o.fetched.megabytes_per_second()), decimals: 0 },
    Figure { name: "CPU s/GB", of: |o| o.fetched.cpu_seconds_per_gigabyte(), decimals: 2 },
    Figure {
        name: "resident MiB",
        of: |o| o.fetched.server_resident_bytes.map(mebibytes),
        decimals: 0,
    },
];

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Prints as `median (least-most)`.
struct Spread {
    values: Vec<f64>,
    decimals: usize,
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let decimals = self.decimals;
        let (Some(least), Some(median), Some(most)) =
            (sorted.first(), sorted.get(sorted.len() / 2), sorted.last())
        else {
            return write!(f, "-");
        };
        match sorted.len() {
            1 => write!(f, "{median:.decimals$}"),
            _ => write!(f, "{median:.decimals$} ({least:.decimals$}-{most:.decimals$})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_shows_the_middle_and_both_ends() {
        let shown = |values: &[f64]| Spread { values: values.to_vec(), decimals: 1 }.to_string();
        assert_eq!(shown(&[3.0, 1.0, 2.0]), "2.0 (1.0-3.0)");
        assert_eq!(shown(&[3.0]), "3.0");
        assert_eq!(shown(&[]), "-");
    }
}
