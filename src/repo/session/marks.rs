//! Signs of life of sessions, and tombstones: what others see of a session that has not committed.

use jiff::Timestamp;

use super::{RepoError, Repository, Shared};
use crate::crypto::secrets::{DomainKeys, Writer};
use crate::format::snapshot::{MARK_MAX_BYTES, SessionMark, SnapshotObject};
use crate::id::SessionId;
use crate::process::Process;
use crate::repo::get_small;
use crate::store::key::ObjectKey;
use crate::store::{Creation, ObjectStore, Payload, StoreErrorKind};

impl Shared {
    /// Creates `sessions/<sid>.<number>`, which shows that the session lives.
    pub(super) fn put_mark(&self, number: u32) -> Result<(), RepoError> {
        let mark = SessionMark {
            time: Timestamp::now(),
            source: self.options.source.clone(),
            process: Process::current(),
        };
        let key = ObjectKey::session(self.id, number);
        let bytes = mark
            .seal(self.id, number, &self.keys, &self.writer)
            .map_err(|source| RepoError::Encode { object: key.to_string(), source })?;
        self.store.create(&key, Payload::Bytes(&bytes))?;
        Ok(())
    }
}

/// Creates a tombstone where the snapshot of a session would lie, unless something is there: it can never commit.
pub(super) fn put_tombstone(
    store: &dyn ObjectStore,
    keys: &DomainKeys,
    writer: &Writer,
    session: SessionId,
) -> Result<Creation, RepoError> {
    let key = ObjectKey::snapshot(session);
    let bytes = SnapshotObject::Tombstone { time: Timestamp::now() }
        .seal(session, keys, writer)
        .map_err(|source| RepoError::Encode { object: key.to_string(), source })?;
    Ok(store.create(&key, Payload::Bytes(&bytes))?)
}

impl Repository {
    /// Takes from a session the right to commit, unless it has committed. Which of the two is there first stays.
    ///
    /// # Errors
    /// [`RepoError::Encode`] without the full keys, else any failure of the store.
    pub fn fence(&self, session: SessionId) -> Result<(), RepoError> {
        #[cfg(test)]
        if crate::repo::flaw::Flaw::LeavesNoTombstone.is_back() {
            return Ok(());
        }
        put_tombstone(self.store.as_ref(), &self.keys, &self.writer, session).map(|_| ())
    }

    /// Returns the number of the last mark of a session, looked for from `number` on, and what it says, if it opens.
    ///
    /// # Errors
    /// Fails if the store cannot be read.
    pub fn last_session_mark(
        &self,
        session: SessionId,
        mut number: u32,
    ) -> Result<(u32, Option<(Writer, SessionMark)>), RepoError> {
        let mut bytes = self.session_mark(session, number)?;
        while let Some(later) = self.session_mark(session, number.saturating_add(1))? {
            number += 1;
            bytes = Some(later);
        }
        let opened = bytes.and_then(|bytes| SessionMark::open(session, number, &self.keys, &bytes).ok());
        Ok((number, opened))
    }

    /// Returns the bytes of a mark, and none of one that is longer than any mark.
    fn session_mark(&self, session: SessionId, number: u32) -> Result<Option<Vec<u8>>, RepoError> {
        match get_small(self.store.as_ref(), &ObjectKey::session(session, number), None, MARK_MAX_BYTES) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(RepoError::Store(error)) if error.kind() == StoreErrorKind::NotFound => Ok(None),
            Err(RepoError::Damaged { .. }) => Ok(Some(Vec::new())),
            Err(error) => Err(error),
        }
    }
}
