//! From method and address to what is asked for.
//!
//! Source: the HTTP bindings of the API, as Google's clients have them. Invariant: an address that the API does not have is none here.

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Call<'a> {
    /// A token for an assertion.
    Token,
    /// A token for another one.
    Exchange,
    /// A token of a service account.
    Impersonate(&'a str),
    CreateRing {
        location: &'a str,
    },
    GetRing(&'a str),
    CreateKey {
        ring: &'a str,
    },
    ListKeys {
        ring: &'a str,
    },
    GetKey(&'a str),
    UpdateKey(&'a str),
    Encrypt {
        key: &'a str,
        version: Option<u64>,
    },
    Decrypt(&'a str),
    UpdatePrimary(&'a str),
    CreateVersion {
        key: &'a str,
    },
    ListVersions {
        key: &'a str,
    },
    GetVersion {
        key: &'a str,
        id: u64,
    },
    UpdateVersion {
        key: &'a str,
        id: u64,
    },
    Destroy {
        key: &'a str,
        id: u64,
    },
    Restore {
        key: &'a str,
        id: u64,
    },
}

/// `None`: there is no such thing.
pub fn call<'a>(method: &str, path: &'a str) -> Option<Call<'a>> {
    match (method, path) {
        ("POST", "/token") => return Some(Call::Token),
        ("POST", "/v1/token") => return Some(Call::Exchange),
        _ => {}
    }
    let rest = path.strip_prefix("/v1/")?;
    if let Some(account) = rest.strip_prefix("projects/-/serviceAccounts/") {
        let email = account.strip_suffix(":generateAccessToken")?;
        return (method == "POST").then_some(Call::Impersonate(email));
    }
    let last = rest.rfind('/')? + 1;
    let (name, verb) = match rest[last..].find(':') {
        Some(at) => (&rest[..last + at], Some(&rest[last + at + 1..])),
        None => (rest, None),
    };
    let parts: Vec<&str> = name.split('/').collect();
    let right = ["projects", "locations", "keyRings", "cryptoKeys", "cryptoKeyVersions"];
    if parts.iter().step_by(2).zip(right).any(|(part, right)| *part != right) || parts.len() > 10 {
        return None;
    }
    // A name has as many parts as its parent, its collection and its id.
    let upto = |count: usize| {
        let len = parts[..count].iter().map(|part| part.len()).sum::<usize>() + count - 1;
        &name[..len]
    };
    let id = || parts.get(9).and_then(|id| id.parse().ok());
    Some(match (method, parts.len(), verb) {
        ("POST", 5, None) => Call::CreateRing { location: upto(4) },
        ("GET", 6, None) => Call::GetRing(name),
        ("POST", 7, None) => Call::CreateKey { ring: upto(6) },
        ("GET", 7, None) => Call::ListKeys { ring: upto(6) },
        ("GET", 8, None) => Call::GetKey(name),
        ("PATCH", 8, None) => Call::UpdateKey(name),
        ("POST", 8, Some("encrypt")) => Call::Encrypt { key: name, version: None },
        ("POST", 10, Some("encrypt")) => Call::Encrypt { key: upto(8), version: Some(id()?) },
        ("POST", 8, Some("decrypt")) => Call::Decrypt(name),
        ("POST", 8, Some("updatePrimaryVersion")) => Call::UpdatePrimary(name),
        ("POST", 9, None) => Call::CreateVersion { key: upto(8) },
        ("GET", 9, None) => Call::ListVersions { key: upto(8) },
        ("GET", 10, None) => Call::GetVersion { key: upto(8), id: id()? },
        ("PATCH", 10, None) => Call::UpdateVersion { key: upto(8), id: id()? },
        ("POST", 10, Some("destroy")) => Call::Destroy { key: upto(8), id: id()? },
        ("POST", 10, Some("restore")) => Call::Restore { key: upto(8), id: id()? },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_api_binds_them() {
        let key = "projects/example.com:p/locations/l/keyRings/r/cryptoKeys/k";
        let path = |rest: &str| format!("/v1/{key}{rest}");
        assert_eq!(call("GET", &path("")), Some(Call::GetKey(key)));
        assert_eq!(call("POST", &path(":encrypt")), Some(Call::Encrypt { key, version: None }));
        assert_eq!(call("POST", &path("/cryptoKeyVersions/3:destroy")), Some(Call::Destroy { key, id: 3 }));
        assert_eq!(call("POST", &path("/cryptoKeyVersions")), Some(Call::CreateVersion { key }));
        assert_eq!(call("POST", "/v1/token"), Some(Call::Exchange));
        for (method, rest) in [("POST", ""), ("GET", ":encrypt"), ("POST", ":wrap"), ("POST", "/versions")] {
            assert_eq!(call(method, &path(rest)), None, "{method} {rest}");
        }
    }
}
