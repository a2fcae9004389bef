//! Whether new snapshots would push all older ones out: what somebody does who means harm, or a schedule gone wrong.

use jiff::{SignedDuration, Timestamp};

/// As many snapshots within the usual distance of two are a burst.
const BURST_MIN: usize = 3;
/// A burst takes no longer than this: where old snapshots were thinned out, longer distances say little of how often new
/// ones come. And a series that is no older has nothing old to push out: somebody is trying things out.
const BURST_MAX: SignedDuration = SignedDuration::from_hours(24);

/// A burst of new snapshots that alone would be left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    /// Snapshots that came at once.
    pub snapshots: usize,
    /// All of them are younger than the latest by less than this: the usual distance of two, or a day.
    pub within: SignedDuration,
}

/// Looks for a burst among the snapshots of a series, oldest first, each with whether it would be kept.
///
/// It is one if all that would be kept lie within the usual distance of two snapshots, or a day if that is shorter, if
/// there are at least three within that time, and if older ones would be forgotten. What is usual is what held for half
/// of the time: no number of snapshots that come at once changes it.
#[must_use]
pub fn find(snapshots: &[(Timestamp, bool)]) -> Option<Burst> {
    let ((oldest, _), (newest, _)) = (snapshots.first()?, snapshots.last()?);
    if newest.duration_since(*oldest) < BURST_MAX {
        return None;
    }
    let within = usual_distance(snapshots)?.min(BURST_MAX);
    let is_recent = |time: &Timestamp| newest.duration_since(*time) < within;
    let recent = snapshots.iter().filter(|(time, _)| is_recent(time)).count();
    let all_kept_are_recent = snapshots.iter().filter(|(_, kept)| *kept).all(|(time, _)| is_recent(time));
    let pushes_out = recent < snapshots.len() && all_kept_are_recent;
    (recent >= BURST_MIN && pushes_out).then_some(Burst { snapshots: recent, within })
}

/// Returns the distance of two snapshots that was in force for half of the time.
fn usual_distance(snapshots: &[(Timestamp, bool)]) -> Option<SignedDuration> {
    let distances = snapshots.windows(2).filter_map(|pair| match pair {
        [(before, _), (after, _)] => Some(after.duration_since(*before)),
        _ => None,
    });
    let mut distances: Vec<SignedDuration> = distances.collect();
    distances.sort_unstable_by_key(|distance| std::cmp::Reverse(*distance));
    let half = distances.iter().sum::<SignedDuration>() / 2;
    let mut covered = SignedDuration::ZERO;
    distances.into_iter().find(|distance| {
        covered += *distance;
        covered >= half
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    /// Makes a series from its times in seconds, of which the latest `kept` would be kept.
    fn series(times: impl IntoIterator<Item = i64>, kept: usize) -> Vec<(Timestamp, bool)> {
        let times: Vec<_> =
            times.into_iter().map(|seconds| Timestamp::from_second(seconds).unwrap()).collect();
        let first_kept = times.len() - kept;
        times.into_iter().enumerate().map(|(position, time)| (time, position >= first_kept)).collect()
    }

    fn daily(days: i64) -> impl Iterator<Item = i64> + Clone {
        (0..days).map(|day| day * DAY)
    }

    #[test]
    fn what_comes_as_it_always_did_is_none() {
        for kept in [1, 2, 3, 29] {
            assert_eq!(find(&series(daily(30), kept)), None, "{kept}");
        }
        assert_eq!(find(&series((0..500).map(|hour| hour * HOUR), 3)), None);
        // An afternoon of trying things out, at no regular times.
        assert_eq!(find(&series([0, 60, 420, 480, 500, 530], 1)), None);
        for few in 0..3 {
            assert_eq!(find(&series(daily(few), 1.min(usize::try_from(few).unwrap()))), None);
        }
    }

    #[test]
    fn many_at_once_do_not_push_out_the_others() {
        for count in [10, 1000] {
            let burst = (0..count).map(|minute| 30 * DAY + minute * 60);
            let found = find(&series(daily(30).chain(burst.clone()), 7)).unwrap();
            let snapshots = usize::try_from(count).unwrap();
            assert_eq!(found, Burst { snapshots, within: SignedDuration::from_secs(DAY) });
            // Where older ones stay, there is nothing to refuse.
            assert_eq!(find(&series(daily(30).chain(burst), snapshots + 1)), None);
        }
    }

    #[test]
    fn few_old_ones_do_not_make_new_ones_look_many() {
        // A year of months, a month of weeks and a week of days, of which only the days are to stay.
        let thinned = (0..12).map(|month| month * 30 * DAY).chain((0..4).map(|week| (360 + 7 * week) * DAY));
        let thinned = thinned.chain((0..7).map(|day| (388 + day) * DAY));
        assert_eq!(find(&series(thinned.clone(), 7)), None);
        let burst = (0..10).map(|minute| 395 * DAY + minute * 60);
        let found = find(&series(thinned.chain(burst), 7));
        assert_eq!(found, Some(Burst { snapshots: 10, within: SignedDuration::from_secs(DAY) }));
    }

    #[test]
    fn two_by_hand_on_one_day_are_a_burst_until_others_came() {
        let by_hand = [29 * DAY + HOUR, 29 * DAY + 2 * HOUR];
        assert!(find(&series(daily(30).chain(by_hand), 2)).is_some());
        assert_eq!(find(&series(daily(30).chain(by_hand), 4)), None);
        assert_eq!(find(&series(daily(30).chain(by_hand).chain([30 * DAY, 31 * DAY]), 2)), None);
    }
}
