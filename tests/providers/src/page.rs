//! The table of `docs/kms.md`: every point, and how each provider stands to it.
//!
//! Invariant: a function of points and subjects alone; a test fails when the page holds another table.

use std::fmt::Write;

use crate::points::{POINTS, Point};
use crate::subjects::{SUBJECTS, Standing, Subject};

/// Between these lines stands what is generated.
pub const MARKS: [&str; 2] = ["<!-- generated: conformance -->", "<!-- end -->"];

/// The table as Markdown.
pub fn table() -> String {
    let mut text = String::from("| | what holds |");
    for subject in SUBJECTS {
        write!(text, " {}, against {} |", subject.name, subject.against).unwrap();
    }
    text.push_str("\n|---|---|");
    text.push_str(&"---|".repeat(SUBJECTS.len()));
    for point in POINTS {
        write!(text, "\n| {} | {} |", point.number, point.what).unwrap();
        for subject in SUBJECTS {
            write!(text, " {} |", cell(point, subject)).unwrap();
        }
    }
    text.push('\n');
    text
}

fn cell(point: &Point, subject: &Subject) -> String {
    let number = point.number.to_string();
    let names = if point.checks.is_empty() { vec![number.as_str()] } else { point.checks.to_vec() };
    let mut says: Vec<String> = names
        .iter()
        .map(|name| match subject.standing(name) {
            None => "yes".to_owned(),
            Some(Standing::Beside(place)) => format!("yes, by `{place}`"),
            Some(Standing::Absent(why)) => format!("no: {why}"),
        })
        .collect();
    says.dedup();
    says.join("; ")
}

/// The page with the table of today; `None` where its marks are missing.
pub fn renewed(page: &str) -> Option<String> {
    let (head, rest) = page.split_once(MARKS[0])?;
    let (_, tail) = rest.split_once(MARKS[1])?;
    Some(format!("{head}{}\n\n{}\n{}{tail}", MARKS[0], table(), MARKS[1]))
}
