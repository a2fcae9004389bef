//! The rules of sources: failures, age, duration, size, and how many of the last backups succeeded.

use jiff::{SignedDuration, Timestamp};

use super::ended::{duration, why};
use super::{Finding, NORMAL, Question, SourceHealth, ago, cause, clock, median};
use crate::human;
use crate::jobs::config::{Severity, SourceConfig};
use crate::journal::{Run, RunOutcome};

/// A backup is not slow as long as it takes no more than this longer than usual: seconds are noise.
const SLOWER_FLOOR: SignedDuration = SignedDuration::from_secs(10);
/// How many earlier backups it takes to call one slow.
const SLOWER_SAMPLES: usize = 5;
/// How many earlier backups it takes to call one small; and how many that are alike make a new normal.
const SHRUNK_SAMPLES: usize = 3;
/// A rate says something of so many runs.
const RATE_RUNS: usize = 5;
/// A single failure is told as such.
const RATE_FAILURES: usize = 2;

/// What the rules look at.
struct Subject<'a> {
    question: &'a Question<'a>,
    source: &'a SourceConfig,
    runs: &'a [Run],
    /// Newest first.
    ended: Vec<&'a Run>,
    /// Good runs, newest first.
    good: Vec<&'a Run>,
    last_good: Option<&'a Run>,
}

/// Holds the rules of a source against its past.
pub(super) fn assess(
    question: &Question<'_>,
    source: &SourceConfig,
    findings: &mut Vec<Finding>,
) -> SourceHealth {
    let history = question.history.sources.get(&source.name);
    let runs = history.map_or(&[][..], |history| &history.runs);
    let good: Vec<&Run> = runs.iter().filter(|run| run.outcome.is_good()).collect();
    let last_good = good.first().copied().or_else(|| history.and_then(|history| history.last_good.as_ref()));
    let subject = Subject {
        question,
        source,
        runs,
        ended: runs.iter().filter(|run| run.outcome != RunOutcome::Running).collect(),
        good,
        last_good,
    };
    let rules: [(&'static str, Option<(Severity, String)>); 7] = [
        ("failures", subject.failures()),
        ("max-age", subject.max_age()),
        ("success-rate", subject.success_rate()),
        ("shrunk", subject.shrunk()),
        ("partial", subject.partial()),
        ("max-duration", subject.max_duration()),
        ("slower", subject.slower()),
    ];
    let found = rules.into_iter().filter_map(|(rule, found)| {
        let (severity, text) = found?;
        Some(Finding { rule, subject: source.name.clone(), severity, text })
    });
    let found: Vec<Finding> = found.collect();
    let worst = found.iter().map(|finding| finding.severity).max();
    findings.extend(found);
    let recent = || subject.good.iter().take(NORMAL).rev();
    SourceHealth {
        name: source.name.clone(),
        store: source.store.clone(),
        worst,
        last_good: subject.last_good.cloned(),
        last_attempt: runs.first().cloned(),
        failures: subject.failures_in_a_row(),
        sizes: recent().map(|run| run.bytes).collect(),
        durations: recent().filter_map(|run| duration(run)).collect(),
        next: source.schedule.as_ref().and_then(|schedule| schedule.next_after(question.now, question.zone)),
    }
}

impl Subject<'_> {
    /// Returns the failures since the last good backup, newest first.
    fn failed(&self) -> impl Iterator<Item = &Run> {
        self.ended.iter().copied().take_while(|run| !run.outcome.is_good())
    }

    fn failures_in_a_row(&self) -> u32 {
        u32::try_from(self.failed().count()).unwrap_or(u32::MAX)
    }

    fn failures(&self) -> Option<(Severity, String)> {
        let count = self.failures_in_a_row();
        let (severity, _) = self.source.rules.failures.worst(|from| count >= *from)?;
        let (last, first) = (self.failed().next()?, self.failed().last()?);
        let zone = self.question.zone;
        let what = match count {
            1 => format!("The last backup failed at {}", clock(last.started, zone)),
            _ => format!(
                "{} backups in a row have failed, the first at {}, the last at {}",
                human::count(count.into()),
                clock(first.started, zone),
                clock(last.started, zone)
            ),
        };
        let name = &self.source.name;
        let why = why(last.outcome, cause(&last.message));
        let next = match (last.outcome, last.snapshot) {
            (RunOutcome::Suspicious, Some(snapshot)) => format!(
                "`yester run {name}` dumps again; if the dump is good after all, `yester accept {}` says so.",
                snapshot.short()
            ),
            _ => format!("`yester run {name}` tries again."),
        };
        Some((severity, format!("{what}: {why}. {next}")))
    }

    /// Counts from the end of the last good backup to now, or to the beginning of one that is running: one that takes
    /// long is not late because of that.
    fn max_age(&self) -> Option<(Severity, String)> {
        let Question { now, zone, .. } = *self.question;
        let since = self.good_until()?;
        let schedule = self.source.schedule.as_ref();
        let began = self.last_good.map_or(since, |run| run.started);
        let interval = schedule.and_then(|schedule| schedule.interval_at(began, zone));
        let running = self.runs.first().filter(|run| run.outcome == RunOutcome::Running);
        let age = running.map_or(now, |run| run.started.min(now)).duration_since(since);
        let (severity, _) = self.source.rules.max_age.worst(|limit| match interval {
            // Without a schedule nothing is late but what is as old as was said.
            None if limit.is_relative() => false,
            interval => age >= limit.within(interval.unwrap_or_default()),
        })?;
        let what = match self.last_good {
            Some(_) => {
                format!("There is no good backup since {} ({} ago)", clock(since, zone), ago(since, now))
            }
            None => {
                format!("There has been no good backup yet, {} after the first was expected", ago(since, now))
            }
        };
        let next = match self.failed().next() {
            Some(run) => format!("The last attempt failed: {}.", why(run.outcome, cause(&run.message))),
            None => "Nothing has run: `yester schedule show` says whether a timer is installed.".to_owned(),
        };
        Some((severity, format!("{what}. {next} `yester run {}` backs up now.", self.source.name)))
    }

    /// Returns up to when everything was well: the end of the last good backup, or when the first was to be expected.
    fn good_until(&self) -> Option<Timestamp> {
        if let Some(run) = self.last_good {
            return Some(run.finished.unwrap_or(run.started));
        }
        let first = self.ended.last().map(|run| run.started);
        first.into_iter().chain(self.question.history.configured).min()
    }

    fn success_rate(&self) -> Option<(Severity, String)> {
        let rules = &self.source.rules;
        let since = self.question.now.saturating_sub(rules.success_window).ok()?;
        let within: Vec<_> = self.ended.iter().filter(|run| run.started >= since).collect();
        let good = within.iter().filter(|run| run.outcome.is_good()).count();
        if within.len() < RATE_RUNS || within.len() - good < RATE_FAILURES {
            return None;
        }
        let percent = |part: usize, all: usize| part as u64 * 100 / all.max(1) as u64;
        let is_below = |limit: &u32| (good as u64) * 100 < u64::from(*limit) * within.len() as u64;
        let (severity, limit) = rules.success_rate.worst(is_below)?;
        let text = format!(
            "Only {good} of {} backups in {} succeeded: {}%, where {limit}% are expected. \
             `yester report` lists what failed.",
            within.len(),
            human::rough(rules.success_window),
            percent(good, within.len())
        );
        Some((severity, text))
    }

    /// A partial backup is a good one, as far as it goes; somebody should know what is missing.
    fn partial(&self) -> Option<(Severity, String)> {
        let severity = self.source.rules.partial?;
        let last = self.last_good.filter(|run| run.outcome == RunOutcome::Partial)?;
        let text = format!(
            "The backup of {} was done in part: {}. `yester run {}` tries again.",
            clock(last.started, self.question.zone),
            cause(&last.message),
            self.source.name
        );
        Some((severity, text))
    }

    /// Three that are alike are no accident, but what there is to back up now.
    fn shrunk(&self) -> Option<(Severity, String)> {
        let (last, before) = self.good.split_first()?;
        let before: Vec<u64> = before.iter().take(NORMAL).map(|run| run.bytes).collect();
        let normal = median(&before).filter(|_| before.len() >= SHRUNK_SAMPLES)?;
        let is_smaller = |bytes: u64, than: u64, percent: u32| {
            u128::from(bytes) * 100 <= u128::from(than) * u128::from(100_u32.saturating_sub(percent))
        };
        let newest: Vec<u64> = self.good.iter().take(SHRUNK_SAMPLES).map(|run| run.bytes).collect();
        let (smallest, largest) = (newest.iter().min()?, newest.iter().max()?);
        let (severity, _) = self.source.rules.shrunk.worst(|percent| {
            normal > 0
                && is_smaller(last.bytes, normal, *percent)
                && is_smaller(*smallest, *largest, *percent)
        })?;
        let zone = self.question.zone;
        let text = format!(
            "The backup of {} has {}, where {} are normal. Look whether something is missing in it: `yester ls {}`. \
             Three in a row of a like size become the new normal.",
            clock(last.started, zone),
            human::bytes(last.bytes),
            human::bytes(normal),
            last.snapshot.map_or_else(|| format!("latest:{}", self.source.name), |snapshot| snapshot.short()),
        );
        Some((severity, text))
    }

    /// A backup that is still running may be too long already.
    fn max_duration(&self) -> Option<(Severity, String)> {
        let last = self.runs.first()?;
        let is_running = last.outcome == RunOutcome::Running;
        let took = if is_running { self.question.now.duration_since(last.started) } else { duration(last)? };
        let (severity, limit) = self.source.rules.max_duration.worst(|limit| took >= *limit)?;
        let limit = human::rough(*limit);
        let text = if is_running {
            format!(
                "The backup has been running for {}, since {}; more than {limit} is unusual. \
                 `ps -ef | grep yester` shows what it does.",
                human::rough(took),
                clock(last.started, self.question.zone)
            )
        } else {
            format!(
                "The backup of {} took {}, more than {limit}. If that is as it should be, set max-duration \
                 in rules of source.{}.",
                clock(last.started, self.question.zone),
                human::rough(took),
                self.source.name
            )
        };
        Some((severity, text))
    }

    fn slower(&self) -> Option<(Severity, String)> {
        let (last, before) = self.good.split_first()?;
        let took = duration(last)?;
        let before: Vec<_> = before.iter().take(NORMAL).filter_map(|run| duration(run)).collect();
        let usual = median(&before).filter(|_| before.len() >= SLOWER_SAMPLES)?;
        let is_slower = |percent: &u32| {
            let limit = usual.as_millis().saturating_mul(i128::from(*percent) + 100) / 100;
            took.as_millis() >= limit && took - usual >= SLOWER_FLOOR
        };
        let (severity, _) = self.source.rules.slower.worst(is_slower)?;
        let text = format!(
            "The backup of {} took {}, where {} are usual. `yester report` shows how that came about.",
            clock(last.started, self.question.zone),
            human::rough(took),
            human::rough(usual)
        );
        Some((severity, text))
    }
}
