//! `yester forget`: forgets snapshots by policy or by name, and brings them back.

mod refusal;
mod report;
mod undo;

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

use super::context::Context;
use super::exit::{CommandError, ErrorKind};
use super::output;
use super::select::SnapshotFilter;
use crate::format::snapshot::Manifest;
use crate::human;
use crate::ops::forget::ForgetPlan;
use crate::ops::forget::policy::Policy;
use crate::repo::snapshots::Snapshot;
use crate::repo::{RepoError, Repository};
use report::Report;

/// Forget snapshots that are no longer needed
#[derive(Debug, Args)]
#[command(after_help = "\
The rules apply to each series (the snapshots of one source from one host) by itself. Each rule
keeps by itself, and what none keeps is forgotten: it is in no list and no mount any more, and
the first `yester gc` that runs a week later or more gives its space back. Until then --undo
brings it back, under a new id; `yester snapshots --forgotten` lists what can be brought back.

Days, weeks, months and years are those of the local time zone (TZ, else /etc/localtime). Those
that have no snapshot are not counted, and of the others the last snapshot is kept. Protected
snapshots are kept beside the rest. Suspicious ones are counted apart, and so are those of a
clock that is ahead: they push nothing out. The latest good snapshot of a series is always kept.

Where many snapshots came at once, so that the rules would keep these alone, nothing is forgotten
in any series: exit code 1. The same holds for SNAPs after which a series would have no good
snapshot. --force does it all the same. A SNAP that is forgotten already is named: exit code 0.

--configured applies the `keep` of each source to what this host backed up. A series that is
refused keeps no other from being thinned out: exit code 3.

Examples:
  yester forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run
  yester forget --source shop --keep-within 30d --keep-tag release
  yester forget 3fa92c11
  yester forget --undo 3fa92c11")]
pub(super) struct ForgetArgs {
    /// Forget these snapshots: the beginning of an id, a time, or the name in a mount
    #[arg(value_name = "SNAP", conflicts_with_all = ["rules", "source", "host", "tags"])]
    snapshots: Vec<String>,
    #[command(flatten)]
    filter: SnapshotFilter,
    #[command(flatten)]
    rules: Rules,
    /// Forget what the configuration does not keep in this store of its sources, or of --source
    #[arg(long, conflicts_with_all = ["snapshots", "rules", "host", "tags"])]
    configured: bool,
    /// Bring the SNAPs back
    #[arg(long, requires = "snapshots", conflicts_with_all = ["rules", "dry_run", "force"])]
    undo: bool,
    /// Show each snapshot with why it is kept or not, and forget nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Forget even if a burst of new snapshots pushes out all older ones, or no good one is left
    #[arg(long)]
    force: bool,
}

/// The rules of a policy.
#[derive(Debug, Args)]
#[group(id = "rules", multiple = true)]
struct Rules {
    /// Keep the latest N
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_last: u32,
    /// Keep the last of each of N hours
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_hourly: u32,
    /// Keep the last of each of N days
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_daily: u32,
    /// Keep the last of each of N weeks
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_weekly: u32,
    /// Keep the last of each of N months
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_monthly: u32,
    /// Keep the last of each of N years
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_yearly: u32,
    /// Keep all that are at most so much older than the latest, such as 30d or 1y6mo
    #[arg(long, value_name = "TIME", value_parser = human::parse_span)]
    keep_within: Option<Span>,
    /// Keep all that have this tag; may be repeated
    #[arg(long = "keep-tag", value_name = "TAG")]
    keep_tags: Vec<String>,
    /// Keep suspicious snapshots by these rules only while they are not older than that, such as 30d
    #[arg(long, value_name = "TIME", value_parser = human::parse_span, requires = "rules")]
    expire_suspicious: Option<Span>,
}

/// Forgets, or brings back.
pub(super) fn run(context: &Context, args: &ForgetArgs) -> Result<(), CommandError> {
    if args.undo {
        return undo::run(context, &args.snapshots);
    }
    let policy = args.rules.policy();
    if args.snapshots.is_empty() && policy.is_empty() && !args.configured {
        return Err(CommandError::usage("nothing says what to keep")
            .hint("give rules, such as --keep-daily 7 --keep-weekly 5, or the snapshots to forget"));
    }
    let repo = context.open()?;
    let all = repo.snapshots()?;
    let mut snapshots = all.clone();
    snapshots.retain(|snapshot| args.filter.matches(&snapshot.manifest));
    if snapshots.is_empty() && !all.is_empty() {
        context.tell(&format!("none of the {} snapshots here is of that source, host and tag", all.len()));
    }
    let zone = TimeZone::try_system();
    let now = Timestamp::now().to_zoned(zone.clone().unwrap_or(TimeZone::UTC));
    let mut forgotten_before = Vec::new();
    let mut plan = if args.snapshots.is_empty() {
        if let Err(error) = zone {
            tracing::warn!(
                "days are counted in UTC, since the local time zone is not known; set TZ, or install the package \
                 tzdata: {error}"
            );
        }
        if args.configured {
            let policies = context.policies(&context.location()?)?;
            by_policies(snapshots, &policies, &now)?
        } else {
            by_policy(snapshots, &policy, &now)?
        }
    } else {
        let named = named(&repo, &all, &args.snapshots)?;
        let ids: BTreeSet<_> = named.kept.iter().map(|snapshot| snapshot.manifest.id).collect();
        forgotten_before = named.forgotten;
        ForgetPlan::by_name(snapshots, &ids)
    };
    let mut refused = ForgetPlan::default();
    if args.configured && !args.force && !args.dry_run {
        // What is refused of one source is no matter to the others, which have policies of their own.
        refused = refusal::take(&mut plan);
    }
    let refusals = if args.force { Vec::new() } else { refusal::refusals(&plan) };
    if !args.dry_run {
        refusal::check(&refusals, ErrorKind::Failed, &["nothing was forgotten"])?;
        plan.execute(&repo)?;
    }
    let report = Report { plan: &plan, now: &now, forgotten_before: &forgotten_before, refusals: &refusals };
    if context.json() {
        output::print_json(&report.document(args.dry_run))?;
    } else if args.dry_run || context.verbose() {
        output::print(&report.tables())?;
    }
    let consequence = "this is why nothing would be forgotten without --dry-run, either";
    refusal::check(&refusals, ErrorKind::Failed, &[consequence])?;
    report.lines(args.dry_run).iter().for_each(|line| context.tell(line));
    refusal::check(&refusal::refusals(&refused), ErrorKind::Partial, &["all other series were thinned out"])
}

impl Rules {
    fn policy(&self) -> Policy {
        Policy {
            last: self.keep_last,
            hourly: self.keep_hourly,
            daily: self.keep_daily,
            weekly: self.keep_weekly,
            monthly: self.keep_monthly,
            yearly: self.keep_yearly,
            within: self.keep_within,
            tags: self.keep_tags.clone(),
            suspicious_within: self.expire_suspicious,
        }
    }
}

fn by_policy(snapshots: Vec<Snapshot>, policy: &Policy, now: &Zoned) -> Result<ForgetPlan, CommandError> {
    ForgetPlan::by_policy(snapshots, policy, now)
        .map_err(|error| CommandError::usage(format!("--keep-within: {error}")))
}

/// Applies the policies of series, by source and host.
fn by_policies(
    snapshots: Vec<Snapshot>,
    policies: &BTreeMap<(String, String), Policy>,
    now: &Zoned,
) -> Result<ForgetPlan, CommandError> {
    let policy = |manifest: &Manifest| policies.get(&(manifest.source.clone(), manifest.host.clone()));
    ForgetPlan::by_policies(snapshots, policy, now)
        .map_err(|error| CommandError::usage(format!("`within` of a `keep`: {error}")))
}

/// What names on the command line mean.
#[derive(Default)]
struct Named {
    /// Snapshots that are not forgotten yet.
    kept: Vec<Snapshot>,
    /// Those that are.
    forgotten: Vec<Snapshot>,
}

/// Finds the snapshots of these names, among all that are kept or forgotten.
fn named(repo: &Repository, all: &[Snapshot], names: &[String]) -> Result<Named, CommandError> {
    let mut named = Named::default();
    for name in names {
        match repo.find_among(all.to_vec(), name) {
            Ok(snapshot) if snapshot.marks.protected => {
                return Err(CommandError::message(
                    ErrorKind::Failed,
                    format!(
                        "snapshot {} is protected, and nothing was forgotten",
                        snapshot.manifest.id.short()
                    ),
                )
                .hint("`yester protect --end` ends that"));
            }
            Ok(snapshot) => named.kept.push(snapshot),
            Err(RepoError::ForgottenSnapshot { .. }) => named.forgotten.push(repo.find_forgotten(name)?),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(named)
}
