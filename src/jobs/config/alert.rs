//! The alerts of a configuration: who is told what, and by which channel.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::reader::{Item, Section};
use super::rules::Severity;
use super::secret::{SecretPlace, Text};
use super::values;
use crate::human;

/// Somebody who is told.
#[derive(Debug, Clone)]
pub struct AlertConfig {
    /// Its name.
    pub name: String,
    /// How.
    pub channel: Channel,
    /// Of which severities.
    pub on: BTreeSet<Severity>,
    /// Whether it is told as well that something is over.
    pub recovered: bool,
    /// Told only if something still holds after so long.
    pub after: SignedDuration,
}

/// A way to tell somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// PagerDuty's Events API, version 2.
    PagerDuty {
        /// The integration key.
        key: SecretPlace,
        /// Another address than PagerDuty's own: a service that speaks the same.
        url: Option<String>,
    },
    /// Mail.
    Smtp {
        /// The server: `smtp://USER@HOST:PORT` or `smtps://…`.
        url: String,
        /// Who sends it; nothing means this user at this host.
        from: Option<String>,
        /// Who gets it; at least one.
        to: Vec<String>,
        /// The password of the user.
        password: Option<SecretPlace>,
    },
    /// A POST of JSON.
    Webhook {
        /// The address.
        url: Text,
        /// Sent as `Authorization: Bearer …`.
        token: Option<SecretPlace>,
    },
    /// A topic of ntfy.
    Ntfy {
        /// The address of the topic.
        url: Text,
        /// An access token.
        token: Option<SecretPlace>,
    },
    /// A dead man's switch that is told of every run, and complains by itself when none comes.
    Healthchecks {
        /// The address of the check.
        url: Text,
    },
    /// A command that reads JSON: the program and its arguments; at least the program.
    Command(Vec<String>),
}

impl AlertConfig {
    pub(super) fn read(name: &str, section: Section<'_>) -> Option<Self> {
        if let Err(why) = values::name(name) {
            section.report(why);
        }
        let channel = channel(&section);
        let mut on = BTreeSet::from([Severity::Critical, Severity::Warning]);
        let mut recovered = true;
        if let Some(item) = section.item("on") {
            on.clear();
            recovered = false;
            for item in item.list().unwrap_or_default() {
                match item.parse(word) {
                    Some(Some(severity)) => drop(on.insert(severity)),
                    Some(None) => recovered = true,
                    None => {}
                }
            }
        }
        let after = section.parse("after", human::parse_duration).unwrap_or_default();
        section.finish();
        Some(Self { name: name.to_owned(), channel: channel?, on, recovered, after })
    }
}

fn word(text: &str) -> Result<Option<Severity>, String> {
    match text {
        "recovered" => Ok(None),
        _ => text.parse().map(Some).map_err(|why: String| format!("{why}, or recovered")),
    }
}

fn channel(section: &Section<'_>) -> Option<Channel> {
    let names = ["pagerduty", "smtp", "webhook", "ntfy", "healthchecks", "command"];
    let given = names.map(|name| section.item(name));
    if given.iter().flatten().count() != 1 {
        section.report(
            "it says how somebody is told, by one of pagerduty, smtp, webhook, ntfy, healthchecks and command",
        );
        return None;
    }
    let secret = |name| section.item(name).and_then(|item| SecretPlace::read(&item));
    match given {
        [Some(item), ..] => pagerduty(&item),
        [_, Some(item), ..] => Some(Channel::Smtp {
            url: item.parse(smtp_url)?,
            from: section.parse("from", address),
            to: recipients(section),
            password: secret("password"),
        }),
        [_, _, Some(item), ..] => Some(Channel::Webhook { url: web(&item)?, token: secret("token") }),
        [_, _, _, Some(item), ..] => Some(Channel::Ntfy { url: web(&item)?, token: secret("token") }),
        [_, _, _, _, Some(item), _] => Some(Channel::Healthchecks { url: web(&item)? }),
        [.., item] => item?.texts().map(Channel::Command),
    }
}

/// Reads `{ key-file = "…" }`, or `{ key = { env = … } }`.
fn pagerduty(item: &Item<'_>) -> Option<Channel> {
    let section = item.section()?;
    let key = match (section.item("key-file"), section.item("key")) {
        (Some(file), None) => file.path().map(SecretPlace::File),
        (None, Some(key)) => SecretPlace::read(&key),
        _ => {
            item.report("it needs the integration key, as key-file = \"/etc/yester/pagerduty\"");
            None
        }
    };
    let url = section.item("url").and_then(|item| item.parse(web_url));
    section.finish();
    Some(Channel::PagerDuty { key: key?, url })
}

fn recipients(section: &Section<'_>) -> Vec<String> {
    let Some(item) = section.item("to") else {
        section.report("it needs to, a list of addresses");
        return Vec::new();
    };
    item.list().unwrap_or_default().iter().filter_map(|item| item.parse(address)).collect()
}

fn web(item: &Item<'_>) -> Option<Text> {
    match Text::read(item)? {
        Text::Plain(_) => item.parse(web_url).map(Text::Plain),
        secret @ Text::Secret(_) => Some(secret),
    }
}

fn web_url(text: &str) -> Result<String, String> {
    match text.split_once("://") {
        Some(("http" | "https", rest)) if !rest.is_empty() => Ok(text.to_owned()),
        _ => Err("it is an address that begins with https:// or http://".to_owned()),
    }
}

fn smtp_url(text: &str) -> Result<String, String> {
    match text.split_once("://") {
        Some(("smtp" | "smtps", rest))
            if rest.split('@').next_back().is_some_and(|host| !host.is_empty()) =>
        {
            let user = rest.rsplit_once('@').map_or("", |(user, _)| user);
            if user.contains(':') {
                return Err(
                    "a password does not belong here; say where it is by password = { file = … }".to_owned()
                );
            }
            Ok(text.to_owned())
        }
        _ => Err("it is the address of a server, such as smtp://mail:587 or smtps://USER@mail".to_owned()),
    }
}

fn address(text: &str) -> Result<String, String> {
    match text.rsplit_once('@') {
        Some((user, host)) if !user.is_empty() && !host.is_empty() && !text.contains(['\r', '\n']) => {
            Ok(text.to_owned())
        }
        _ => Err(format!("{text:?} is no address of mail")),
    }
}
