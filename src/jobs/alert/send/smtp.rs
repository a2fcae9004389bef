//! Mail.
//!
//! STARTTLS is used where the server offers it. With a password it is required, and the server's certificate is
//! checked: otherwise whoever stands between gets the password. Without one the certificate is not looked at, as
//! between mail servers: who could show a wrong one could as well hide that there is TLS at all, and a mail that does
//! not arrive is worse. To this machine itself nothing is encrypted, since nothing leaves it.

use std::net::IpAddr;
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::{Error, SmtpTransport};
use lettre::{Message as Mail, Transport};

use super::SendError;
use crate::jobs::alert::Surroundings;
use crate::jobs::alert::message::{Message, mail_subject, mail_text};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A server, as its URL has it, and who logs in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Server<'a> {
    /// Without the brackets of an address.
    host: &'a str,
    port: u16,
    /// Whether the connection is encrypted from its first byte on.
    wrapped: bool,
    login: Option<(&'a str, &'a str)>,
}

impl<'a> Server<'a> {
    /// Takes apart `smtp://USER@HOST:PORT` or `smtps://…`.
    pub(super) fn new(url: &'a str, password: Option<&'a str>) -> Result<Self, SendError> {
        let refuse = || SendError::Lasting("the address of the mail server is none".to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(refuse)?;
        let (user, place) = rest.rsplit_once('@').map_or(("", rest), |(user, place)| (user, place));
        let place = place.trim_end_matches('/');
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (place, None),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let wrapped = scheme == "smtps";
        let usual = match (wrapped, password) {
            (true, _) => 465,
            (false, Some(_)) => 587,
            (false, None) => 25,
        };
        let port = port.map_or(Ok(usual), |port| port.parse().map_err(|_| refuse()))?;
        let login = match (user, password) {
            (_, None) => None,
            ("", Some(_)) => {
                let text = "the mail server has a password and no user: write smtp://USER@HOST".to_owned();
                return Err(SendError::Lasting(text));
            }
            (user, Some(password)) => Some((user, password)),
        };
        if host.is_empty() { Err(refuse()) } else { Ok(Self { host, port, wrapped, login }) }
    }

    fn is_this_machine(&self) -> bool {
        let is_loopback = |address: IpAddr| address.is_loopback();
        self.host == "localhost" || self.host.parse().is_ok_and(is_loopback)
    }

    fn tls(&self) -> Result<Tls, Error> {
        let parameters = || TlsParameters::builder(self.host.to_owned());
        Ok(match self.login {
            _ if self.wrapped => Tls::Wrapper(parameters().build_rustls()?),
            _ if self.is_this_machine() => Tls::None,
            Some(_) => Tls::Required(parameters().build_rustls()?),
            None => Tls::Opportunistic(parameters().dangerous_accept_invalid_certs(true).build_rustls()?),
        })
    }
}

/// Sends all messages as one mail.
pub(super) fn send(
    server: &Server<'_>,
    from: Option<&str>,
    to: &[String],
    messages: &[Message],
    surroundings: &Surroundings<'_>,
) -> Result<(), SendError> {
    let mail = compose(from, to, messages, surroundings)?;
    let password = server.login.map(|(_, password)| password);
    let describe = |error: Error| {
        let status = error.status().map(|status| status.to_string());
        let text = format!("{}: {}", server.host, in_words(status.as_deref(), error.to_string(), password));
        if error.is_permanent() { SendError::Lasting(text) } else { SendError::Passing(text) }
    };
    let mut transport = SmtpTransport::builder_dangerous(server.host)
        .port(server.port)
        .timeout(Some(TIMEOUT))
        .tls(server.tls().map_err(describe)?);
    if surroundings.host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)) {
        transport = transport.hello_name(ClientId::Domain(surroundings.host.to_owned()));
    }
    if let Some((user, password)) = server.login {
        transport = transport.credentials(Credentials::new(user.to_owned(), password.to_owned()));
    }
    transport.build().send(&mail).map(drop).map_err(describe)
}

fn compose(
    from: Option<&str>,
    to: &[String],
    messages: &[Message],
    surroundings: &Surroundings<'_>,
) -> Result<Mail, SendError> {
    let address = |text: &str| {
        let parsed = text.parse::<Mailbox>();
        parsed.map_err(|_| SendError::Lasting(format!("{text:?} is no address of mail")))
    };
    let from = match from {
        Some(from) => address(from)?,
        // A host's name need not be one that mail knows.
        None => address(&format!("{}@{}", surroundings.user, surroundings.host))
            .or_else(|_| address("yester@localhost"))?,
    };
    let mut mail = Mail::builder().from(from).subject(mail_subject(messages)).header(ContentType::TEXT_PLAIN);
    for to in to {
        mail = mail.to(address(to)?);
    }
    mail.body(mail_text(messages, surroundings.zone))
        .map_err(|error| SendError::Lasting(format!("cannot compose a mail: {error}")))
}

/// Puts an error in words. What a server answers to a login may repeat it, and is left out.
fn in_words(status: Option<&str>, error: String, password: Option<&str>) -> String {
    // Of the answers to a login, which also say that it cannot be checked for now.
    let is_of_login = |status: &str| status.starts_with("53") || ["334", "432", "454"].contains(&status);
    let has_password = password.is_some_and(|password| !password.is_empty() && error.contains(password));
    match status {
        Some(status) if password.is_some() && is_of_login(status) || has_password => {
            format!("the server refused the login ({status})")
        }
        _ if has_password => "the server refused the login".to_owned(),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_the_ports_of_their_kind() {
        let place = |url, password| {
            let server = Server::new(url, password).unwrap();
            (server.host.to_owned(), server.port, server.login.is_some())
        };
        assert_eq!(place("smtp://mail", None), ("mail".into(), 25, false));
        assert_eq!(place("smtp://mail:587/", None), ("mail".into(), 587, false));
        assert_eq!(place("smtp://ops@acme.org@mail", Some("x")), ("mail".into(), 587, true));
        assert_eq!(place("smtps://ops@[::1]", Some("x")), ("::1".into(), 465, true));
        assert_eq!(place("smtp://[::1]:2525", None), ("::1".into(), 2525, false));
        for (url, password) in
            [("smtp://", None), ("mail", None), ("smtp://mail:x", None), ("smtp://mail", Some("x"))]
        {
            assert!(Server::new(url, password).is_err(), "{url}");
        }
    }

    #[test]
    fn what_a_server_says_to_a_login_is_left_out() {
        let words = |status, error: &str, password| in_words(status, error.to_owned(), password);
        for status in ["334", "432", "454", "530", "535", "538", "550"] {
            assert_eq!(
                words(Some(status), "permanent error: no hunter2", Some("hunter2")),
                format!("the server refused the login ({status})")
            );
        }
        assert_eq!(words(Some("454"), "its base64", Some("hunter2")), "the server refused the login (454)");
        assert_eq!(words(None, "no hunter2", Some("hunter2")), "the server refused the login");
        // Everything else is told as it is.
        for (status, password) in
            [(None, Some("hunter2")), (Some("550"), Some("hunter2")), (Some("454"), None)]
        {
            assert_eq!(words(status, "no such user", password), "no such user");
        }
    }

    #[test]
    fn a_password_is_never_sent_in_the_clear_to_another_machine() {
        let tls = |url, password| Server::new(url, password).unwrap().tls().unwrap();
        assert!(matches!(tls("smtp://u@mail", Some("x")), Tls::Required(_)));
        assert!(matches!(tls("smtps://u@mail", Some("x")), Tls::Wrapper(_)));
        assert!(matches!(tls("smtp://mail", None), Tls::Opportunistic(_)));
        assert!(matches!(tls("smtp://u@127.0.0.1", Some("x")), Tls::None));
        assert!(matches!(tls("smtp://localhost", None), Tls::None));
    }
}
