//! What is taken for bulk.

use super::*;

/// What comes of turns at which so many bytes move each.
fn is_bulk_after(rush: &mut Rush, moved: &mut u64, turns: usize, bytes: u64) -> bool {
    (0..turns).any(|_| {
        *moved += bytes;
        rush.is_bulk(*moved)
    })
}

#[test]
fn large_pieces_are_bulk_and_short_messages_are_not() {
    let (mut rush, mut moved) = (Rush::default(), 0);
    assert!(!is_bulk_after(&mut rush, &mut moved, 10_000, LARGE - 1), "however much it is");
    // What came before is part of the first look.
    assert!(is_bulk_after(&mut rush, &mut moved, 400, LARGE));
    assert!(!is_bulk_after(&mut rush, &mut moved, 31, MUCH / 32));
    assert!(!rush.is_bulk(moved), "nothing has moved");
    assert!(is_bulk_after(&mut rush, &mut moved, 1, MUCH / 32));
}

#[test]
fn who_got_no_carrier_asks_again_after_a_while() {
    let (mut rush, mut moved) = (Rush::default(), 0);
    assert!(is_bulk_after(&mut rush, &mut moved, 32, MUCH / 32));
    rush.rest();
    let turns = (REST / LARGE) as usize;
    assert!(!is_bulk_after(&mut rush, &mut moved, turns, LARGE));
    // What moved meanwhile is no part of the look.
    let look = (MUCH / LARGE) as usize + 1;
    assert!(!is_bulk_after(&mut rush, &mut moved, look - 1, LARGE));
    assert!(is_bulk_after(&mut rush, &mut moved, 1, LARGE));
}
