//! A table whose keys go stale: a slot that is used again answers only to its
//! new key, so a late completion or a handle kept too long finds nothing
//! instead of somebody else's entry.
//!
//! Deliberately absent: shrinking. The table stays as large as it ever was,
//! which the bounds of connectors keep small.

/// Where an entry is, and which entry it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    limit: u32,
    generation_mask: u32,
}

impl<T> Slots<T> {
    /// At most `limit` entries; generations count in `generation_bits`.
    pub(crate) fn new(limit: u32, generation_bits: u32) -> Self {
        debug_assert!((1..32).contains(&generation_bits), "a generation needs 1 to 31 bits");
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            limit,
            generation_mask: (1 << generation_bits) - 1,
        }
    }

    /// Puts `value` in; gives it back when the table is full.
    pub(crate) fn insert(&mut self, value: T) -> Result<Key, T> {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.value = Some(value);
            return Ok(Key { index, generation: slot.generation });
        }
        let index = self.slots.len() as u32;
        if index >= self.limit {
            return Err(value);
        }
        self.slots.push(Slot { generation: 0, value: Some(value) });
        Ok(Key { index, generation: 0 })
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation { slot.value.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.value.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = (slot.generation + 1) & self.generation_mask;
        self.free.push(key.index);
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let key = Key { index: index as u32, generation: slot.generation };
            slot.value.as_ref().map(|value| (key, value))
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut slots = Slots::new(4, 12);
        let first = slots.insert("a").unwrap();
        assert_eq!(slots.remove(first), Some("a"));
        let second = slots.insert("b").unwrap();
        assert_eq!(first.index, second.index);
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(second), Some(&"b"));
    }

    #[test]
    fn a_full_table_gives_the_value_back() {
        let mut slots = Slots::new(1, 12);
        let key = slots.insert(1).unwrap();
        assert_eq!(slots.insert(2), Err(2));
        slots.remove(key);
        assert_eq!(slots.len(), 0);
    }

    #[test]
    fn generations_wrap_within_their_bits() {
        let mut slots = Slots::new(1, 2);
        for round in 0..9 {
            let key = slots.insert(round).unwrap();
            assert!(key.generation < 4);
            slots.remove(key);
        }
    }
}
