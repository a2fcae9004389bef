//! Caches of what was used lately.
//!
//! All are bounded and resist scans. What is new waits in one half of a cache and moves to the other when it is asked
//! for again: things that were read ahead, or that are larger than most, must still be there when their turn comes. What
//! weighs more than half a shard is not kept at all.

use std::hash::Hash;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

/// The part of a cache for what was asked for again. By itself `quick_cache` gives it 97 of 100, so that of eight
/// shards of 8 MiB each has room for 240 KiB of what is new.
const USED_AGAIN: f64 = 0.5;
/// A shard is to hold about so many typical things, and with them some that are much larger.
const SHARD_ITEMS: usize = 64;
/// Threads that meet in a cache are few.
const SHARDS_MAX: usize = 8;

/// Makes an empty cache for things that weigh at most `weight` together and typically `typical` each.
#[must_use]
pub fn cache<K, V, W>(weight: u64, typical: u64, weighter: W) -> Cache<K, V, W>
where
    K: Eq + Hash,
    V: Clone,
    W: Weighter<K, V> + Clone,
{
    let items = usize::try_from(weight / typical.max(1)).unwrap_or(usize::MAX).max(16);
    let options = OptionsBuilder::new()
        .weight_capacity(weight)
        .estimated_items_capacity(items)
        .hot_allocation(USED_AGAIN)
        .shards((items / SHARD_ITEMS).clamp(1, SHARDS_MAX))
        .build();
    options.map_or_else(
        // Nothing that `build` asks for is missing.
        |_| Cache::with_weighter(items, weight, weighter.clone()),
        |options| {
            Cache::with_options(
                options,
                weighter.clone(),
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            )
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Things that weigh what they say.
    #[derive(Clone)]
    struct ByValue;

    impl Weighter<u32, u64> for ByValue {
        fn weight(&self, _key: &u32, value: &u64) -> u64 {
            *value
        }
    }

    #[test]
    fn what_was_read_ahead_stays_for_who_will_ask_for_it() {
        let cache = cache(64 << 20, 256 << 10, ByValue);
        let in_use = 0..200;
        for key in in_use.clone() {
            cache.insert(key, 400 << 10);
            for _ in 0..3 {
                cache.get(&key);
            }
        }
        let ahead = 1000..1020;
        ahead.clone().for_each(|key| cache.insert(key, 400 << 10));
        assert_eq!(ahead.filter(|key| cache.get(key).is_some()).count(), 20);
        let kept = in_use.filter(|key| cache.get(key).is_some()).count();
        assert!(kept >= 60, "{kept} in use are still there");
        assert!(cache.weight() <= 64 << 20);
    }

    #[test]
    fn small_caches_keep_what_is_large_for_them() {
        let cache = cache(1 << 20, 256 << 10, ByValue);
        cache.insert(7, 400 << 10);
        assert!(cache.get(&7).is_some());
    }
}
