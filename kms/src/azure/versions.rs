//! The versions of a key, page after page.
//!
//! Invariant: of the link to the next page only its query is used; a link that leads elsewhere ends the listing as an unusable
//! answer, because a token would go along.

use super::exchange::{Ask, Site};
use super::wire::VersionPage;
use crate::error::{ErrorKind, Result};
use crate::http::endpoint::Endpoint;
use crate::key::VersionInfo;

/// The most that the service gives at once.
const ON_A_PAGE: &str = "25";

/// Ten thousand versions.
const PAGES: usize = 400;

impl Site<'_> {
    /// All of them, in no order.
    pub(super) async fn versions(&self) -> Result<Vec<VersionInfo>> {
        let path = ["keys", self.name(), "versions"];
        let mut all = Vec::new();
        let mut query = vec![("maxresults".to_owned(), ON_A_PAGE.to_owned())];
        for _ in 0..PAGES {
            let page: VersionPage = self.read(Ask { query: &query, ..Ask::get(&path) }).await?;
            all.extend(self.place.decode(page.versions(self.name()))?);
            let Some(link) = page.next_link.filter(|link| !link.is_empty()) else { return Ok(all) };
            let next = following(&self.exchange.endpoint, &path, &link);
            query = self.place.decode(next.ok_or(ErrorKind::Integrity("its next page is elsewhere")))?;
        }
        self.place.decode(Err(ErrorKind::Integrity("its pages do not end")))
    }
}

/// The query of the next page, where that is a page of the same list.
fn following(vault: &Endpoint, path: &[&str], link: &str) -> Option<Vec<(String, String)>> {
    let (link, here) = (reqwest::Url::parse(link).ok()?, vault.join(path));
    let same = link.origin() == here.origin()
        && link.path().eq_ignore_ascii_case(here.path())
        && link.username().is_empty()
        && link.password().is_none();
    let own = |(name, _): &(_, _)| *name != "api-version";
    same.then(|| link.query_pairs().into_owned().filter(own).collect())
}
