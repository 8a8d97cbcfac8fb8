//! The format under every kind of damage, and rows in other schemas.

use std::fs;
use std::path::PathBuf;

use ringmain_slab::{Budget, RowRef, Scalar, Scratch, SharedSchema, Slab};

use super::folder::{Folder, Recovered};
use super::format::{self, Found, Head};
use super::place::{Mark, Place};
use super::remap::Remap;

const NAMES: [&str; 4] = ["id", "text", "deep", "n"];

fn schema(names: &[&str]) -> SharedSchema {
    let schema = SharedSchema::new();
    names.iter().for_each(|name| assert!(schema.arrive(name).is_ok()));
    schema
}

fn slab() -> Slab {
    Slab::new(64 << 10, &Budget::new(16 << 20))
}

/// Rows of [`NAMES`], each different.
fn rows(count: usize, first: usize) -> Slab {
    let (mut slab, mut scratch) = (slab(), Scratch::default());
    for at in first..first + count {
        let mut row = slab.build(4, 4, &mut scratch);
        row.set_int(0, at as i64);
        row.set_str(1, &"ü".repeat(at % 7));
        let mut tree = row.tree(2);
        assert!(tree.map());
        tree.key("list");
        assert!(tree.list());
        tree.scalar(Scalar::Number("123456789012345678901"));
        tree.scalar(Scalar::Null);
        tree.close();
        tree.close();
        tree.finish();
        row.set_float(3, at as f64 / 3.0);
        row.finish(at as i64).unwrap();
    }
    slab
}

fn texts(slab: &Slab) -> Vec<String> {
    slab.rows().map(|row| format!("{row:?}")).collect()
}

/// The frames of a segment: each row's text, and the bytes.
fn frames(id: u64) -> (Vec<String>, Vec<u8>) {
    let (mut all, mut bytes, mut gather) = (Vec::new(), Vec::new(), slab());
    for (count, first) in [(3, 0), (1, 3), (0, 4), (5, 4)] {
        let slab = rows(count, first);
        let lost = &mut |_: RowRef<'_>| panic!("lost");
        format::append(&mut bytes, &slab, 0..count, &mut gather, lost);
        all.extend(texts(&slab));
    }
    format::seal(&mut bytes, id, 0);
    (all, bytes)
}

/// What is read of some bytes, until they are no frame any more.
fn read(mut bytes: &[u8], id: u64) -> Vec<String> {
    let (mut out, mut place) = (slab(), 0);
    while let Found::Frame(frame) = format::find(bytes, id, place) {
        let mut payload = &bytes[format::FRAME_HEAD_BYTES..frame.len];
        for _ in 0..frame.rows {
            let image = format::next_row(payload).expect("a row of a good frame");
            out.push_checked(image).expect("a good row");
            payload = &payload[image.len()..];
        }
        assert!(payload.is_empty());
        bytes = &bytes[frame.len..];
        place += frame.len as u64;
    }
    texts(&out)
}

#[test]
fn what_is_written_is_read() {
    let (all, bytes) = frames(7);
    assert_eq!(read(&bytes, 7), all);
    assert_eq!(all.len(), 9);
}

#[test]
fn whatever_bit_changes_nothing_is_read_wrong() {
    let (all, bytes) = frames(7);
    for at in 0..bytes.len() {
        for bit in [1, 0x80] {
            let mut bad = bytes.clone();
            bad[at] ^= bit;
            let found = read(&bad, 7);
            assert!(found.len() < all.len() && all.starts_with(&found), "byte {at}");
        }
    }
}

#[test]
fn wherever_it_is_cut_what_stands_before_is_read() {
    let (all, bytes) = frames(7);
    for len in 0..bytes.len() {
        let found = read(&bytes[..len], 7);
        assert!(found.len() < all.len() && all.starts_with(&found), "cut at {len}");
    }
}

#[test]
fn a_frame_is_good_only_where_it_was_written() {
    let (_, bytes) = frames(7);
    assert_eq!(read(&bytes, 8), Vec::<String>::new());
    assert_eq!(format::find(&bytes, 7, 1), Found::Bad);
}

#[test]
fn a_head_is_read_as_it_was_written_or_not_at_all() {
    let head = Head::of(3, 99, -5, "f/s/0", &schema(&NAMES).snapshot());
    let bytes = head.encode();
    assert_eq!(Head::decode(&bytes), Ok((head, bytes.len())));
    for at in 0..bytes.len() {
        assert!(Head::decode(&bytes[..at]).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            assert!(Head::decode(&bad).is_err(), "bit {bit} of byte {at}");
        }
    }
}

/// Rows of one schema, in the slots of another.
fn remapped(names: &[&str], slab: &Slab) -> (SharedSchema, Slab) {
    let old = schema(&NAMES);
    let new = schema(names);
    let head = Head::of(1, 0, 0, "", &old.snapshot());
    let mut out = self::slab();
    match Remap::new(&head, &new) {
        None => out.push_all(slab).unwrap(),
        Some(remap) => {
            let mut scratch = Scratch::default();
            slab.rows().for_each(|row| remap.row(row, &mut out, &mut scratch).unwrap());
        }
    }
    (new, out)
}

fn json(slab: &Slab, schema: &SharedSchema) -> Vec<String> {
    let schema = schema.snapshot();
    let field = |row: RowRef<'_>, name: &str| match schema.slot(name) {
        Some(slot) => format!("{name}={:?}", row.get(slot)),
        None => format!("{name}={:?}", row.rest().expect("a rest").get(name)),
    };
    slab.rows()
        .map(|row| NAMES.map(|name| field(row, name)).join(",") + &row.ts().to_string())
        .collect()
}

#[test]
fn rows_keep_their_fields_in_whatever_slots_the_next_process_has() {
    let slab = rows(20, 0);
    let expected = json(&slab, &schema(&NAMES));
    let full: Vec<String> = (0..64).map(|n| format!("f{n}")).collect();
    let full: Vec<&str> = full.iter().map(String::as_str).collect();
    let nearly: Vec<&str> = full[..62].to_vec();
    for names in [&NAMES[..], &[], &["n", "id"], &["other", "text"], &full, &nearly] {
        let (schema, out) = remapped(names, &slab);
        assert_eq!(json(&out, &schema), expected, "{names:?}");
    }
    // And back: what had gone to the rest finds its slot.
    let (crowded, out) = remapped(&full, &slab);
    let head = Head::of(1, 0, 0, "", &crowded.snapshot());
    let (fresh, mut back, mut scratch) = (schema(&NAMES), self::slab(), Scratch::default());
    let remap = Remap::new(&head, &fresh).expect("another order");
    out.rows().for_each(|row| remap.row(row, &mut back, &mut scratch).unwrap());
    assert_eq!(json(&back, &fresh), expected);
}

struct OnDisk {
    _dir: tempfile::TempDir,
    folder: Folder,
    paths: Vec<PathBuf>,
    /// Bytes of heads.
    head: usize,
}

/// Two segments that follow one another.
fn on_disk() -> OnDisk {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder { dir: dir.path().join("x"), owner: "f/s/0".into() };
    folder.recover().unwrap();
    let schema = schema(&NAMES).snapshot();
    let mut paths = Vec::new();
    let mut previous = None;
    let mut head = 0;
    for id in [1, 2] {
        let (mut segment, file) = folder.create(id, 0, previous, 0, &schema).unwrap();
        let (_, bytes) = frames(id);
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, segment.head_bytes).unwrap();
        segment.len = bytes.len() as u64;
        previous = Some(segment.len);
        head = segment.head_bytes as usize;
        paths.push(segment.path);
    }
    OnDisk { _dir: dir, folder, paths, head }
}

impl OnDisk {
    fn mark(&self, accepted: (u64, u64), durable: (u64, u64)) {
        let place = |(segment, bytes)| Place { segment, bytes };
        let mark = Mark { number: 1, accepted: place(accepted), durable: place(durable) };
        let (at, bytes) = mark.encode();
        let file = self.folder.mark_file().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, at).unwrap();
    }

    fn recover(&self) -> Result<Recovered, String> {
        self.folder.recover()
    }
}

#[test]
fn segments_are_found_again_and_accepted_ones_are_gone() {
    let disk = on_disk();
    let found = disk.recover().unwrap();
    let len = found.segments[0].len;
    let ends: Vec<_> = found.segments.iter().map(|s| (s.id, s.base, s.len)).collect();
    assert_eq!(ends, [(1, 0, len), (2, len, len)]);
    assert_eq!((found.accepted, found.next_id, found.torn), (0, 3, None));
    disk.mark((1, 40), (2, len));
    assert_eq!(disk.recover().unwrap().accepted, 40);
    disk.mark((2, 0), (2, len));
    assert_eq!(disk.recover().unwrap().segments.len(), 1);
    assert!(!disk.paths[0].exists());
    disk.mark((2, len), (2, len));
    assert_eq!(disk.recover().unwrap().segments.len(), 0);
    assert_eq!(disk.recover().unwrap().next_id, 3);
}

#[test]
fn a_torn_end_is_cut_off_and_told_wherever_it_tore() {
    let disk = on_disk();
    let whole = fs::read(&disk.paths[1]).unwrap();
    let (all, _) = frames(2);
    for len in 0..whole.len() {
        fs::write(&disk.paths[1], &whole[..len]).unwrap();
        let found = disk.recover().unwrap_or_else(|e| panic!("cut at {len}: {e}"));
        assert_eq!(found.segments.len(), if len < disk.head { 1 } else { 2 }, "cut at {len}");
        let kept = fs::read(&disk.paths[1]).unwrap_or_default();
        let frames = kept.get(disk.head..).unwrap_or_default();
        let rows = read(frames, 2);
        assert!(all.starts_with(&rows), "cut at {len}");
        assert_eq!(found.torn.is_some(), kept.len() < len || len < disk.head, "cut at {len}");
    }
}

#[test]
fn damage_before_the_known_end_is_refused_with_the_files_name() {
    let disk = on_disk();
    let len = (fs::read(&disk.paths[1]).unwrap().len() - disk.head) as u64;
    disk.mark((1, 0), (2, len));
    for path in &disk.paths {
        let whole = fs::read(path).unwrap();
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 0x10;
            fs::write(path, &bad).unwrap();
            let error = disk.recover().expect_err(&format!("byte {at} of {}", path.display()));
            assert!(error.contains(&path.display().to_string()), "{error}");
            fs::write(path, &bad[..at]).unwrap();
            assert!(disk.recover().is_err(), "cut at {at} of {}", path.display());
            fs::write(path, &whole).unwrap();
        }
    }
}

#[test]
fn a_missing_or_renamed_segment_is_refused() {
    let disk = on_disk();
    let third = disk.folder.dir.join("00000000000000000003.spill");
    fs::rename(&disk.paths[1], &third).unwrap();
    assert!(disk.recover().unwrap_err().contains("was renamed: it is segment 2"));
    let (_, file) = disk.folder.create(3, 0, Some(0), 0, &schema(&[]).snapshot()).unwrap();
    drop(file);
    assert!(disk.recover().unwrap_err().contains("segment 2 is missing"));
}
