//! Training photos as loaders read them. Nobody looks through all of them before the first step: what cannot be used is
//! found when it is first drawn, and either ends the training or, with `--skip-unreadable`, leaves its place to another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use anyhow::{Result, anyhow};
use image::RgbImage;
use rayon::prelude::*;

use crate::picture::Unread;
use crate::say::say;

/// Photos left out that are named; the log counts them all.
const NAMED: usize = 20;

/// What is known of a row.
const GOOD: u8 = 1;
const BAD: u8 = 2;

/// Which row may stand in for another: the place in the batch, the row there, the other row.
pub type Fits<'a> = &'a dyn Fn(usize, usize, usize) -> bool;

/// The images of rows of a training set.
pub struct Reader {
    open: Box<dyn Fn(usize) -> Result<Arc<RgbImage>> + Send + Sync>,
    /// By row, where photos may be left out.
    known: Option<Vec<AtomicU8>>,
    said: AtomicUsize,
}

impl Reader {
    /// A reader of `rows` rows, whose images `open` gives; with `skip`, rows without one may be left out.
    pub fn new(
        rows: usize,
        skip: bool,
        open: impl Fn(usize) -> Result<Arc<RgbImage>> + Send + Sync + 'static,
    ) -> Reader {
        let known = skip.then(|| (0..rows).map(|_| AtomicU8::new(0)).collect());
        Reader { open: Box::new(open), known, said: AtomicUsize::new(0) }
    }

    /// The image of `row`.
    ///
    /// # Errors
    /// One line that names the file.
    pub fn image(&self, row: usize) -> Result<Arc<RgbImage>> {
        (self.open)(row).map_err(|error| anyhow!("{error:#}, or say --skip-unreadable to train without it"))
    }

    /// A batch of `rows` without what cannot be used: in place of such a row comes the next one after it, the first one
    /// after the last, that can be used and is allowed by the first of `fits`, else by the second, and so on. It follows
    /// from the files alone. Without leave to skip, `rows` as they are.
    ///
    /// # Errors
    /// One line that names a file whose place nothing can take.
    pub fn usable(&self, mut rows: Vec<usize>, fits: &[Fits<'_>]) -> Result<Vec<usize>> {
        let Some(known) = &self.known else { return Ok(rows) };
        rows.par_iter().try_for_each(|&row| self.good(known, row).map(drop))?;
        let all = known.len();
        'rows: for (place, row) in rows.iter_mut().enumerate() {
            if self.good(known, *row)? {
                continue;
            }
            for (fits, i) in fits.iter().flat_map(|fits| (1..all).map(move |i| (fits, i))) {
                let other = (*row + i) % all;
                if fits(place, *row, other) && self.good(known, other)? {
                    *row = other;
                    continue 'rows;
                }
            }
            let why = (self.open)(*row).err().map_or(String::new(), |error| format!("{error:#}; "));
            return Err(anyhow!("{why}no photo can take its place in training: remove it, or give other --data"));
        }
        Ok(rows)
    }

    /// Those of `rows` that were found to be of no use.
    pub fn left_out(&self, rows: &[usize]) -> Vec<usize> {
        let bad = |row: &&usize| self.known.as_ref().is_some_and(|known| known[**row].load(Ordering::Relaxed) == BAD);
        rows.iter().filter(bad).copied().collect()
    }

    /// Whether a row has an image; what the machine could not read is an error, since other processes may have read it.
    fn good(&self, known: &[AtomicU8], row: usize) -> Result<bool> {
        let found = known[row].load(Ordering::Relaxed);
        if found != 0 {
            return Ok(found == GOOD);
        }
        let Err(error) = (self.open)(row) else {
            known[row].store(GOOD, Ordering::Relaxed);
            return Ok(true);
        };
        if error.is::<Unread>() {
            return Err(error);
        }
        if known[row].swap(BAD, Ordering::Relaxed) != BAD {
            match self.said.fetch_add(1, Ordering::Relaxed) {
                said if said < NAMED => say(format!("left out of training: {error:#}")),
                NAMED => say("more photos are left out of training: log.jsonl counts them"),
                _ => {}
            }
        }
        Ok(false)
    }
}
