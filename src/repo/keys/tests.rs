//! Slots that come and go, and what is left where that ends halfway.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::*;
use crate::crypto::slot::FileKey;
use crate::repo::testing::TestStore;
use crate::store::fault::{Fault, FaultStore, Operation};
use crate::store::key::Prefix;
use crate::store::{ObjectStore, Payload, StoreErrorKind};

fn passphrase(text: &str) -> Credential {
    Credential::Passphrase(Zeroizing::new(text.to_owned()))
}

fn opens(test: &TestStore, credential: &Credential) -> bool {
    let domain = test.open().keys().domain();
    slots::unlock(test.store.as_ref(), domain, credential).is_ok()
}

fn kinds(repo: &Repository) -> Vec<Option<SlotKind>> {
    let mut kinds: Vec<_> = repo.key_slots().unwrap().into_iter().map(|slot| slot.kind).collect();
    kinds.sort_by_key(|kind| kind.map(SlotKind::name));
    kinds
}

fn used(repo: &Repository) -> SlotId {
    repo.key_slots().unwrap().into_iter().find(|slot| slot.in_use).unwrap().id
}

#[test]
fn a_new_passphrase_opens_the_store_until_it_is_removed() {
    let test = TestStore::new();
    let repo = test.open();
    let id = repo.add_key(SlotKind::Passphrase, &passphrase("second")).unwrap();
    assert!(opens(&test, &passphrase("second")) && !opens(&test, &passphrase("third")));
    let listed = repo.key_slots().unwrap();
    let slot = listed.iter().find(|slot| slot.id == id).unwrap();
    assert_eq!((slot.kind, slot.copies, slot.in_use), (Some(SlotKind::Passphrase), 2, false));
    let again = repo.add_key(SlotKind::Passphrase, &passphrase("second"));
    assert!(matches!(again, Err(KeyError::OpensAlready(found)) if found == id));
    repo.remove_key(id, InUse::Refuse).unwrap();
    assert!(!opens(&test, &passphrase("second")));
    assert_eq!(kinds(&repo), [Some(SlotKind::KeyFile), Some(SlotKind::Recovery)]);
    assert!(matches!(repo.remove_key(id, InUse::Allow), Err(KeyError::NoSlot(_))));
}

#[test]
fn the_last_key_stays_and_so_does_the_one_in_use() {
    let test = TestStore::new();
    let repo = test.open();
    let first = used(&repo);
    for in_use in [InUse::Refuse, InUse::Allow] {
        assert!(matches!(repo.remove_key(first, in_use), Err(KeyError::Last(_))));
    }
    let key = Credential::FileKey(FileKey::random().unwrap());
    let second = repo.add_key(SlotKind::KeyFile, &key).unwrap();
    assert!(matches!(repo.remove_key(first, InUse::Refuse), Err(KeyError::InUse(_))));
    let recovery = repo.key_slots().unwrap().into_iter().find(|slot| slot.kind == Some(SlotKind::Recovery));
    repo.remove_key(recovery.unwrap().id, InUse::Refuse).unwrap();
    repo.remove_key(first, InUse::Allow).unwrap();
    assert!(matches!(repo.remove_key(second, InUse::Allow), Err(KeyError::Last(_))));
    assert!(slots::unlock(test.store.as_ref(), repo.keys().domain(), &key).is_ok());
}

#[test]
fn a_rotation_leaves_nothing_that_the_old_passphrase_opens() {
    let test = TestStore::new();
    let repo = test.open();
    let first = repo.add_key(SlotKind::Passphrase, &passphrase("old")).unwrap();
    // A second slot of the same passphrase, as two hosts that add it at once make it.
    let root = repo.keys().root().unwrap();
    let wrapped = WrappedRoot::wrap(root, repo.keys().domain(), &passphrase("old"), Argon2Params::DEFAULT);
    let twin =
        slots::create(test.store.as_ref(), repo.keys().domain(), SlotKind::Passphrase, wrapped.unwrap());
    let same = repo.rotate_key(&passphrase("old"), SlotKind::Passphrase, &passphrase("old"));
    assert!(matches!(same, Err(KeyError::OpensAlready(_))));
    let (added, mut removed) =
        repo.rotate_key(&passphrase("old"), SlotKind::Passphrase, &passphrase("new")).unwrap();
    removed.sort_unstable();
    let mut expected = [first, twin.unwrap()];
    expected.sort_unstable();
    assert_eq!(removed, expected);
    assert!(opens(&test, &passphrase("new")) && !opens(&test, &passphrase("old")));
    assert!(repo.key_slots().unwrap().iter().any(|slot| slot.id == added));
}

/// Each operation fails once, before or after it was carried out: something still opens the store each time, and where
/// the rotation says that it went on, that is the new key.
#[test]
fn whatever_ends_a_rotation_something_still_opens() {
    for operation in [Operation::Create, Operation::Get, Operation::Size, Operation::List, Operation::Delete]
    {
        for number in 0..4 {
            for fault in [Fault::Fail, Fault::FailAfter] {
                let test = TestStore::new();
                // To derive keys from passphrases would take most of a minute.
                let [old, new] = [(); 2].map(|()| Credential::FileKey(FileKey::random().unwrap()));
                test.open().add_key(SlotKind::KeyFile, &old).unwrap();
                let faulty = Arc::new(FaultStore::new(test.store.clone()));
                let repo = test.open_through(Arc::clone(&faulty) as Arc<dyn ObjectStore>);
                let before = faulty.count(operation);
                faulty.script(move |call| {
                    let hit = call.operation == operation && call.earlier == before + number;
                    hit.then(|| fault(StoreErrorKind::Unavailable))
                });
                let what = format!("{operation:?} {number}");
                match repo.rotate_key(&old, SlotKind::KeyFile, &new) {
                    Ok(_) => assert!(opens(&test, &new) && !opens(&test, &old), "{what}"),
                    Err(KeyError::OldStays { .. }) => assert!(opens(&test, &new), "{what}"),
                    Err(_) => assert!(opens(&test, &old), "{what}"),
                }
            }
        }
    }
}

#[test]
fn a_slot_that_lost_a_copy_still_opens_and_says_so() {
    let test = TestStore::new();
    let repo = test.open();
    let id = repo.add_key(SlotKind::Passphrase, &passphrase("second")).unwrap();
    test.store.delete(&ObjectKey::key_slot(id, 0)).unwrap();
    assert!(opens(&test, &passphrase("second")));
    let copies = |repo: &Repository| {
        let listed = repo.key_slots().unwrap();
        listed.into_iter().find(|slot| slot.id == id).map(|slot| (slot.kind, slot.copies))
    };
    assert_eq!(copies(&repo), Some((Some(SlotKind::Passphrase), 1)));
    test.store.delete(&ObjectKey::key_slot(id, 1)).unwrap();
    test.store.create(&ObjectKey::key_slot(id, 1), Payload::Bytes(b"rubbish")).unwrap();
    assert_eq!(copies(&repo), Some((None, 0)));
    repo.remove_key(id, InUse::Refuse).unwrap();
    assert_eq!(copies(&repo), None);
}

#[test]
fn there_are_never_more_slots_than_a_reader_looks_at() {
    let test = TestStore::new();
    let repo = test.open();
    for number in 2..64_u8 {
        let id = SlotId::from_bytes([number; 8]);
        test.store.create(&ObjectKey::key_slot(id, 0), Payload::Bytes(b"rubbish")).unwrap();
    }
    let key = Credential::FileKey(FileKey::random().unwrap());
    assert!(matches!(repo.add_key(SlotKind::KeyFile, &key), Err(KeyError::TooMany)));
    test.store.delete(&ObjectKey::key_slot(SlotId::from_bytes([2; 8]), 0)).unwrap();
    repo.add_key(SlotKind::KeyFile, &key).unwrap();
    let mut objects = 0;
    test.store.list(Prefix::Keys, &mut |_| objects += 1).unwrap();
    assert_eq!(objects, 61 + 2 * 3);
}
