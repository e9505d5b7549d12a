//! The latch of the page, searched over interleavings and over the stale values that the memory model allows:
//! `RUSTFLAGS="--cfg loom" cargo test -p truebound-client --features publish --test loom --release`.
#![cfg(loom)]

use std::collections::BTreeSet;
use std::sync::Mutex;

use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::thread;
use truebound_client::page::{Page, Publication, UtcOffset};
use truebound_client::{Bound, Reason, Status};

/// Header and two slots: the least that `Page::new` accepts.
const WORDS: usize = 192;

/// Publication number `n` says `n` in every word that is looked at.
fn publication(n: u64) -> Publication {
    Publication {
        status: if n.is_multiple_of(2) { Status::Locked } else { Status::Holdover },
        reason: Reason::Majority,
        epoch: n,
        bound: Bound { t_ref_ns: n.cast_signed(), ..Bound::default() },
        utc: UtcOffset { offset_s: 37, after_s: 37, change_at_ns: i64::MAX },
        ..Publication::default()
    }
}

fn page(words: &[AtomicU64]) -> Page<'_> {
    Page::new(words).expect("enough words")
}

fn publish(words: &[AtomicU64], numbers: std::ops::RangeInclusive<u64>) {
    numbers.for_each(|n| page(words).model_publish(n, &publication(n)));
}

/// Which publication a read gave; panics if it is a mixture.
fn read(words: &[AtomicU64]) -> Option<u64> {
    let (status, epoch, bound) = page(words).model_read()?;
    let published = publication(epoch);
    assert_eq!((status, bound), (published.status, published.bound), "a mixture");
    Some(epoch)
}

/// `before` publications exist when the reader starts, `during` follow while it makes `reads` tries. A search that
/// missed the interleavings proves nothing, so every publication, and a refused try, must have been seen.
fn check(before: u64, during: u64, reads: u32) {
    let seen = std::sync::Arc::new(Mutex::new(BTreeSet::new()));
    let note = std::sync::Arc::clone(&seen);
    loom::model(move || {
        let words: Arc<Vec<AtomicU64>> = Arc::new((0..WORDS).map(|_| AtomicU64::new(0)).collect());
        publish(&words, 1..=before);
        let theirs = Arc::clone(&words);
        let writer = thread::spawn(move || publish(&theirs, before + 1..=before + during));
        let mut newest = before;
        for _ in 0..reads {
            let epoch = read(&words);
            note.lock().expect("no panic while it is held").insert(epoch);
            if let Some(epoch) = epoch {
                assert!((newest..=before + during).contains(&epoch), "{newest} then {epoch}");
                newest = epoch;
            }
        }
        writer.join().expect("the writer does not panic");
        assert_eq!(read(&words), Some(before + during), "nothing is lost");
    });
    let expected: BTreeSet<_> = std::iter::once(None).chain((before.max(1)..=before + during).map(Some)).collect();
    assert_eq!(*seen.lock().expect("no panic while it is held"), expected, "the search was not wide enough");
}

#[test]
fn the_first_publication_is_seen_whole_or_not_at_all() {
    check(0, 1, 2);
}

#[test]
fn a_slot_that_is_written_again_during_the_copy_is_refused() {
    check(1, 2, 1);
}

#[test]
fn three_publications_during_one_read() {
    check(0, 3, 1);
}

#[test]
fn reads_never_go_back() {
    check(1, 2, 2);
}
