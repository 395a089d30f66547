//! Access keys: from the credentials file that every AWS program knows, from a session, and as the one text that is kept.
//!
//! Invariant: id, secret and session token belong together, since they are read and replaced at once; they are wiped on drop.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// Stands in none of the three parts.
const BETWEEN: char = '|';
/// Session tokens are long; what is longer is none.
const LONGEST: usize = 16 * 1024;

/// What signs requests.
pub(super) struct AccessKeys {
    /// Not secret: it stands in every request.
    pub(super) id: String,
    pub(super) secret: Zeroizing<String>,
    /// Only of temporary ones.
    pub(super) session: Option<Zeroizing<String>>,
}

impl fmt::Debug for AccessKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessKeys(..)")
    }
}

impl AccessKeys {
    /// `None` where a part is missing or cannot be one.
    pub(super) fn new(id: &str, secret: &str, session: Option<&str>) -> Option<Self> {
        let usable = |part: &str| {
            (1..=LONGEST).contains(&part.len())
                && part.bytes().all(|b| b.is_ascii_graphic())
                && !part.contains(BETWEEN)
        };
        // The id stands between commas and slashes in a header.
        let named = usable(id) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        (named && usable(secret) && session.is_none_or(usable)).then(|| Self {
            id: id.to_owned(),
            secret: Zeroizing::new(secret.to_owned()),
            session: session.map(|token| Zeroizing::new(token.to_owned())),
        })
    }

    /// The profile `default` of a shared credentials file.
    pub(super) fn of_file(text: &str) -> Option<Self> {
        let (mut ours, mut id, mut secret, mut session) = (false, None, None, None);
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                ours = name.trim() == "default";
            } else if let (true, Some((name, value))) = (ours, line.split_once('=')) {
                let place = match name.trim().to_ascii_lowercase().as_str() {
                    "aws_access_key_id" => &mut id,
                    "aws_secret_access_key" => &mut secret,
                    "aws_session_token" => &mut session,
                    _ => continue,
                };
                *place = Some(value.trim());
            }
        }
        Self::new(id?, secret?, session)
    }

    /// One line of text, as tokens of every provider are kept.
    pub(super) fn to_token(&self) -> SecretString {
        let session = self.session.as_ref().map_or("", |token| token.as_str());
        let parts = [self.id.as_str(), &self.secret, session];
        let mut text = String::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
        for (n, part) in parts.into_iter().enumerate() {
            if n > 0 {
                text.push(BETWEEN);
            }
            text.push_str(part);
        }
        SecretString::from(text)
    }

    /// What [`AccessKeys::to_token`] made.
    pub(super) fn of_token(token: &SecretString) -> Option<Self> {
        let mut parts = token.expose_secret().splitn(3, BETWEEN);
        let (id, secret, session) = (parts.next()?, parts.next()?, parts.next()?);
        Self::new(id, secret, Some(session).filter(|token| !token.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Option<(String, String, Option<String>)> {
        let keys = AccessKeys::of_file(text)?;
        Some((keys.id.clone(), keys.secret.to_string(), keys.session.as_ref().map(|token| token.to_string())))
    }

    #[test]
    fn the_default_profile_is_read_as_every_aws_program_reads_it() {
        let file = "# keys\n[other]\naws_access_key_id=AKIAOTHER\n\n[default]\n; of the shop\naws_access_key_id = AKIA1\nAWS_SECRET_ACCESS_KEY=a/b+c=\nregion = x\naws_session_token = t==\n[last]\naws_secret_access_key = z\n";
        assert_eq!(read(file), Some(("AKIA1".into(), "a/b+c=".into(), Some("t==".into()))));
        let short = "[default]\naws_access_key_id=AKIA1\naws_secret_access_key=s";
        assert_eq!(read(short), Some(("AKIA1".into(), "s".into(), None)));
    }

    #[test]
    fn half_a_file_is_none() {
        for text in [
            "",
            "AKIA1:s",
            "aws_access_key_id=AKIA1\naws_secret_access_key=s",
            "[default]\naws_access_key_id=AKIA1",
            "[default]\naws_access_key_id=AKIA1\naws_secret_access_key=",
            "[default]\naws_access_key_id=AK IA\naws_secret_access_key=s",
            "[default]\naws_access_key_id=AKIA1\naws_secret_access_key=a|b",
            "[other]\naws_access_key_id=AKIA1\naws_secret_access_key=s",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_token_holds_all_three_and_shows_none() {
        for session in [None, Some("t==")] {
            let keys = AccessKeys::new("AKIA1", "a/b+c=", session).unwrap();
            let again = AccessKeys::of_token(&keys.to_token()).unwrap();
            assert_eq!((again.id, again.secret.as_str()), ("AKIA1".into(), "a/b+c="));
            assert_eq!(again.session.as_ref().map(|token| token.as_str()), session);
            assert_eq!(format!("{keys:?}"), "AccessKeys(..)");
        }
        assert!(AccessKeys::of_token(&SecretString::from("AKIA1|s")).is_none());
    }
}
