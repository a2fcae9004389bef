//! Sending: each channel's way, a few tries of each message, and errors that hold no secret.

mod command;
mod http;
mod smtp;

use std::thread;
use std::time::Duration;

use serde_json::json;
use zeroize::Zeroizing;

use super::decide::Event;
use super::message::Message;
use super::{Delivery, Ping, Surroundings};
use crate::jobs::config::{AlertConfig, Channel, SecretPlace, Severity, Text};
use crate::jobs::secret;
use crate::progress::error_chain;

/// Where PagerDuty takes events.
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";
/// How long to wait before each further try. Whoever waits for a run waits for this, too.
const DELAYS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// No more than this of a summary is sent: services cut off what is longer.
const SUMMARY_MAX: usize = 10_000;

/// Why something was not sent. Never holds an address beyond its host, nor a secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// It may be sent the next time.
    #[error("{0}")]
    Passing(String),
    /// It will not be sent until somebody does something.
    #[error("{0}")]
    Lasting(String),
}

/// Sends messages by an alert, in their order, until one does not arrive.
pub(super) fn deliver(
    alert: &AlertConfig,
    messages: &[Message],
    surroundings: &Surroundings<'_>,
) -> Delivery {
    let mut delivered = 0;
    // Mail brings all of them at once.
    let at_once = if matches!(alert.channel, Channel::Smtp { .. }) { messages.len() } else { 1 };
    for some in messages.chunks(at_once.max(1)) {
        if let Err(error) = patiently(&DELAYS, || send(&alert.channel, some, surroundings)) {
            return Delivery { delivered, failure: Some(error.to_string()) };
        }
        delivered += some.len();
    }
    Delivery { delivered, failure: None }
}

/// Tells a dead man's switch of a run.
pub(super) fn ping(url: &Text, ping: Ping<'_>, surroundings: &Surroundings<'_>) -> Result<(), String> {
    let (segment, summary) = match ping {
        Ping::Start => ("/start", ""),
        Ping::Success(summary) => ("", summary),
        Ping::Failure(summary) => ("/fail", summary),
    };
    let send = || {
        let url = below(&text(url, surroundings)?, segment);
        http::post_text(&url, &shortened(summary), &[])
    };
    patiently(&DELAYS, send).map_err(|error| error.to_string())
}

fn send(channel: &Channel, messages: &[Message], surroundings: &Surroundings<'_>) -> Result<(), SendError> {
    let Some(message) = messages.first() else { return Ok(()) };
    let zone = surroundings.zone;
    match channel {
        Channel::PagerDuty { key, url } => {
            let mut event = message.pagerduty_event(zone);
            let key = read(key, surroundings)?;
            let url = url.as_deref().unwrap_or(PAGERDUTY);
            event["routing_key"] = json!(*key);
            http::post_json(url, &event, None)?;
            if message.event.is_none() {
                // What is only a test does not stay open.
                event["event_action"] = json!("resolve");
                http::post_json(url, &event, None)?;
            }
            Ok(())
        }
        Channel::Smtp { url, from, to, password } => {
            let password = password.as_ref().map(|place| read(place, surroundings)).transpose()?;
            let server = smtp::Server::new(url, password.as_deref().map(String::as_str))?;
            smtp::send(&server, from.as_deref(), to, messages, surroundings)
        }
        Channel::Webhook { url, token } => {
            let token = token.as_ref().map(|place| read(place, surroundings)).transpose()?;
            http::post_json(
                &text(url, surroundings)?,
                &message.document(zone),
                token.as_deref().map(String::as_str),
            )
        }
        Channel::Ntfy { url, token } => {
            let priority = match (message.event, message.severity) {
                (Some(Event::Began | Event::Graver), Severity::Critical) => "urgent",
                (Some(Event::Began | Event::Graver), Severity::Warning) => "high",
                _ => "default",
            };
            // Headers carry ASCII alone.
            let title: String = message
                .title()
                .chars()
                .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
                .collect();
            let mut headers = vec![("Title", title), ("Priority", priority.to_owned())];
            if let Some(place) = token {
                headers.push(("Authorization", format!("Bearer {}", *read(place, surroundings)?)));
            }
            http::post_text(&text(url, surroundings)?, &message.body(zone), &headers)
        }
        // Its log takes what changes nothing.
        Channel::Healthchecks { url } => {
            http::post_text(&below(&text(url, surroundings)?, "/log"), &message.body(zone), &[])
        }
        Channel::Command(argv) => command::run(argv, &message.document(zone)),
    }
}

/// Does something until it succeeds or is not worth trying again, waiting so long in between.
fn patiently(delays: &[Duration], mut act: impl FnMut() -> Result<(), SendError>) -> Result<(), SendError> {
    for delay in delays {
        match act() {
            Err(SendError::Passing(_)) => thread::sleep(*delay),
            ended => return ended,
        }
    }
    act()
}

fn read(place: &SecretPlace, surroundings: &Surroundings<'_>) -> Result<Zeroizing<String>, SendError> {
    secret::read(place, surroundings.environment).map_err(|error| SendError::Lasting(error_chain(&error)))
}

fn text(text: &Text, surroundings: &Surroundings<'_>) -> Result<Zeroizing<String>, SendError> {
    match text {
        Text::Plain(text) => Ok(Zeroizing::new(text.clone())),
        Text::Secret(place) => read(place, surroundings),
    }
}

/// Returns an address with one more segment at the end of its path.
fn below(url: &str, segment: &str) -> Zeroizing<String> {
    let (path, query) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
    let path = if segment.is_empty() { path } else { path.trim_end_matches('/') };
    Zeroizing::new(format!("{path}{segment}{query}"))
}

fn shortened(text: &str) -> String {
    text.chars().take(SUMMARY_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_come_before_the_query() {
        for (url, expected) in [
            ("https://h/uuid", "https://h/uuid/start"),
            ("https://h/uuid/", "https://h/uuid/start"),
            ("https://h/uuid?create=1", "https://h/uuid/start?create=1"),
        ] {
            assert_eq!(*below(url, "/start"), expected);
            assert_eq!(*below(url, ""), url);
        }
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        type Kind = fn(String) -> SendError;
        let tries = |errors: &[Kind]| {
            let mut count = 0;
            let ended = patiently(&[Duration::ZERO; 2], || {
                count += 1;
                errors.get(count - 1).map_or(Ok(()), |error| Err(error("x".into())))
            });
            (count, ended.is_ok())
        };
        let (passing, lasting): (Kind, Kind) = (SendError::Passing, SendError::Lasting);
        assert_eq!(tries(&[]), (1, true));
        assert_eq!(tries(&[passing, passing]), (3, true));
        assert_eq!(tries(&[passing, passing, passing]), (3, false));
        assert_eq!(tries(&[passing, lasting, passing]), (2, false));
    }
}
