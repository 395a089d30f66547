//! The promises of a document, and the tests that are registered for them.
//!
//! Invariant: a promise is a row of a table, a bullet or a paragraph; it is named by its section and its first cell or its
//! first words, so that who changes those, or adds a line, has to say which test shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Words by which a bullet or a paragraph is named.
const WORDS: usize = 6;

/// Section and name of each promise of a page, in their order. What stands before the first section promises nothing.
pub fn promises(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut section = None;
    let mut before = Line::Blank;
    for text in page.lines() {
        let line = Line::of(text);
        if let Line::Heading(title) = line {
            section = Some(title);
        }
        if let Some(section) = section
            && let Some(name) = line.begins(before)
        {
            found.push(format!("{section} / {name}"));
        }
        before = match (line, before) {
            (Line::Row(_), Line::Row(_) | Line::Head) => line,
            (Line::Row(_), _) => Line::Head,
            _ => line,
        };
    }
    found
}

#[derive(Clone, Copy)]
enum Line<'a> {
    Blank,
    Heading(&'a str),
    /// The first line of a table.
    Head,
    /// Any other line of a table; its first cell.
    Row(&'a str),
    Bullet(&'a str),
    Text(&'a str),
}

impl<'a> Line<'a> {
    fn of(text: &'a str) -> Self {
        if let Some(title) = text.strip_prefix("## ") {
            Self::Heading(title)
        } else if let Some(row) = text.strip_prefix('|') {
            Self::Row(row.split('|').next().unwrap_or_default().trim())
        } else if let Some(bullet) = text.strip_prefix("* ") {
            Self::Bullet(bullet)
        } else if text.trim().is_empty() {
            Self::Blank
        } else {
            Self::Text(text)
        }
    }

    /// The name of the promise that begins with this line, behind the line `before`.
    fn begins(self, before: Line<'_>) -> Option<String> {
        match (self, before) {
            (Self::Row(cell), Line::Row(_) | Line::Head) if !cell.starts_with("---") => Some(cell.to_owned()),
            (Self::Bullet(text), _) | (Self::Text(text), Line::Blank | Line::Heading(_) | Line::Row(_)) => {
                Some(words(text))
            }
            _ => None,
        }
    }
}

fn words(text: &str) -> String {
    text.split_whitespace().take(WORDS).collect::<Vec<_>>().join(" ")
}

/// A register: each promise on a line of its own, below it the tests, indented: file and function. Lines with `#` are remarks.
pub fn register(text: &str) -> BTreeMap<String, Vec<(String, String)>> {
    let mut found: BTreeMap<String, Vec<_>> = BTreeMap::new();
    let mut promise = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        if let Some((file, name)) = line.strip_prefix("    ").and_then(|test| test.split_once(' ')) {
            found.entry(promise.clone()).or_default().push((file.to_owned(), name.to_owned()));
        } else {
            line.clone_into(&mut promise);
            found.entry(promise.clone()).or_default();
        }
    }
    found
}

/// What is wrong between a page and its register; `root` is the repository. Sections of `without` promise nothing.
pub fn faults(page: &str, text: &str, without: &[&str], root: &Path) -> Vec<String> {
    let promised: BTreeSet<_> = promises(page)
        .into_iter()
        .filter(|promise| !without.iter().any(|section| promise.starts_with(&format!("{section} / "))))
        .collect();
    let registered = register(text);
    let mut faults = Vec::new();
    for promise in &promised {
        if registered.get(promise).is_none_or(Vec::is_empty) {
            faults.push(format!("no test is registered for: {promise}"));
        }
    }
    for (promise, tests) in &registered {
        if !promised.contains(promise) {
            faults.push(format!("the page does not promise: {promise}"));
        }
        let missing = tests.iter().filter(|(file, name)| !is_test(root, file, name));
        faults
            .extend(missing.map(|(file, name)| format!("there is no test {name} in {file}, for: {promise}")));
    }
    faults
}

/// Whether `file` has a test function `name`.
pub fn is_test(root: &Path, file: &str, name: &str) -> bool {
    let Ok(source) = std::fs::read_to_string(root.join(file)) else { return false };
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let names = |line: &str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ")
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('('))
    };
    lines.iter().enumerate().any(|(at, line)| {
        // Attributes stand between the mark of a test and its function.
        let above = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
        let marked =
            above.into_iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"));
        let in_macro = lines[..at].iter().rev().take(2).any(|line| *line == "#[test]");
        names(line) && (marked || in_macro)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Page\n\nnothing\n\n## One\n\nA text of\nmany lines.\n\n| a | b |\n|---|---|\n| `x`, y | z |\n| w | |\n\
        \n* a bullet of more than six words in all\n  and a second line\n* short\n\n## Two\n\n| | |\n|---|---|\n| r | s |\n";

    #[test]
    fn rows_bullets_and_paragraphs_are_promises_and_headings_and_heads_of_tables_are_not() {
        let expected = [
            "One / A text of",
            "One / `x`, y",
            "One / w",
            "One / a bullet of more than six",
            "One / short",
            "Two / r",
        ];
        assert_eq!(promises(PAGE), expected);
    }

    #[test]
    fn a_promise_without_a_test_a_test_without_a_promise_and_a_test_that_is_not_there_are_faults() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let here = "    src/lib.rs rows_bullets_and_paragraphs_are_promises_and_headings_and_heads_of_tables_are_not\n";
        let good: String = promises(PAGE).iter().map(|promise| format!("{promise}\n{here}")).collect();
        assert_eq!(faults(PAGE, &good, &[], root), Vec::<String>::new());
        let lines = |text: &str| faults(PAGE, text, &[], root).len();
        assert_eq!(lines(&good.replacen(here, "", 1)), 1);
        assert_eq!(lines(&format!("{good}One / q\n{here}")), 1);
        assert_eq!(lines(&good.replacen("rows_bullets", "words", 1)), 1);
        assert_eq!(lines(&good.replacen("are_not", "are", 1)), 1, "a part of a name");
        assert_eq!(lines(&good.replacen(here, "    src/lib.rs words\n", 1)), 1, "a function, and no test");
        assert_eq!(faults(PAGE, &good.replacen("Two", "Three", 1), &["Two"], root).len(), 1);
    }
}
