//! Promises of a slab, one by one; many of them were broken once.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{Fields, Value, build, range, read};
use ringmain_base::limits::DEPTH_MAX;
use ringmain_slab::{
    Budget, Full, REST_SLOT, RowBuilder, Scalar, Scratch, SharedSchema, Slab, ValueRef,
};

fn slab() -> Slab {
    Slab::new(4096, &Budget::new(1 << 20))
}

fn row(slab: &mut Slab, slots: u16, fill: impl FnOnce(&mut RowBuilder<'_>)) -> Result<(), Full> {
    let mut scratch = Scratch::default();
    let mut row = slab.build(slots, slots, &mut scratch);
    fill(&mut row);
    row.finish(0)
}

fn panics<T>(act: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(act)).is_err()
}

#[test]
fn a_value_in_the_place_of_a_key_is_a_panic_in_every_build() {
    for kind in 0..3 {
        let mut slab = slab();
        let broken = panics(|| {
            let _ = row(&mut slab, 1, |row| {
                let mut tree = row.tree(0);
                assert!(tree.map());
                match kind {
                    0 => tree.scalar(Scalar::Int(1 << 40)),
                    1 => assert!(tree.list()),
                    _ => assert!(tree.map()),
                }
            });
        });
        assert!(broken && slab.is_empty(), "{kind}");
    }
}

#[test]
fn a_key_in_the_place_of_a_value_is_a_panic() {
    let mut slab = slab();
    assert!(panics(|| {
        let _ = row(&mut slab, 1, |row| {
            let mut tree = row.tree(0);
            assert!(tree.map());
            tree.key("a");
            tree.key("b");
        });
    }));
}

#[test]
fn the_slot_of_the_rest_holds_a_map_or_nothing() {
    assert!(panics(|| {
        let _ = row(&mut slab(), 65, |row| row.set_int(REST_SLOT, 1));
    }));
    assert!(panics(|| {
        let _ = row(&mut slab(), 66, |_| {});
    }));
    let mut slab = slab();
    row(&mut slab, 65, |row| row.set_int(0, 1)).unwrap();
    assert!(panics(|| slab.edit(0).set(REST_SLOT, Scalar::Int(1))));
    assert!(panics(|| slab.edit(0).rename(0, REST_SLOT)));
    assert!(panics(|| slab.edit(0).set(REST_SLOT + 1, Scalar::Int(1))));
    assert_eq!(slab.edit(0).set(REST_SLOT, Scalar::Absent), Ok(()));
    assert!(matches!(slab.row(0).get(0), ValueRef::Int(1)));
}

#[test]
fn nothing_is_absent_in_a_tree() {
    let mut slab = slab();
    row(&mut slab, 1, |row| {
        let mut tree = row.tree(0);
        assert!(tree.list());
        tree.scalar(Scalar::Absent);
        tree.close();
        tree.finish();
    })
    .unwrap();
    assert_eq!(format!("{:?}", slab.row(0)), "[List([Null])]");
    let image = slab.row(0).image().to_vec();
    assert_eq!(slab.push_checked(&image), Ok(()));
}

#[test]
fn nesting_ends_at_the_limit_and_is_accepted_up_to_it() {
    let mut slab = Slab::new(64 << 10, &Budget::new(0));
    row(&mut slab, 1, |row| {
        let mut tree = row.tree(0);
        for _ in 0..DEPTH_MAX {
            assert!(tree.list());
        }
        assert!(!tree.list() && !tree.map());
        for _ in 0..DEPTH_MAX {
            tree.close();
        }
        tree.finish();
    })
    .unwrap();
    let image = slab.row(0).image().to_vec();
    assert_eq!(slab.push_checked(&image), Ok(()));
    slab.edit(1).set(5, Scalar::Int(1)).unwrap();
    assert!(matches!(slab.row(1).get(0), ValueRef::List(_)));
}

/// Children stand before parents in a row that was built, and behind them in
/// one that was gathered, so padding falls elsewhere.
#[test]
fn a_widened_row_of_many_small_trees_keeps_to_its_bound() {
    // Built: 7 + 1 bytes, nodes, nodes. Gathered: nodes, 7, nodes, 1.
    let text = |len| Value::Str("x".repeat(len));
    let pair = Value::List(vec![text(7), Value::List(vec![text(1)])]);
    let nested = Value::List(vec![pair; 40]);
    let fields: Fields = [(0, nested)].into_iter().collect();
    let mut slab = Slab::new(16 << 10, &Budget::new(0));
    build(&mut slab, &mut Scratch::default(), 1, &fields, 0).unwrap();
    let used = slab.used();
    slab.edit(0).set(1, Scalar::Null).unwrap();
    let len = slab.used() - used;
    assert_eq!(slab.row(0).image().len(), len);
    let within = range(&mut slab);
    let mut expected = fields;
    expected.insert(1, Value::Null);
    assert_eq!(read(slab.row(0), &within), expected);
}

#[test]
fn a_row_that_does_not_fit_leaves_no_trace() {
    let mut slab = Slab::new(1024, &Budget::new(0));
    let before = slab.used();
    // Not even the slots fit, yet everything may be set.
    let full = row(&mut slab, 65, |row| {
        row.set_str(0, "");
        row.set_str(1, "x");
        assert!(!row.has(1));
        let mut tree = row.tree(2);
        assert!(tree.map());
        tree.key("k");
        tree.scalar(Scalar::Str("v"));
        tree.close();
        tree.finish();
    });
    assert_eq!((full, slab.len(), slab.used()), (Err(Full), 0, before));
}

#[test]
fn absurd_sizes_are_refused_and_not_wrapped() {
    let budget = Budget::new(u64::MAX);
    assert!(panics(|| Slab::new(usize::MAX, &budget)));
    assert!(panics(|| Slab::new(usize::MAX - 300, &budget)));
    let mut slab = Slab::new(1024, &budget);
    for bytes in [usize::MAX, usize::MAX - 7, usize::MAX / 2, 1 << 40] {
        assert_eq!(slab.reserve(bytes), Err(Full), "{bytes}");
    }
    assert_eq!(budget.used_bytes(), 0);
}

#[test]
fn a_panic_while_rows_are_chosen_leaves_no_row_twice() {
    let mut slab = slab();
    (0..6).for_each(|n| row(&mut slab, 1, |row| row.set_int(0, n)).unwrap());
    let mut at = 0;
    assert!(panics(|| slab.retain(|_| {
        at += 1;
        assert!(at < 4, "on purpose");
        at % 2 == 0
    })));
    assert!(slab.is_empty());
    row(&mut slab, 1, |row| row.set_int(0, 9)).unwrap();
    assert_eq!(slab.row(0).number(0), Some(9.0));
}

#[test]
fn rows_are_divided_in_order_and_selected_by_place() {
    let mut slab = slab();
    (0..10).for_each(|n| row(&mut slab, 1, |row| row.set_int(0, n)).unwrap());
    let mut places = [vec![7, 7], vec![], vec![]];
    slab.divide(&mut places, |row| row.number(0).unwrap() as usize % 3);
    assert_eq!(places, [vec![0, 3, 6, 9], vec![1, 4, 7], vec![2, 5, 8]]);
    slab.select(&places[1]);
    let left: Vec<_> = slab.rows().map(|row| row.number(0).unwrap()).collect();
    assert_eq!(left, [1.0, 4.0, 7.0]);
    for wrong in [&[0, 3][..], &[1, 1], &[2, 1]] {
        assert!(panics(|| slab.select(wrong)), "{wrong:?}");
    }
    assert_eq!(slab.len(), 3);
    slab.select(&[]);
    assert!(slab.is_empty());
}

#[test]
fn an_interned_text_is_good_for_its_slab_until_it_is_cleared() {
    let (mut a, mut b) = (slab(), slab());
    for slab in [&mut a, &mut b] {
        row(slab, 1, |row| row.set_int(0, 1)).unwrap();
    }
    let text = a.intern("shared").unwrap();
    b.intern("foreign").unwrap();
    assert!(panics(|| b.edit(0).set_shared(0, text)));
    // Growing keeps it; a row behind it, or widened after it, gets a copy.
    a.reserve(100_000).unwrap();
    row(&mut a, 1, |_| {}).unwrap();
    for (at, slot) in [(0, 0), (1, 0), (0, 3)] {
        a.edit(at).set_shared(slot, text).unwrap();
        assert!(matches!(a.row(at).get(slot), ValueRef::Str("shared")));
    }
    a.clear();
    row(&mut a, 1, |_| {}).unwrap();
    assert!(panics(|| a.edit(0).set_shared(0, text)));
    a.intern("shared").unwrap();
    assert!(panics(|| a.edit(0).set_shared(0, text)));
}

#[test]
fn a_text_costs_its_bytes_once_for_any_number_of_rows() {
    let mut slab = Slab::new(64 << 10, &Budget::new(0));
    (0..100).for_each(|_| row(&mut slab, 2, |_| {}).unwrap());
    let used = slab.used();
    let text = slab.intern(&"x".repeat(1000)).unwrap();
    (0..100).for_each(|at| slab.edit(at).set_shared(1, text).unwrap());
    assert_eq!(slab.used(), used + 1000);
    // What leaves the slab is whole.
    let mut other = Slab::new(256 << 10, &Budget::new(0));
    other.push_all(&slab).unwrap();
    drop(slab);
    assert!(
        other.rows().all(|row| matches!(row.get(1), ValueRef::Str(text) if text.len() == 1000))
    );
    let image = other.row(0).image().to_vec();
    assert_eq!(other.push_checked(&image), Ok(()));
}

#[test]
fn rows_older_than_a_field_are_read_and_edited_beside_new_ones() {
    let schema = SharedSchema::new();
    let mut slab = slab();
    let old = schema.snapshot();
    let a = schema.intern("a").unwrap();
    let middle = schema.snapshot();
    let b = schema.intern("b").unwrap();
    let new = schema.snapshot();
    for snapshot in [&old, &middle, &new] {
        let version = snapshot.version();
        row(&mut slab, version, |row| {
            (0..version).for_each(|slot| row.set_int(slot, i64::from(slot) + 1));
        })
        .unwrap();
    }
    assert_eq!([0, 1, 2].map(|at| slab.row(at).number(b)), [None, None, Some(2.0)]);
    assert_eq!([0, 1, 2].map(|at| slab.row(at).number(a)), [None, Some(1.0), Some(1.0)]);
    for at in 0..3 {
        slab.edit(at).set(b, Scalar::Str("now")).unwrap();
        assert!(matches!(slab.row(at).get(b), ValueRef::Str("now")));
        assert_eq!(slab.row(at).header().version.to_native(), 2);
    }
    assert_eq!([0, 1, 2].map(|at| slab.row(at).number(a)), [None, Some(1.0), Some(1.0)]);
}

#[test]
fn fields_beyond_the_slots_travel_with_their_row() {
    let rest = Value::Map(vec![
        ("seventy".into(), Value::Str("text".into())),
        ("nested".into(), Value::List(vec![Value::Int(1), Value::Map(vec![])])),
    ]);
    let fields: Fields = [(3, Value::Str("x".into())), (REST_SLOT, rest)].into_iter().collect();
    let mut slab = Slab::new(16 << 10, &Budget::new(0));
    build(&mut slab, &mut Scratch::default(), 65, &fields, 0).unwrap();
    slab.edit(0).set(4, Scalar::Str("scattered")).unwrap();
    let mut other = Slab::new(16 << 10, &Budget::new(0));
    other.push_copy(slab.row(0)).unwrap();
    let rest = other.row(0).rest().unwrap();
    assert!(matches!(rest.get("seventy"), ValueRef::Str("text")));
    assert!(matches!(rest.get("none"), ValueRef::Absent));
    other.edit(0).keep(1 << 3);
    assert!(other.row(0).rest().is_none());
    assert!(matches!(other.row(0).get(3), ValueRef::Str("x")));
    assert!(matches!(other.row(0).get(4), ValueRef::Absent));
}

#[test]
fn what_a_slab_took_it_gives_back() {
    let budget = Budget::new(1 << 20);
    let mut slab = Slab::new(1024, &budget);
    slab.reserve(10_000).unwrap();
    assert_eq!(budget.used_bytes(), slab.capacity() as u64 - 1024);
    assert_eq!(slab.reserve(2 << 20), Err(Full));
    slab.clear();
    assert_eq!((budget.used_bytes(), slab.capacity()), (0, 1024));
    slab.reserve(10_000).unwrap();
    drop(slab);
    assert_eq!(budget.used_bytes(), 0);
}

#[test]
fn a_slab_moves_between_threads() {
    let mut slab = slab();
    row(&mut slab, 1, |row| row.set_str(0, "there")).unwrap();
    let read = |slab: &Slab| matches!(slab.row(0).get(0), ValueRef::Str("there"));
    let slab = std::thread::spawn(move || read(&slab).then_some(slab)).join().unwrap().unwrap();
    std::thread::scope(|scope| {
        let both = [0; 2].map(|_| scope.spawn(|| read(&slab)));
        assert!(both.into_iter().all(|thread| thread.join().unwrap()));
    });
}

#[test]
fn what_is_written_through_addresses_is_read_as_rows() {
    let mut slab = slab();
    (0..3).for_each(|n| row(&mut slab, 1, |row| row.set_int(0, n)).unwrap());
    let text = slab.intern("gone").unwrap();
    let parts = slab.raw_parts();
    assert_eq!((parts.rows, parts.used), (slab.len(), slab.used()));
    // SAFETY: entries 0 and 2 are in the index, and 8-byte payloads of their
    // first slots follow the header and the first word of the slot. What the
    // rows left refer to ends before the interned text.
    unsafe {
        let index: *mut u32 = parts.index_end.cast();
        let last = index.sub(3).read();
        parts.data.add(last as usize + 32).cast::<i64>().write(77);
        index.sub(1).write(last);
        slab.set_raw(1, parts.used - 8);
    }
    assert_eq!((slab.len(), slab.row(0).number(0)), (1, Some(77.0)));
    assert!(panics(|| slab.edit(0).set_shared(0, text)));
}
