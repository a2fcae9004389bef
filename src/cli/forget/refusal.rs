//! When `yester forget` had better ask: a burst of new snapshots, or the end of a series.

use crate::cli::exit::{CommandError, ErrorKind};
use crate::human;
use crate::ops::forget::burst::Burst;
use crate::ops::forget::{Decision, ForgetPlan, SeriesPlan};
use crate::path::escape;

/// Why nothing is forgotten unless somebody insists.
pub(super) struct Refusal<'a> {
    pub(super) series: &'a SeriesPlan,
    pub(super) cause: Cause,
}

/// What looks wrong in a series.
pub(super) enum Cause {
    /// New snapshots would push out all older ones.
    Burst(Burst),
    /// No good snapshot would be left.
    End,
}

impl Cause {
    /// Returns the word for it that programs read.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Burst(_) => "burst",
            Self::End => "end",
        }
    }
}

impl Refusal<'_> {
    fn describe(&self) -> String {
        let series = series_name(self.series);
        match self.cause {
            Cause::Burst(Burst { snapshots, within }) => format!(
                "{} of {series} came within {}, and the rules would keep none older",
                human::counted(snapshots as u64, "snapshot"),
                human::rough(within)
            ),
            Cause::End => format!("no good snapshot of {series} would be left"),
        }
    }
}

/// Returns the name of a series as people read it.
pub(super) fn series_name(series: &SeriesPlan) -> String {
    format!("{} from {}", series.source, escape(series.host.as_bytes()))
}

/// Looks for what is wrong in each series.
pub(super) fn refusals(plan: &ForgetPlan) -> Vec<Refusal<'_>> {
    let refusal = |series| Some(Refusal { series, cause: cause(series)? });
    plan.series.iter().filter_map(refusal).collect()
}

fn cause(series: &SeriesPlan) -> Option<Cause> {
    let is_good = |decision: &&Decision| decision.snapshot.may_be_latest();
    let good = series.decisions.iter().filter(is_good);
    let kept = series.decisions.iter().filter(|decision| decision.is_kept());
    let ends = match good.clone().count() {
        0 => kept.count() == 0,
        _ => kept.filter(is_good).count() == 0,
    };
    match series.burst {
        Some(burst) => Some(Cause::Burst(burst)),
        None => ends.then_some(Cause::End),
    }
}

/// Takes the series out of a plan in which something is wrong.
pub(super) fn take(plan: &mut ForgetPlan) -> ForgetPlan {
    let all = std::mem::take(&mut plan.series);
    let (refused, series) = all.into_iter().partition(|series| cause(series).is_some());
    plan.series = series;
    ForgetPlan { series: refused }
}

/// Fails if there is something to refuse, with hints that say what that means here.
pub(super) fn check(
    refusals: &[Refusal<'_>],
    kind: ErrorKind,
    consequences: &[&str],
) -> Result<(), CommandError> {
    let [first, others @ ..] = refusals else { return Ok(()) };
    Err(CommandError::message(kind, first.describe())
        .hints(others.iter().map(|other| format!("also, {}", other.describe())))
        .hints(consequences.iter().copied())
        .hint("look at `yester snapshots`, and give --force if that is as it should be"))
}
