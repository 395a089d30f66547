//! What a check found: lines, and the form in which they are printed.
//!
//! Invariant: the form for programs is versioned; a field is added to a version, never taken away or given another meaning.

use contract::exit;
use kms::KmsError;
use serde::Serialize;

use crate::subject::{Gap, Known, Place, Role, Subject};
use crate::table::{self, Cell, Colour};

/// The version of the form for programs.
const VERSION: u16 = 1;

/// What a line says, from the least to the gravest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It was shown to be well.
    Ok,
    /// It works, and somebody should look at it.
    Warning,
    /// Nobody knows.
    Unknown,
    /// It was shown to be wrong.
    Failed,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
        }
    }

    fn colour(self) -> Colour {
        match self {
            Self::Ok => Colour::Green,
            Self::Warning | Self::Unknown => Colour::Yellow,
            Self::Failed => Colour::Red,
        }
    }
}

/// What was found of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it stands.
    pub verdict: Verdict,
    /// What was seen, and what to do.
    pub text: String,
    /// The word for an error of the KMS.
    pub reason: Option<&'static str>,
    /// Nobody answered.
    pub outage: bool,
}

impl Finding {
    fn new(verdict: Verdict, text: impl Into<String>) -> Self {
        Self { verdict, text: text.into(), reason: None, outage: false }
    }

    /// Well.
    pub fn ok(text: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, text)
    }

    /// To be looked at.
    pub fn warning(text: impl Into<String>) -> Self {
        Self::new(Verdict::Warning, text)
    }

    /// Wrong.
    pub fn failed(text: impl Into<String>) -> Self {
        Self::new(Verdict::Failed, text)
    }

    /// Not known.
    pub fn unknown(text: impl Into<String>) -> Self {
        Self::new(Verdict::Unknown, text)
    }

    /// Because of an error. An outage leaves everything unknown.
    pub fn because(self, error: &KmsError) -> Self {
        let outage = error.is_outage();
        let verdict = if outage { Verdict::Unknown } else { self.verdict };
        Self { verdict, text: format!("{} [{error}]", self.text), reason: Some(error.reason()), outage }
    }
}

impl From<Gap> for Finding {
    fn from(gap: Gap) -> Self {
        match gap.known {
            Known::Wrong => Self::failed(gap.text),
            Known::Refused => Self::unknown(gap.text),
            Known::Outage => Self { outage: true, ..Self::unknown(gap.text) },
        }
    }
}

/// A line.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// `data`, `rewrap` or `admin`; `profile` or `nodes`.
    pub about: &'static str,
    /// What was checked.
    pub check: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// What was seen, and what to do.
    pub text: String,
    /// The word for an error of the KMS, as in conditions and audit events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    #[serde(skip)]
    outage: bool,
}

impl Line {
    /// A line about a credential.
    pub fn of(role: Role, check: &'static str, finding: Finding) -> Self {
        Self::about(role.name(), check, finding)
    }

    /// A line about something else.
    pub fn about(about: &'static str, check: &'static str, finding: Finding) -> Self {
        let Finding { verdict, text, reason, outage } = finding;
        Self { about, check, verdict, text, reason, outage }
    }
}

/// All lines, and the gravest of them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    version: u16,
    kind: &'static str,
    profile: String,
    #[serde(flatten)]
    place: Place,
    verdict: Verdict,
    lines: Vec<Line>,
}

impl Report {
    /// Of a profile.
    pub fn new(subject: &Subject, lines: Vec<Line>) -> Self {
        let verdict = lines.iter().map(|line| line.verdict).max().unwrap_or(Verdict::Unknown);
        let (profile, place) = (subject.title(), Place::of(&subject.provider));
        Self { version: VERSION, kind: "KmsCheck", profile, place, verdict, lines }
    }

    /// For people.
    pub fn text(&self, colours: bool) -> String {
        let Place { provider, endpoint, root_key } = &self.place;
        let at = endpoint.as_ref().map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
        let mut lines = vec![format!("{}: root key {root_key}, {provider}{at}", self.profile), String::new()];
        let row = |line: &Line| {
            let word = Cell::coloured(line.verdict.word(), line.verdict.colour());
            vec![line.about.into(), line.check.into(), word, line.text.clone().into()]
        };
        let rows: Vec<_> = self.lines.iter().map(row).collect();
        lines.extend(table::lines(
            &["ABOUT", "CHECK", "RESULT", "WHAT WAS SEEN, AND WHAT TO DO"],
            &rows,
            colours,
        ));
        lines.extend([String::new(), self.summary()]);
        lines.join("\n")
    }

    fn summary(&self) -> String {
        let count = |verdict| self.lines.iter().filter(|line| line.verdict == verdict).count();
        let of = |verdict: Verdict| format!("{} {}", count(verdict), verdict.word());
        [Verdict::Ok, Verdict::Warning, Verdict::Failed, Verdict::Unknown].map(of).join(", ")
    }

    /// For programs.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Something wrong outweighs what is not known: a person must act on it whatever the rest turns out to be.
    pub fn exit_code(&self) -> i32 {
        match self.verdict {
            Verdict::Ok | Verdict::Warning => exit::OK,
            Verdict::Failed => exit::FAILURE,
            Verdict::Unknown if self.lines.iter().any(|line| line.outage) => exit::UNAVAILABLE,
            Verdict::Unknown => exit::INCOMPLETE,
        }
    }
}

#[cfg(test)]
mod tests {
    use kms::{ErrorKind, Op, Outage};

    use super::*;

    fn report(findings: Vec<Finding>) -> Report {
        let lines: Vec<_> =
            findings.into_iter().map(|finding| Line::of(Role::Data, "wrap", finding)).collect();
        let verdict = lines.iter().map(|line| line.verdict).max().unwrap_or(Verdict::Unknown);
        let place = Place { provider: "p".into(), endpoint: None, root_key: "k".into() };
        Report { version: VERSION, kind: "KmsCheck", profile: "n/p".into(), place, verdict, lines }
    }

    #[test]
    fn the_gravest_line_makes_the_exit_code_and_unknown_is_never_ok() {
        let down = ErrorKind::Unavailable { why: Outage::Unreachable, retry_after: None };
        let down = KmsError::new(down, "p", Op::Wrap);
        let outage = || Finding::failed("x").because(&down);
        assert_eq!(outage().verdict, Verdict::Unknown, "an outage is no failure of the credential");
        let code = |findings| report(findings).exit_code();
        assert_eq!(code(vec![Finding::ok("a"), Finding::warning("b")]), exit::OK);
        assert_eq!(code(vec![Finding::ok("a"), Finding::unknown("b")]), exit::INCOMPLETE);
        assert_eq!(code(vec![Finding::unknown("a"), outage()]), exit::UNAVAILABLE);
        assert_eq!(code(vec![outage(), Finding::failed("b")]), exit::FAILURE);
        assert_eq!(code(vec![]), exit::INCOMPLETE, "nothing was shown");
    }
}
