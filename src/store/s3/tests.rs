//! The store against a server that answers as S3 does, and sometimes fails.

use super::*;

#[test]
fn replies_are_the_ranges_that_were_asked_for() {
    let check = |range: Range<u64>, rest, length, header| {
        check_range(&range, rest, length, header).map_err(|failure| failure.kind)
    };
    let (all, some) = (Rest::MustBeThere, Rest::MayBeMissing);
    assert_eq!(check(2..5, all, 3, Some("bytes 2-4/10")), Ok(()));
    assert_eq!(check(2..15, some, 8, Some("bytes 2-9/10")), Ok(()));
    assert_eq!(check(2..15, all, 8, Some("bytes 2-9/10")), Err(StoreErrorKind::Truncated));
    assert_eq!(check(12..15, some, 0, Some("bytes */10")), Err(StoreErrorKind::Truncated));
    assert_eq!(check(0..10, all, 10, None), Ok(()));
    for (range, length, header) in [
        (2..5, 2, Some("bytes 2-4/10")),
        (2..5, 10, None),
        (2..5, 3, None),
        (0..5, 10, None),
        (2..5, 3, Some("bytes 2-4/*")),
    ] {
        assert_eq!(check(range.clone(), all, length, header), Err(StoreErrorKind::Unavailable), "{range:?}");
    }
}
