//! Which hosts write to a store with the full key: to them, hosts refer people that have another one.

use std::collections::BTreeSet;

use super::Repository;
use crate::crypto::secrets::WriterClass;
use crate::format::header::Header;
use crate::store::ObjectInfo;
use crate::store::key::{ObjectKey, Prefix};

/// Where hosts with the full key write, whatever they do.
const PREFIXES: [Prefix; 2] = [Prefix::Index, Prefix::Marks];
/// So many objects of each are looked at.
const LOOKED_AT: usize = 16;

impl Repository {
    /// Returns hosts that have written with the full key, as far as this one may read what says so.
    ///
    /// What headers claim is not checked, which takes the full key: fit for messages alone.
    #[must_use]
    pub fn full_key_hosts(&self) -> BTreeSet<String> {
        let mut keys: Vec<ObjectKey> = Vec::new();
        for prefix in PREFIXES {
            let most = keys.len() + LOOKED_AT;
            let visit = &mut |object: ObjectInfo| {
                if keys.len() < most {
                    keys.push(object.key);
                }
            };
            // Who may not list or read knows fewer names.
            let _ = self.store().list(prefix, visit);
        }
        let range = 0..Header::MAX_BYTES as u64;
        let headers = keys.iter().filter_map(|key| {
            let bytes = self.store().get_within(key, range.clone()).ok()?;
            Some(Header::decode(&bytes).ok()?.0)
        });
        headers
            .filter(|header| header.writer.class == WriterClass::Full)
            .map(|header| header.writer.host)
            .collect()
    }
}
