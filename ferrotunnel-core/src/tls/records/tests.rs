//! Records without sockets: what a peer with the right keys may get wrong, and what anybody else may
//! do to them on the way.

use std::io::IoSlice;

use bytes::{BufMut, BytesMut};
use rustls::{AlertDescription, ContentType};

use super::super::fault::Fault;
use super::super::outbox::Outbox;
use super::super::tests::{configs, ours, seed};
use super::Records;

/// Both ends of an established connection: client, server.
async fn pair() -> (Records, Records) {
    let (client, server) = configs();
    let (near, far) = ours(&client, &server).await;
    // The server's ticket comes first.
    let ((mut near, _), (far, ticket)) = (near.stream.into_parts(), far.stream.into_parts());
    assert_eq!(near.open(&mut BytesMut::from(ticket.unsent())), Ok(None));
    (near, far)
}

/// What `message` of `kind` looks like on the way from `records`.
fn sealed(records: &mut Records, kind: ContentType, message: &[u8]) -> BytesMut {
    let mut outbox = Outbox::default();
    records.sealer.seal_message(kind, message, &mut outbox).unwrap();
    BytesMut::from(outbox.unsent())
}

fn sealed_data(records: &mut Records, words: &[&[u8]]) -> BytesMut {
    let mut outbox = Outbox::default();
    let mut slices: Vec<_> = words.iter().map(|words| IoSlice::new(words)).collect();
    let mut slices = &mut slices[..];
    while slices.iter().any(|slice| !slice.is_empty()) {
        let taken = records.seal(slices, &mut outbox).unwrap();
        IoSlice::advance_slices(&mut slices, taken);
    }
    BytesMut::from(outbox.unsent())
}

fn opened(records: &mut Records, input: &mut BytesMut) -> Result<Vec<u8>, Fault> {
    let mut words = Vec::new();
    while let Some(piece) = records.open(input)? {
        words.put(piece);
    }
    Ok(words)
}

const PADDING: ContentType = ContentType::Unknown(0);

#[tokio::test]
async fn what_is_sealed_from_pieces_opens_whole_in_whatever_chops() {
    let (mut near, mut far) = pair().await;
    let words: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
    let (a, rest) = words.split_at(8);
    let (b, rest) = rest.split_at(65_535);
    let (c, rest) = rest.split_at(1);
    let wire = sealed_data(&mut near, &[a, b, &[], c, rest]);
    assert!(wire.len() <= words.len() + 20 * 22, "{}", wire.len());
    for chop in [1, 5, 1000, 16_406, 70_000] {
        let mut wire =
            if chop == 1 { wire.clone() } else { sealed_data(&mut near, &[a, b, c, rest]) };
        let (mut input, mut heard) = (BytesMut::new(), Vec::new());
        while !wire.is_empty() {
            input.put(wire.split_to(wire.len().min(chop)));
            heard.extend(opened(&mut far, &mut input).unwrap());
        }
        assert!(heard == words);
    }
}

#[tokio::test]
async fn padding_is_stripped() {
    let (mut near, mut far) = pair().await;
    let data: u8 = ContentType::ApplicationData.into();
    let mut wire = sealed(&mut near, PADDING, &[b'a', b'b', 0, data, 0, 0, 0]);
    assert_eq!(opened(&mut far, &mut wire), Ok(b"ab\0".to_vec()));
    // Nothing but padding has no type.
    let mut wire = sealed(&mut near, PADDING, &[0; 100]);
    assert_eq!(opened(&mut far, &mut wire), Err(Fault::UnexpectedMessage));
}

#[tokio::test]
async fn what_may_not_come_is_fatal() {
    let goodbye = AlertDescription::CloseNotify.into();
    let cases: &[(ContentType, &[u8], Fault)] = &[
        (ContentType::ChangeCipherSpec, &[1], Fault::UnexpectedMessage),
        (ContentType::Heartbeat, &[1], Fault::UnexpectedMessage),
        (ContentType::Handshake, &[], Fault::UnexpectedMessage),
        (ContentType::Alert, &[], Fault::Malformed),
        (ContentType::Alert, &[2], Fault::Malformed),
        (ContentType::Alert, &[1, goodbye, 1, goodbye], Fault::Malformed),
        (ContentType::Alert, &[2, 80], Fault::Alert(AlertDescription::InternalError)),
        // A hello, long after it was due.
        (ContentType::Handshake, &[1, 0, 0, 0], Fault::UnexpectedMessage),
        // A ticket from a client.
        (ContentType::Handshake, &[4, 0, 0, 1, 0], Fault::UnexpectedMessage),
        (ContentType::Handshake, &[24, 0, 0, 1, 2], Fault::Malformed),
        (ContentType::Handshake, &[24, 0, 0, 2, 0, 0], Fault::Malformed),
        // Something behind a key update would be under the old key.
        (ContentType::Handshake, &[24, 0, 0, 1, 0, 24], Fault::UnexpectedMessage),
    ];
    for (kind, message, fault) in cases {
        let (mut near, mut far) = pair().await;
        let mut wire = sealed_data(&mut near, &[b"before"]);
        wire.put(sealed(&mut near, *kind, message));
        wire.put(sealed_data(&mut near, &[b"behind"]));
        assert_eq!(far.open(&mut wire).unwrap().unwrap(), "before");
        for _ in 0..3 {
            assert_eq!(far.open(&mut wire), Err(fault.clone()), "{kind:?} {message:?}");
        }
    }
}

#[tokio::test]
async fn headers_that_cannot_be_are_fatal_before_their_bodies_come() {
    for (header, fault) in [
        ([20, 3, 3, 0, 1], Fault::UnexpectedMessage),
        ([21, 3, 3, 0, 2], Fault::UnexpectedMessage),
        ([22, 3, 3, 0, 40], Fault::UnexpectedMessage),
        ([23, 3, 3, 0x41, 1], Fault::RecordOverflow),
        ([23, 3, 3, 0, 16], Fault::BadRecordMac),
    ] {
        let (_, mut far) = pair().await;
        assert_eq!(far.open(&mut BytesMut::from(&header[..])), Err(fault), "{header:?}");
    }
    let (mut near, mut far) = pair().await;
    // The length may be, but not that of the content.
    let mut wire = sealed(&mut near, ContentType::ApplicationData, &[7; (1 << 14) + 1]);
    assert_eq!(opened(&mut far, &mut wire), Err(Fault::RecordOverflow));
}

#[tokio::test]
async fn a_goodbye_is_the_end_whatever_follows() {
    let (mut near, mut far) = pair().await;
    let mut outbox = Outbox::default();
    near.seal(&[IoSlice::new(b"words")], &mut outbox).unwrap();
    near.sealer.seal_message(ContentType::Alert, &[1, 90], &mut outbox).unwrap();
    near.seal_alert(AlertDescription::CloseNotify, &mut outbox).unwrap();
    let mut wire = BytesMut::from(outbox.unsent());
    wire.put(&[9; 100][..]);
    assert_eq!(opened(&mut far, &mut wire), Ok(b"words".to_vec()));
    assert!(far.is_ended() && !far.is_broken());
}

#[tokio::test]
async fn records_without_data_are_bounded_in_a_row() {
    for (kind, message) in [
        (ContentType::ApplicationData, &[][..]),
        (ContentType::Alert, &[1, 90]),
        (ContentType::Handshake, &[24, 0, 0, 1, 1]),
    ] {
        let (mut near, mut far) = pair().await;
        let quiet = |near: &mut Records| {
            let wire = sealed(near, kind, message);
            if kind == ContentType::Handshake {
                let key = near.secrets.next_sealing().unwrap();
                near.sealer.rekey(key);
            }
            wire
        };
        for _ in 0..3 {
            let mut wire = BytesMut::new();
            for _ in 0..super::MOST_QUIET {
                wire.put(quiet(&mut near));
            }
            wire.put(sealed_data(&mut near, &[b"data"]));
            assert_eq!(opened(&mut far, &mut wire), Ok(b"data".to_vec()));
        }
        // One answer is owed, however many were asked for.
        let mut answer = sealed_data(&mut far, &[b"answer"]);
        assert_eq!(answer.len(), if kind == ContentType::Handshake { 27 + 28 } else { 28 });
        assert_eq!(opened(&mut near, &mut answer), Ok(b"answer".to_vec()));
        let mut wire = BytesMut::new();
        for _ in 0..=super::MOST_QUIET {
            wire.put(quiet(&mut near));
        }
        assert_eq!(opened(&mut far, &mut wire), Err(Fault::UnexpectedMessage));
    }
}

#[tokio::test]
async fn messages_may_come_in_parts_but_not_between_others_nor_for_ever() {
    let (mut near, mut far) = pair().await;
    let mut wire = sealed(&mut near, ContentType::Handshake, &[24, 0]);
    wire.put(sealed(&mut near, ContentType::Handshake, &[0, 1, 0]));
    assert_eq!(far.open(&mut wire), Ok(None));
    let key = near.secrets.next_sealing().unwrap();
    near.sealer.rekey(key);
    let mut wire = sealed_data(&mut near, &[b"under the new key"]);
    assert_eq!(opened(&mut far, &mut wire), Ok(b"under the new key".to_vec()));

    let mut wire = sealed(&mut near, ContentType::Handshake, &[24, 0]);
    wire.put(sealed_data(&mut near, &[b"between"]));
    assert_eq!(far.open(&mut wire), Err(Fault::UnexpectedMessage));

    let (mut near, mut far) = pair().await;
    let mut wire = sealed(&mut far, ContentType::Handshake, &[4, 0xff, 0xff, 0xff]);
    for _ in 0..2 {
        wire.put(sealed(&mut far, ContentType::Handshake, &[0; 16_000]));
    }
    assert_eq!(near.open(&mut wire), Err(Fault::Malformed));
}

#[tokio::test]
async fn keys_are_replaced_before_they_are_worn_out() {
    let (mut near, mut far) = pair().await;
    near.limit_keys(2);
    let words = vec![7; 10 << 14];
    let mut wire = sealed_data(&mut near, &[&words]);
    // Each key seals two records; the update that ends its time is a third.
    assert_eq!(wire.len(), words.len() + 10 * 22 + 4 * 27);
    assert!(opened(&mut far, &mut wire).unwrap() == words);
}

/// Whatever is done to records on the way, nothing comes out that was not sent, in that order.
#[tokio::test]
async fn mutated_records_never_yield_what_was_not_sent() {
    let mut random = Random(seed() | 1);
    let (client, server) = configs();
    for _ in 0..300 {
        let (near, far) = ours(&client, &server).await;
        let ((mut near, _), (mut far, _)) = (near.stream.into_parts(), far.stream.into_parts());
        near.limit_keys(1 + random.below(6) as u64);
        let mut sent = Vec::new();
        let mut wire = Vec::new();
        for _ in 0..1 + random.below(6) {
            let words: Vec<u8> = (0..1 + random.below(20_000)).map(|_| random.byte()).collect();
            wire.extend_from_slice(&sealed_data(&mut near, &[&words]));
            sent.extend(words);
        }
        for _ in 0..random.below(4) {
            random.mutate(&mut wire);
        }
        let (mut input, mut heard) = (BytesMut::new(), Vec::new());
        let mut wire = &wire[..];
        'opening: while !wire.is_empty() {
            let (now, later) = wire.split_at(wire.len().min(1 + random.below(30_000)));
            input.extend_from_slice(now);
            wire = later;
            loop {
                match far.open(&mut input) {
                    Ok(Some(piece)) => heard.extend_from_slice(&piece),
                    Ok(None) => break,
                    Err(_) => {
                        assert!(far.open(&mut input).is_err());
                        break 'opening;
                    }
                }
            }
        }
        assert!(sent.starts_with(&heard), "{} bytes of {}", heard.len(), sent.len());
    }
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 11) as usize % end
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 32) as u8
    }

    fn mutate(&mut self, wire: &mut Vec<u8>) {
        // Less than a header may be left of it.
        if wire.len() < 5 {
            return;
        }
        let at = self.below(wire.len());
        let until = at + self.below((wire.len() - at).min(20_000)) + 1;
        match self.below(6) {
            0 => wire[at] ^= 1 << self.below(8),
            1 => wire[at] = self.byte(),
            2 => wire.truncate(at),
            3 => drop(wire.drain(at..until)),
            4 => {
                // Records twice, as far as it hits their borders.
                let again = wire[at..until].to_vec();
                wire.splice(at..at, again);
            }
            _ => {
                let record = 5 + usize::from(u16::from_be_bytes([wire[3], wire[4]]));
                let record = wire[..record.min(wire.len())].to_vec();
                wire.splice(0..0, record);
            }
        }
    }
}
