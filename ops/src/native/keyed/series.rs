//! Records of a time series: an array of objects with their time in `_time`
//! and the quality of a value `x` in `x_qc`.

use ringmain_slab::{MapRef, RowBuilder, ValueRef};

use super::time::{TimeUnit, shown, time_of};

/// What becomes of quality fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quality {
    /// They stay.
    #[default]
    Keep,
    /// They go.
    Remove,
    /// They go, and values that are not of good quality with them.
    Good,
}

pub(crate) struct Series {
    pub(crate) time_field: String,
    /// The field that gets the time as a number.
    pub(crate) time_slot: Option<u16>,
    pub(crate) unit: TimeUnit,
    pub(crate) suffix: String,
    pub(crate) quality: Quality,
}

impl Series {
    pub(crate) fn slots(&self) -> u16 {
        self.time_slot.map_or(0, |slot| slot + 1)
    }

    /// Whether a field of a record goes into the message.
    pub(crate) fn keeps(&self, name: &str, fields: MapRef<'_>) -> bool {
        if self.quality == Quality::Keep {
            return true;
        }
        if let Some(of) = name.strip_suffix(self.suffix.as_str())
            && !matches!(fields.get(of), ValueRef::Absent)
        {
            return false;
        }
        self.quality == Quality::Remove || {
            let marks = fields.iter().filter(|(mark, _)| {
                mark.strip_suffix(self.suffix.as_str()).is_some_and(|of| of == name)
            });
            marks.last().is_none_or(|(_, mark)| is_good(mark))
        }
    }

    /// Sets the time of a record's message; says what is wrong with it.
    pub(crate) fn time(
        &self,
        new: &mut RowBuilder<'_>,
        at: usize,
        fields: Option<MapRef<'_>>,
    ) -> Option<String> {
        let field = &self.time_field;
        let Some(fields) = fields else { return Some(format!("record {at} is no object")) };
        let value = fields.get(field);
        match time_of(value, self.unit) {
            Some(us) => {
                if let Some(slot) = self.time_slot {
                    new.set_int(slot, self.unit.of_us(us));
                }
                None
            }
            None if matches!(value, ValueRef::Absent) => {
                Some(format!("record {at} has no '{field}', its time"))
            }
            None => Some(format!("'{field}' of record {at} is no time: {}", shown(value))),
        }
    }
}

/// 0 is the good quality of OPC UA; texts are what people write.
fn is_good(mark: ValueRef<'_>) -> bool {
    match mark {
        ValueRef::Int(code) => code == 0,
        ValueRef::Float(code) => code == 0.0,
        ValueRef::Str(text) => text == "0" || text.eq_ignore_ascii_case("good"),
        ValueRef::Null | ValueRef::Absent => true,
        _ => false,
    }
}
