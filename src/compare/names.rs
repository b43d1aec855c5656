//! Names of keys, side by side in one piece of memory.

/// A list of names.
#[derive(Debug, Clone, Default)]
pub struct Names {
    bytes: Vec<u8>,
    /// Where each name ends.
    ends: Vec<usize>,
}

impl Names {
    /// Adds a name.
    pub fn push(&mut self, name: &[u8]) {
        self.bytes.extend_from_slice(name);
        self.ends.push(self.bytes.len());
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The name number `index`.
    pub fn get(&self, index: usize) -> &[u8] {
        let begin = match index {
            0 => 0,
            _ => self.ends[index - 1],
        };
        &self.bytes[begin..self.ends[index]]
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index))
    }
}
