//! Parts of a state that most of its successors share, with their hash.
//!
//! A step changes one or two parts of a state. The others are the same memory, and are not hashed again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

#[derive(Debug, Clone)]
pub(crate) struct Shared<T> {
    part: Arc<T>,
    /// Of the part as it is now, once somebody asked.
    digest: OnceLock<u64>,
}

impl<T: Hash + Clone> Shared<T> {
    pub(crate) fn new(part: T) -> Self {
        Self { part: Arc::new(part), digest: OnceLock::new() }
    }

    /// Changes this state's copy of the part.
    pub(crate) fn edit<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        self.digest = OnceLock::new();
        change(Arc::make_mut(&mut self.part))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.part
    }
}

impl<T: Hash> Shared<T> {
    fn digest(&self) -> u64 {
        *self.digest.get_or_init(|| {
            let mut hasher = DefaultHasher::new();
            self.part.hash(&mut hasher);
            hasher.finish()
        })
    }
}

impl<T: Hash> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.digest());
    }
}

/// As sure as the checker is itself, which knows states by 64 bits of hash.
impl<T: Hash> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.part, &other.part) || self.digest() == other.digest()
    }
}
