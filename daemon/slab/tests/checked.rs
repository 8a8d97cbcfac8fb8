//! What comes from outside the process is a row that reads back completely,
//! or is refused.

mod common;

use common::{Fields, build, config, fields, range, read};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use ringmain_slab::{Budget, HEADER_BYTES, Malformed, RowRef, SLOT_BYTES, Scalar, Scratch, Slab};

fn slab() -> Slab {
    Slab::new(16 << 10, &Budget::new(1 << 20))
}

/// The image of an honest row.
fn image(slots: u16, fields: &Fields) -> Vec<u8> {
    let mut slab = slab();
    build(&mut slab, &mut Scratch::default(), slots, fields, 7).unwrap();
    slab.row(0).image().to_vec()
}

fn honest() -> impl Strategy<Value = (u16, Fields)> {
    prop_oneof![6 => 0u16..8, 1 => Just(64u16), 1 => Just(65u16)]
        .prop_flat_map(|slots| (Just(slots), fields(slots)))
}

/// One way to damage an image.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Byte(Index, u8),
    /// A slot or a part of one, by what is likely to hurt.
    Word(Index, u64),
    Truncate(Index),
    Splice(Index, Index, usize),
    Extend(Vec<u8>),
    /// One slot over another.
    CopySlot(Index, Index),
    /// The header's length made to fit again.
    FixLength,
}

fn damage() -> impl Strategy<Value = Damage> {
    let word = prop_oneof![
        any::<u64>(),
        0u64..512,
        Just(u64::MAX),
        Just(u64::MAX - 8),
        (0u64..10, 0u64..300).prop_map(|(tag, len)| tag | (len << 32)),
        (0u64..10).prop_map(|tag| tag | (0xFFFF_FFFF << 32)),
        (0u64..2048).prop_map(|eights| eights * 8),
    ];
    let at = any::<Index>;
    prop_oneof![
        1 => (at(), 0u8..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        1 => (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        3 => (at(), word).prop_map(|(at, word)| Damage::Word(at, word)),
        1 => at().prop_map(Damage::Truncate),
        1 => (at(), at(), 1usize..64).prop_map(|(from, to, len)| Damage::Splice(from, to, len)),
        1 => vec(any::<u8>(), 0..64).prop_map(Damage::Extend),
        2 => (at(), at()).prop_map(|(from, to)| Damage::CopySlot(from, to)),
        2 => Just(Damage::FixLength),
    ]
}

fn hurt(bytes: &mut Vec<u8>, damage: Damage) {
    if bytes.len() < HEADER_BYTES + SLOT_BYTES {
        return;
    }
    let words = bytes.len() / 8;
    let slots = (bytes.len() - HEADER_BYTES) / SLOT_BYTES;
    match damage {
        Damage::Flip(at, bit) => {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        Damage::Byte(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        Damage::Word(at, word) => {
            let at = at.index(words) * 8;
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        Damage::Truncate(at) => bytes.truncate(at.index(bytes.len() + 1)),
        Damage::Splice(from, to, len) => {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let len = len.min(bytes.len() - from.max(to));
            bytes.copy_within(from..from + len, to);
        }
        Damage::Extend(more) => bytes.extend(more),
        Damage::CopySlot(from, to) => {
            let at = |index: Index| HEADER_BYTES + index.index(slots) * SLOT_BYTES;
            bytes.copy_within(at(from)..at(from) + SLOT_BYTES, at(to));
        }
        Damage::FixLength => {
            bytes.truncate(bytes.len() & !7);
            let len = bytes.len() as u32;
            bytes[..4].copy_from_slice(&len.to_le_bytes());
        }
    }
}

/// Offers bytes; if they are a row, does to it all that is done to rows.
fn offer(bytes: &[u8]) -> Result<Fields, Malformed> {
    let mut slab = slab();
    let before = (slab.len(), slab.used());
    if let Err(malformed) = slab.push_checked(bytes) {
        assert_eq!((slab.len(), slab.used()), before);
        return Err(malformed);
    }
    let within = range(&mut slab);
    let fields = read(slab.row(0), &within);
    if !cfg!(miri) {
        let _ = format!("{:?}", slab.row(0));
    }
    assert!(slab.row(0).rest().is_none_or(|rest| rest.len() < bytes.len()));
    let named = |row: RowRef<'_>| (0..row.slots().min(64)).next_back();
    // Copied, edited, gathered into another slab, widened.
    let mut other = self::slab();
    assert_eq!(other.push_copy(slab.row(0)), Ok(()));
    if let Some(last) = named(slab.row(0)) {
        let mut row = slab.edit(0);
        row.set(last, Scalar::Str("a text that is not in the row")).unwrap();
        row.copy(last, 0).unwrap();
    }
    other.reserve(slab.row(0).image_bound()).unwrap();
    assert_eq!(other.push_copy(slab.row(0)), Ok(()));
    let within = range(&mut slab);
    let edited = read(slab.row(0), &within);
    let within = range(&mut other);
    assert_eq!(read(other.row(0), &within), fields);
    assert_eq!(read(other.row(1), &within), edited);
    if other.row(0).slots() < 64 {
        other.edit(0).set(63, Scalar::Int(1)).unwrap();
        other.edit(0).set(63, Scalar::Absent).unwrap();
        let within = range(&mut other);
        assert_eq!(read(other.row(0), &within), fields);
    }
    Ok(fields)
}

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn an_honest_image_is_accepted_and_means_the_same((slots, fields) in honest()) {
        prop_assert_eq!(offer(&image(slots, &fields)), Ok(fields));
    }

    #[test]
    fn a_damaged_image_is_refused_or_reads_back_completely(
        (slots, fields) in honest(),
        damages in vec(damage(), 1..6),
    ) {
        let mut bytes = image(slots, &fields);
        for damage in damages {
            hurt(&mut bytes, damage);
        }
        let _ = offer(&bytes);
    }

    #[test]
    fn any_bytes_are_refused_or_read_back_completely(
        slots in 0u16..6,
        body in vec(prop_oneof![any::<u64>(), 0u64..10, (0u64..40).prop_map(|n| n * 8)], 0..30),
    ) {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes.extend(body.iter().flat_map(|word| word.to_le_bytes()));
        let len = bytes.len() as u32;
        bytes[..4].copy_from_slice(&len.to_le_bytes());
        bytes[6..8].copy_from_slice(&slots.to_le_bytes());
        let _ = offer(&bytes);
        let _ = offer(&bytes[..bytes.len() / 2]);
        let _ = offer(&bytes[HEADER_BYTES..]);
    }
}

/// A row of `slots` equal slots and a variable part.
fn forged(slots: u16, slot: [u64; 2], variable: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    for _ in 0..slots {
        bytes.extend(slot.iter().flat_map(|word| word.to_le_bytes()));
    }
    bytes.extend_from_slice(variable);
    let len = bytes.len() as u32;
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    bytes[6..8].copy_from_slice(&slots.to_le_bytes());
    bytes
}

/// Copies of such a row were larger than what was reserved for them.
#[test]
fn values_that_share_bytes_are_refused() {
    let fixed = (HEADER_BYTES + 64 * SLOT_BYTES) as u64;
    let text = forged(64, [5 | (1000 << 32), fixed], &[b'x'; 1000]);
    assert_eq!(offer(&text), Err(Malformed::Bounds));
    let one = forged(1, [5 | (1000 << 32), 40], &[b'x'; 1000]);
    assert!(offer(&one).is_ok());
}

#[test]
fn trees_that_refer_to_themselves_are_refused() {
    // A list of one element, which is the list itself.
    let fixed = (HEADER_BYTES + SLOT_BYTES) as u64;
    let list: Vec<u8> = [8 | (1 << 32), fixed].iter().flat_map(|w: &u64| w.to_le_bytes()).collect();
    let bytes = forged(1, [8 | (1 << 32), fixed], &list);
    assert!(matches!(offer(&bytes), Err(Malformed::Tree | Malformed::Bounds)));
}

#[test]
fn bytes_that_find_no_room_are_not_called_malformed() {
    let mut slab = Slab::new(1024, &Budget::new(0));
    assert_eq!(slab.push_checked(&vec![0; 2000]), Err(Malformed::NoRoom));
}

/// Whoever sees a version beyond its schema asks for a newer one.
#[test]
fn a_version_that_no_schema_can_have_is_refused() {
    let mut bytes = forged(1, [3, 7], &[]);
    bytes[4..6].copy_from_slice(&64u16.to_le_bytes());
    assert!(offer(&bytes).is_ok());
    bytes[4..6].copy_from_slice(&65u16.to_le_bytes());
    assert_eq!(offer(&bytes), Err(Malformed::Header));
}
