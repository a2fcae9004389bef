//! Addresses of servers, taken apart so that the password can go another way than the rest.
//!
//! Not by the rules of the web: those of PostgreSQL and MongoDB may name several hosts, and none at all.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use zeroize::Zeroizing;

/// `scheme://user:password@host:port/path?query`; all but the scheme may be missing.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ServerUrl {
    pub(super) scheme: String,
    /// As it was written: with `%` for what is no plain letter.
    pub(super) raw_user: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password: Option<Zeroizing<String>>,
    /// As it was written.
    pub(super) raw_password: Option<Zeroizing<String>>,
    pub(super) host: Option<String>,
    pub(super) port: Option<String>,
    /// Everything between `@` and the path, as it was written.
    pub(super) hosts: String,
    /// Without the slash before it, as it was written.
    pub(super) path: String,
    /// Without the question mark.
    pub(super) query: Option<String>,
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerUrl")
            .field("scheme", &self.scheme)
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

impl ServerUrl {
    /// Takes an address apart; says what is wrong with it without showing it.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or("it has no ://")?;
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query.to_owned())),
            None => (rest, None),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let (raw_user, raw_password) = match login.map(|login| login.split_once(':').ok_or(login)) {
            Some(Ok((user, password))) => (Some(user), Some(password)),
            Some(Err(user)) => (Some(user), None),
            None => (None, None),
        };
        let (host, port) = match hosts.rsplit_once(':') {
            // The colons of an IPv6 address stand in brackets.
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.to_owned())),
            _ => (hosts, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            scheme: scheme.to_owned(),
            raw_user: raw_user.map(str::to_owned),
            user: raw_user.map(decode).transpose()?,
            password: raw_password.map(decode).transpose()?.map(Zeroizing::new),
            raw_password: raw_password.map(|password| Zeroizing::new(password.to_owned())),
            host: (!host.is_empty()).then(|| host.to_owned()),
            port: port.filter(|port| !port.is_empty()),
            hosts: hosts.to_owned(),
            path: path.to_owned(),
            query,
        })
    }
}

/// What stands as it is in an address; all else is written as `%41`.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Undoes `%41` for `A`.
pub(super) fn decode(text: &str) -> Result<String, &'static str> {
    let is_byte = |rest: &str| {
        rest.as_bytes().first_chunk::<2>().is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.split('%').skip(1).all(is_byte) {
        return Err("a % in it is not followed by two hexadecimal digits");
    }
    percent_decode_str(text).decode_utf8().map(Cow::into_owned).map_err(|_| "it is no UTF-8")
}

/// Writes what is no plain letter as `%41`.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}
