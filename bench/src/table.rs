//! The tables. Invariant: pure.

use crate::contender::Contender;
use crate::measure::{Figures, Sample};
use crate::work::Goal;

const GIB: f64 = (1 << 30) as f64;

/// The middle value; the mean of the two middle ones of an even number.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => f64::midpoint(values[even / 2 - 1], values[even / 2]),
    }
}

fn of(figures: &Figures, contender: Contender, pick: impl Fn(&Sample) -> f64) -> f64 {
    median(
        figures.samples.get(&contender).map_or_else(Vec::new, |samples| samples.iter().map(pick).collect()),
    )
}

/// The median of the ratios of `one` to `other`, round by round.
fn ratio(figures: &Figures, one: Contender, other: Contender, pick: impl Fn(&Sample) -> f64) -> f64 {
    let of = |contender| figures.samples.get(&contender).map_or(&[][..], Vec::as_slice);
    let pairs = of(one).iter().zip(of(other));
    median(pairs.map(|(ours, theirs)| pick(ours) / pick(theirs)).collect())
}

/// The rates, the ratios and the cost in CPU time, as Markdown.
pub fn render(figures: &[Figures]) -> String {
    let Some(first) = figures.first() else { return String::new() };
    let measured: Vec<Contender> = first.samples.keys().copied().collect();
    let rates = if measured.iter().any(|one| one.is_trial()) { trials } else { compared };
    rates(figures, &measured) + &cpu(figures, &measured)
}

/// The first lines of a table: columns of words, and columns of numbers.
fn heading(words: &[&str], contenders: &[Contender], more: &[&str]) -> String {
    let numbers: Vec<&str> = contenders.iter().map(|one| one.name()).chain(more.iter().copied()).collect();
    let lines = "---|".repeat(words.len()) + &"---:|".repeat(numbers.len());
    format!("| {} | {} |\n|{lines}\n", words.join(" | "), numbers.join(" | "))
}

/// A work's name, its unit, and its rounds where there was no time for all.
fn begin(one: &Figures, figures: &[Figures]) -> String {
    let most = figures.iter().map(Figures::rounds).max().unwrap_or(0);
    let fewer = if one.rounds() < most { format!(" ({} runs)", one.rounds()) } else { String::new() };
    format!("| {}{fewer} | {} |", one.work.name, one.work.unit)
}

/// Cofferdam beside others, judged by the goals.
fn compared(figures: &[Figures], measured: &[Contender]) -> String {
    let mut text = heading(&["work", ""], measured, &["against gocryptfs", "against the floor"]);
    for one in figures {
        text += &begin(one, figures);
        for contender in measured {
            text += &format!(" {} |", rounded(of(one, *contender, |sample| sample.rate)));
        }
        let Goal { gocryptfs, floor } = one.work.goal;
        for (other, goal) in [(Contender::Gocryptfs, gocryptfs), (Contender::Floor, floor)] {
            text += &format!(
                " {} |",
                judged(ratio(one, Contender::Cofferdam, other, |sample| sample.rate), goal)
            );
        }
        text += "\n";
    }
    text
}

/// Ways to serve beside each other: the rate, and in brackets what it is against gocryptfs.
fn trials(figures: &[Figures], measured: &[Contender]) -> String {
    let mut text = heading(&["work", ""], measured, &["goal against gocryptfs"]);
    for one in figures {
        text += &begin(one, figures);
        for contender in measured {
            text += &format!(" {}", rounded(of(one, *contender, |sample| sample.rate)));
            let against = ratio(one, *contender, Contender::Gocryptfs, |sample| sample.rate);
            if *contender != Contender::Gocryptfs && !against.is_nan() {
                text += &format!(" ({against:.2})");
            }
            text += " |";
        }
        text += &format!(" {} |\n", one.work.goal.gocryptfs);
    }
    text
}

fn cpu(figures: &[Figures], measured: &[Contender]) -> String {
    if figures.iter().all(|one| one.work.bytes == 0.0) {
        return String::new();
    }
    let servers: Vec<Contender> = measured.iter().copied().filter(|one| *one != Contender::Storage).collect();
    let mut text = "\nCPU seconds per GiB, of the server (with the worker); behind it what the server's are against gocryptfs, goal ≤ 0.5:\n\n".to_owned();
    text += &heading(&["work"], &servers, &[]);
    for one in figures.iter().filter(|one| one.work.bytes > 0.0) {
        let gib = GIB / one.work.bytes;
        text += &format!("| {} |", one.work.name);
        for contender in &servers {
            let (server, all) = (of(one, *contender, |s| s.server_cpu), of(one, *contender, |s| s.all_cpu));
            text += &format!(" {:.2} ({:.2})", server * gib, all * gib);
            let against = ratio(one, *contender, Contender::Gocryptfs, |s| s.server_cpu);
            if *contender != Contender::Gocryptfs && !against.is_nan() {
                let ours = !matches!(contender, Contender::Floor | Contender::FloorIoUring);
                text += &format!(", {against:.2}{}", if ours && against > 0.5 { " missed" } else { "" });
            }
            text += " |";
        }
        text += "\n";
    }
    text
}

fn judged(ratio: f64, goal: f64) -> String {
    if ratio.is_nan() {
        return "–".into();
    }
    let verdict = if ratio >= goal { "" } else { ", missed" };
    format!("{ratio:.2} (goal {goal}{verdict})")
}

/// Three digits that mean something.
pub fn rounded(value: f64) -> String {
    if value.is_nan() {
        return "–".into();
    }
    let digits = value.abs().log10().floor() as i32 - 2;
    let unit = 10_f64.powi(digits.max(0));
    format!("{:.0}", (value / unit).round() * unit)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::work::WORKS;

    fn figures(rates: &[(Contender, &[f64])]) -> Figures {
        let sample = |rate: &f64| Sample { rate: *rate, server_cpu: 1.0 / rate, all_cpu: 2.0 / rate };
        let samples = rates.iter().map(|(one, rates)| (*one, rates.iter().map(sample).collect())).collect();
        Figures { work: &WORKS[0], samples }
    }

    #[test]
    fn the_median_is_the_middle_and_figures_have_three_digits() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert_eq!(
            (rounded(12_345.0), rounded(9.6), rounded(f64::NAN)),
            ("12300".into(), "10".into(), "–".into())
        );
    }

    #[test]
    fn a_missed_goal_is_said() {
        assert_eq!(judged(0.5, 0.75), "0.50 (goal 0.75, missed)");
        assert_eq!(judged(0.8, 0.75), "0.80 (goal 0.75)");
    }

    #[test]
    fn ratios_are_taken_round_by_round_and_every_column_has_its_heading() {
        use Contender::{Cofferdam, Floor, Gocryptfs, IoUring, Storage};
        let main = figures(&[
            (Storage, &[9000.0, 9000.0]),
            (Floor, &[1000.0, 500.0]),
            (Gocryptfs, &[400.0, 100.0]),
            (Cofferdam, &[800.0, 400.0]),
        ]);
        let text = render(&[main]);
        assert!(text.contains("| 3.00 (goal 1.7) | 0.80 (goal 0.75) |"), "{text}");
        let options =
            render(&[figures(&[(Gocryptfs, &[100.0]), (Cofferdam, &[150.0]), (IoUring, &[250.0])])]);
        assert!(options.contains("| 100 | 150 (1.50) | 250 (2.50) | 1.7 |"), "{options}");
        for text in [text, options] {
            for block in text.split("\n\n").filter(|block| block.starts_with('|')) {
                let columns: Vec<usize> = block.lines().map(|line| line.matches('|').count()).collect();
                assert!(columns.iter().all(|count| *count == columns[0]), "{block}");
            }
        }
    }
}
