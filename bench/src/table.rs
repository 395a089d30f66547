//! The table. Invariant: pure.

use crate::contender::Contender;
use crate::measure::{Figures, Sample};

const GIB: f64 = (1 << 30) as f64;

/// The middle value; the mean of the two middle ones of an even number.
fn median(mut values: Vec<f64>) -> f64 {
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

/// The median of the ratios, round by round.
fn ratio(figures: &Figures, other: Contender, pick: impl Fn(&Sample) -> f64) -> f64 {
    let of = |contender| figures.samples.get(&contender).map_or(&[][..], Vec::as_slice);
    let pairs = of(Contender::Cofferdam).iter().zip(of(other));
    median(pairs.map(|(ours, theirs)| pick(ours) / pick(theirs)).collect())
}

/// The rates, the ratios and the cost in CPU time, as Markdown.
pub fn render(figures: &[Figures]) -> String {
    let mut text =
        "| work | | storage | floor | gocryptfs | cofferdam | against gocryptfs | against the floor |\n"
            .to_owned();
    text += "|---|---|---:|---:|---:|---:|---:|---:|\n";
    for one in figures {
        text += &format!("| {} | {} |", one.work.name, one.work.unit);
        for contender in Contender::ALL {
            text += &format!(" {} |", rounded(of(one, contender, |sample| sample.rate)));
        }
        for (other, goal) in
            [(Contender::Gocryptfs, one.work.goal.gocryptfs), (Contender::Floor, one.work.goal.floor)]
        {
            text += &format!(" {} |", judged(ratio(one, other, |sample| sample.rate), goal));
        }
        text += "\n";
    }
    text + &cpu(figures)
}

fn cpu(figures: &[Figures]) -> String {
    let mut text = "\n| CPU seconds per GiB, of the server (with the worker) | floor | gocryptfs | cofferdam | against gocryptfs |\n|---|---:|---:|---:|---:|\n".to_owned();
    for one in figures.iter().filter(|one| one.work.bytes > 0.0) {
        let gib = GIB / one.work.bytes;
        text += &format!("| {} |", one.work.name);
        for contender in [Contender::Floor, Contender::Gocryptfs, Contender::Cofferdam] {
            let (server, all) = (of(one, contender, |s| s.server_cpu), of(one, contender, |s| s.all_cpu));
            text += &format!(" {:.2} ({:.2}) |", server * gib, all * gib);
        }
        let server = ratio(one, Contender::Gocryptfs, |s| s.server_cpu);
        let all = ratio(one, Contender::Gocryptfs, |s| s.all_cpu);
        text += &format!(" {server:.2} ({all:.2}), goal ≤ 0.5 |\n");
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
fn rounded(value: f64) -> String {
    if value.is_nan() {
        return "–".into();
    }
    let digits = value.abs().log10().floor() as i32 - 2;
    let unit = 10_f64.powi(digits.max(0));
    format!("{:.0}", (value / unit).round() * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
