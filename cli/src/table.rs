//! Tables for people.
//!
//! Invariant: pure; the last column is as long as its text, each other one as wide as its widest cell.

/// What a cell looks like on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// As everything.
    Plain,
    /// Well.
    Green,
    /// Look at it.
    Yellow,
    /// Wrong.
    Red,
}

/// A cell.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    colour: Colour,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), colour: Colour::Plain }
    }
}

impl Cell {
    /// A cell in a colour.
    pub fn coloured(text: impl Into<String>, colour: Colour) -> Self {
        Self { text: text.into(), colour }
    }

    fn painted(&self, width: usize, colours: bool) -> String {
        let text = format!("{:<width$}", self.text);
        let code = match self.colour {
            Colour::Green if colours => "32",
            Colour::Yellow if colours => "33",
            Colour::Red if colours => "31",
            _ => return text,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// The lines of a table, with its heads first.
pub fn lines(heads: &[&str], rows: &[Vec<Cell>], colours: bool) -> Vec<String> {
    let heads: Vec<Cell> = heads.iter().map(|head| Cell::from(*head)).collect();
    let all = || std::iter::once(&heads).chain(rows);
    let columns = all().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        all()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.text.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> =
        (0..columns).map(|column| if column + 1 == columns { 0 } else { width(column) }).collect();
    let line = |row: &Vec<Cell>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| cell.painted(*width, colours));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all().map(line).collect()
}

/// Colours are for a terminal whose user has not forbidden them.
pub fn colours() -> bool {
    use std::io::IsTerminal;
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_with_colours_and_without() {
        let rows = [vec![Cell::from("a"), Cell::coloured("ok", Colour::Green), Cell::from("long text")]];
        assert_eq!(lines(&["NAME", "IS", "WHY"], &rows, false), ["NAME  IS  WHY", "a     ok  long text"]);
        let painted = lines(&["NAME", "IS", "WHY"], &rows, true);
        assert_eq!(painted[1], "a     \x1b[32mok\x1b[0m  long text");
    }
}
