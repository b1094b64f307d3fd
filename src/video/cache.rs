//! Frames that were read lately, in bounded memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use image::RgbImage;

/// Clip, flow or frame, number.
pub(super) type Key = (u32, bool, usize);

/// Pictures by clip and number, the least recently used ones dropped first.
#[derive(Debug)]
pub struct Cache {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    clock: u64,
    bytes: usize,
    pictures: HashMap<Key, (u64, Arc<RgbImage>)>,
    by_age: BTreeMap<u64, Key>,
}

impl Cache {
    /// A cache of at most `bytes` of pixels; what a caller still holds is its own.
    pub fn new(bytes: usize) -> Arc<Cache> {
        Arc::new(Cache { most: bytes, state: Mutex::default() })
    }

    /// Bytes of pixels held now.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing that can fail runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The picture, read by `read` where it is not here. Two threads may read one at the same time; both get the same.
    pub(super) fn get(&self, key: Key, read: impl FnOnce() -> Result<RgbImage>) -> Result<Arc<RgbImage>> {
        let known = {
            let state = &mut *self.lock();
            state.clock += 1;
            let now = state.clock;
            state.pictures.get_mut(&key).map(|(age, picture)| {
                state.by_age.remove(age);
                state.by_age.insert(now, key);
                *age = now;
                picture.clone()
            })
        };
        if let Some(picture) = known {
            return Ok(picture);
        }
        let picture = Arc::new(read()?);
        let size = picture.as_raw().len();
        let state = &mut *self.lock();
        if size <= self.most && !state.pictures.contains_key(&key) {
            state.clock += 1;
            let now = state.clock;
            state.bytes += size;
            state.pictures.insert(key, (now, picture.clone()));
            state.by_age.insert(now, key);
            while state.bytes > self.most {
                let Some((_, oldest)) = state.by_age.pop_first() else { break };
                if let Some((_, gone)) = state.pictures.remove(&oldest) {
                    state.bytes -= gone.as_raw().len();
                }
            }
        }
        Ok(picture)
    }
}
