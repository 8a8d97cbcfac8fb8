//! Values from one row into another.

use ringmain_slab::{Scalar, TreeBuilder, ValueRef};

/// Copies a value. A value at the depth limit of its own message would be
/// beyond it inside the letter; it becomes null there.
pub(crate) fn copy(tree: &mut TreeBuilder<'_, '_>, value: ValueRef<'_>) {
    match value {
        ValueRef::Absent | ValueRef::Null => tree.scalar(Scalar::Null),
        ValueRef::Bool(v) => tree.scalar(Scalar::Bool(v)),
        ValueRef::Int(v) => tree.scalar(Scalar::Int(v)),
        ValueRef::Float(v) => tree.scalar(Scalar::Float(v)),
        ValueRef::Number(v) => tree.scalar(Scalar::Number(v)),
        ValueRef::Str(v) => tree.scalar(Scalar::Str(v)),
        ValueRef::Bytes(v) => tree.scalar(Scalar::Bytes(v)),
        ValueRef::List(list) if tree.list() => {
            list.iter().for_each(|item| copy(tree, item));
            tree.close();
        }
        ValueRef::Map(map) if tree.map() => {
            for (key, item) in map.iter() {
                tree.key(key);
                copy(tree, item);
            }
            tree.close();
        }
        ValueRef::List(_) | ValueRef::Map(_) => tree.scalar(Scalar::Null),
    }
}
