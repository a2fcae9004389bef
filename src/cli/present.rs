//! What `yester run` ends with and `yester status` shows: how everything is now, who is told of it, and metrics.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use nix::unistd::{User, geteuid};

use super::context::Context;
use super::exit::{CommandError, ErrorKind};
use super::output;
use crate::jobs::alert::{self, AlertStats, Ping, Surroundings};
use crate::jobs::config::Config;
use crate::jobs::health::{Health, History, assess, disk_space};
use crate::jobs::metrics;
use crate::journal::{Journal, JournalError};
use crate::progress::error_chain;

/// An alert by its name, and why its test message did not arrive.
pub(super) type Tested = (String, Result<(), String>);

/// Here and now.
pub(super) struct Present<'a> {
    pub(super) config: &'a Config,
    pub(super) journal: &'a Journal,
    pub(super) zone: TimeZone,
    host: String,
    user: String,
}

impl<'a> Present<'a> {
    pub(super) fn new(context: &'a Context, journal: &'a Journal) -> Result<Self, CommandError> {
        let user = User::from_uid(geteuid()).ok().flatten().map(|user| user.name);
        Ok(Self {
            config: context.configuration()?,
            journal,
            zone: TimeZone::try_system().unwrap_or(TimeZone::UTC),
            host: context.configured_host()?,
            user: user.unwrap_or_else(|| "yester".to_owned()),
        })
    }

    /// Says how everything is.
    pub(super) fn assess(&self) -> Result<Health, CommandError> {
        let now = Timestamp::now();
        let history = History::read(self.journal, self.config, now, &disk_space)?;
        Ok(assess(self.config, &history, now, &self.zone))
    }

    /// Tells whoever is to be told of how everything is, and writes the metrics. What of that fails is said.
    pub(super) fn publish(&self) -> Result<(), CommandError> {
        let lock = self.journal.lock_notices()?;
        let health = self.assess()?;
        let stats = self.with_surroundings(|surroundings| {
            alert::evaluate(self.config, self.journal, &health, Timestamp::now(), surroundings, &lock)
        })?;
        tell_failures(&stats);
        if let Some(to) = &self.config.metrics
            && let Err(error) = metrics::write(to, &health, &self.host)
        {
            output::tell(&format!("warning: {}", error_chain(&error)));
        }
        Ok(())
    }

    /// Tells dead man's switches of a run.
    pub(super) fn ping(&self, ping: Ping<'_>) -> Result<(), CommandError> {
        let stats = self.with_surroundings(|surroundings| {
            alert::ping(self.config, self.journal, ping, Timestamp::now(), surroundings)
        })?;
        tell_failures(&stats);
        Ok(())
    }

    /// Sends a test message by every alert; returns what came of each.
    pub(super) fn test_alerts(&self) -> Result<Vec<Tested>, CommandError> {
        self.with_surroundings(|surroundings| Ok(alert::test(self.config, Timestamp::now(), surroundings)))
    }

    fn with_surroundings<T>(
        &self,
        act: impl FnOnce(&Surroundings<'_>) -> Result<T, JournalError>,
    ) -> Result<T, CommandError> {
        let environment = |name: &str| std::env::var_os(name);
        let (host, user, zone) = (&self.host, &self.user, &self.zone);
        Ok(act(&Surroundings { host, user, environment: &environment, zone })?)
    }
}

fn tell_failures(stats: &AlertStats) {
    for (alert, why) in &stats.failed {
        output::tell(&format!("warning: alert {alert} did not arrive: {why}"));
    }
}

impl From<JournalError> for CommandError {
    fn from(error: JournalError) -> Self {
        Self::new(ErrorKind::Failed, error)
    }
}
