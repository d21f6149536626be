//! A table whose ids never name a later entry. Pure.

/// Place in a table, and which of the entries that were there is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id {
    pub slot: u32,
    pub generation: u32,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

/// Entries by [`Id`].
#[derive(Debug)]
pub(crate) struct Slots<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    pub fn len(&self) -> usize {
        self.entries.len().saturating_sub(self.free.len())
    }

    pub fn insert(&mut self, value: T) -> Id {
        if let Some(slot) = self.free.pop()
            && let Some(entry) = self.entries.get_mut(slot as usize)
        {
            entry.value = Some(value);
            return Id { slot, generation: entry.generation };
        }
        // Limits keep the table far below 2^32 entries.
        let slot = self.entries.len() as u32;
        self.entries.push(Entry { generation: 0, value: Some(value) });
        Id { slot, generation: 0 }
    }

    pub fn get(&self, id: Id) -> Option<&T> {
        let entry = self.entries.get(id.slot as usize)?;
        entry.value.as_ref().filter(|_| entry.generation == id.generation)
    }

    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        let entry = self.entries.get_mut(id.slot as usize)?;
        entry.value.as_mut().filter(|_| entry.generation == id.generation)
    }

    pub fn remove(&mut self, id: Id) -> Option<T> {
        let entry = self.entries.get_mut(id.slot as usize)?;
        if entry.generation != id.generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(id.slot);
        Some(value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        (0u32..).zip(&self.entries).filter_map(|(slot, entry)| {
            let id = Id { slot, generation: entry.generation };
            entry.value.as_ref().map(|value| (id, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_dies_with_its_entry() {
        let mut slots = Slots::default();
        let a = slots.insert('a');
        assert_eq!(slots.remove(a), Some('a'));
        let b = slots.insert('b');
        assert_eq!((a.slot, slots.get(a), slots.get(b)), (b.slot, None, Some(&'b')));
        assert_eq!(slots.remove(a), None);
        assert_eq!((slots.len(), slots.iter().count()), (1, 1));
    }
}
