//! Fields beyond the slot limit: a map at the end of the row.

use ringmain_base::limits::FIELD_NAME_BYTES_MAX;
use ringmain_slab::{REST_SLOT, RowBuilder};

use super::walk::build;
use crate::refused::Bad;

/// The fields of one record that have no slot: their names, and where their
/// values stand.
#[derive(Default)]
pub(crate) struct Rest {
    names: String,
    fields: Vec<Field>,
}

#[derive(Clone, Copy)]
struct Field {
    name: (usize, usize),
    value: usize,
}

impl Rest {
    pub(crate) fn clear(&mut self) {
        self.names.clear();
        self.fields.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Notes a field whose value stands at `value` and was found to be sound.
    pub(crate) fn push(&mut self, name: &str, value: usize) {
        let start = self.names.len();
        self.names.push_str(name);
        self.fields.push(Field { name: (start, self.names.len()), value });
    }

    /// Builds the map: fields in order of arrival, the last of equal names.
    #[cold]
    pub(crate) fn build(
        &mut self,
        row: &mut RowBuilder<'_>,
        text: &str,
        unescaped: &mut String,
    ) -> Result<(), Bad> {
        let names = &self.names;
        let name = |field: &Field| &names[field.name.0..field.name.1];
        // Sorted by name, later ones first: the first of each name stays.
        self.fields.sort_by(|a, b| name(a).cmp(name(b)).then(b.value.cmp(&a.value)));
        self.fields.dedup_by(|later, first| name(later) == name(first));
        self.fields.sort_by_key(|field| field.value);
        let mut tree = row.tree(REST_SLOT);
        // The text was checked with the object's own depth, which the map
        // takes the place of.
        let _opened = tree.map();
        for field in &self.fields {
            tree.key(name(field));
            build(&mut tree, text, field.value, 1, unescaped)?;
        }
        tree.close();
        tree.finish();
        Ok(())
    }
}

/// Whether a name can never get a slot, however many are free.
pub(crate) fn too_long_for_a_slot(name: &str) -> bool {
    name.len() > FIELD_NAME_BYTES_MAX
}
