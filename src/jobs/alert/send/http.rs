//! One POST at a time to services that take messages.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Error};

use super::SendError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(30);

/// Posts JSON.
pub(super) fn post_json(url: &str, document: &Value, token: Option<&str>) -> Result<(), SendError> {
    let mut headers = vec![("Content-Type", "application/json".to_owned())];
    headers.extend(token.map(|token| ("Authorization", format!("Bearer {token}"))));
    post(url, &document.to_string(), &headers)
}

/// Posts text.
pub(super) fn post_text(url: &str, text: &str, headers: &[(&str, String)]) -> Result<(), SendError> {
    let mut all = vec![("Content-Type", "text/plain; charset=utf-8".to_owned())];
    all.extend_from_slice(headers);
    post(url, text, &all)
}

fn post(url: &str, body: &str, headers: &[(&str, String)]) -> Result<(), SendError> {
    let host = host(url);
    let mut request = agent().post(url);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let response = request.send(body).map_err(|error| describe(&host, &error))?;
    let status = response.status();
    match status.as_u16() {
        200..=299 => Ok(()),
        // Whoever is asked to go elsewhere with a secret does not.
        300..=399 => {
            Err(SendError::Lasting(format!("{host} redirects ({status}): give the address it means")))
        }
        408 | 429 | 500.. => Err(SendError::Passing(format!("{host} answered {status}"))),
        _ => Err(SendError::Lasting(format!("{host} answered {status}"))),
    }
}

fn agent() -> Agent {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .build();
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_global(Some(TIMEOUT))
        .user_agent(concat!("yester/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls)
        .build()
        .new_agent()
}

/// Returns the host of an address, all of it that may be shown.
fn host(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host.is_empty() { "the server".to_owned() } else { host.to_owned() }
}

/// Puts an error in words of its own: some of the library's hold the whole address.
fn describe(host: &str, error: &Error) -> SendError {
    match error {
        Error::Io(error) => SendError::Passing(format!("cannot reach {host}: {error}")),
        Error::Timeout(_) => SendError::Passing(format!("{host} does not answer in time")),
        Error::HostNotFound => SendError::Passing(format!("there is no host {host}")),
        Error::ConnectionFailed => SendError::Passing(format!("cannot reach {host}")),
        Error::Protocol(_) => SendError::Passing(format!("{host} does not speak HTTP")),
        Error::Rustls(error) => SendError::Passing(format!("cannot trust {host}: {error}")),
        Error::Tls(what) => SendError::Passing(format!("cannot trust {host}: {what}")),
        Error::BadUri(_) | Error::Http(_) => SendError::Lasting(format!("the address at {host} is none")),
        Error::InvalidProxyUrl => SendError::Lasting("the address of the proxy is none".to_owned()),
        _ => SendError::Passing(format!("{host} was not told")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_are_shown() {
        for (url, expected) in [
            ("https://hooks.example.com/services/SECRET", "hooks.example.com"),
            ("https://user:SECRET@h:8443?token=SECRET", "h:8443"),
            ("http://[::1]:80/SECRET#x", "[::1]:80"),
            ("https:///SECRET", "the server"),
        ] {
            assert_eq!(host(url), expected);
        }
    }

    #[test]
    fn no_error_holds_the_address() {
        for url in ["http://127.0.0.1:1/SECRET", "http://h h/SECRET", "https://no.such.host.invalid/SECRET"] {
            let told =
                post_text(url, "x", &[("Authorization", "SECRET".to_owned())]).unwrap_err().to_string();
            assert!(!told.contains("SECRET"), "{told}");
        }
        let told = post_text("http://127.0.0.1:1/", "x", &[("Authorization", "SECRET\n".to_owned())]);
        assert!(!told.unwrap_err().to_string().contains("SECRET"));
    }
}
