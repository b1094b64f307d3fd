//! Training photos as loaders read them. Nobody looks through all of them before the first step: what cannot be used is
//! found when it is first drawn, and either ends the training or, with `--skip-unreadable`, leaves its place to another.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use anyhow::{Result, anyhow};
use image::RgbImage;
use rayon::prelude::*;

use crate::picture::Unread;
use crate::say::say;

/// Photos left out that are named; the log counts them all.
const NAMED: usize = 20;

/// What is known of a row; the last, that nothing can take its place either.
const GOOD: u8 = 1;
const BAD: u8 = 2;
const LOST: u8 = 3;

/// Which row may stand in for another: the place in the batch, the row there, the other row.
pub type Fits<'a> = &'a dyn Fn(usize, usize, usize) -> bool;

/// The images of rows of a training set.
pub struct Reader {
    open: Box<dyn Fn(usize) -> Result<Arc<RgbImage>> + Send + Sync>,
    /// By row, where photos may be left out.
    known: Option<Vec<AtomicU8>>,
    said: AtomicUsize,
    /// Groups of rows without a usable one.
    lost: AtomicUsize,
}

impl Reader {
    /// A reader of `rows` rows, whose images `open` gives; with `skip`, rows without one may be left out.
    pub fn new(
        rows: usize,
        skip: bool,
        open: impl Fn(usize) -> Result<Arc<RgbImage>> + Send + Sync + 'static,
    ) -> Reader {
        let known = skip.then(|| (0..rows).map(|_| AtomicU8::new(0)).collect());
        Reader { open: Box::new(open), known, said: AtomicUsize::new(0), lost: AtomicUsize::new(0) }
    }

    /// The image of `row`.
    pub fn image(&self, row: usize) -> Result<Arc<RgbImage>> {
        (self.open)(row).map_err(|error| anyhow!("{error:#}, or say --skip-unreadable to train without it"))
    }

    /// A batch of `rows` without what cannot be used: in place of such a row comes the next one after it, the first one
    /// after the last, that can be used and is allowed by the first of `fits`, else by the second, and so on. It follows
    /// from the files alone. Without leave to skip, `rows` as they are.
    ///
    /// # Errors
    /// One line that names a file whose place nothing can take.
    pub fn usable(&self, rows: Vec<usize>, fits: &[Fits<'_>]) -> Result<Vec<usize>> {
        let Some(known) = &self.known else { return Ok(rows) };
        self.look(known, &rows)?;
        let found = rows
            .iter()
            .enumerate()
            .map(|(place, &row)| self.other(known, (place, row), fits)?.ok_or_else(|| self.nothing(row)));
        found.collect()
    }

    /// For every row of a batch what [`Reader::usable`] puts in its place; None, said once for all that `fits`, where there is
    /// nothing.
    ///
    /// # Errors
    /// Where the machine cannot read one.
    pub fn stand_ins(&self, rows: &[usize], fits: &[Fits<'_>]) -> Result<Vec<Option<usize>>> {
        let Some(known) = &self.known else { return Ok(rows.iter().copied().map(Some).collect()) };
        self.look(known, rows)?;
        let each = |(place, &row): (usize, &usize)| {
            let found = self.other(known, (place, row), fits)?;
            if found.is_none() && known[row].swap(LOST, Ordering::Relaxed) != LOST {
                let alike = |other: &usize| fits.iter().any(|fits| fits(place, row, *other));
                (0..known.len()).filter(alike).for_each(|other| known[other].store(LOST, Ordering::Relaxed));
                let (why, count) = (self.why(row), 1 + self.lost.fetch_add(1, Ordering::Relaxed));
                if count <= NAMED {
                    say(format!("left out of training: an identity without a usable photo ({count} so far): {why}"));
                }
            }
            Ok(found)
        };
        rows.iter().enumerate().map(each).collect()
    }

    /// As [`Reader::usable`], of `parts` equal parts, whose rows of one place make a tuple: in place of a tuple with a row that
    /// nothing can replace, or with one row twice, comes the next that is whole of what `more` draws, from number 1 on.
    ///
    /// # Errors
    /// So, where a hundred draws hold no more that are whole.
    pub fn tuples(
        &self,
        mut rows: Vec<usize>,
        more: impl Fn(u64) -> Vec<usize>,
        parts: usize,
        fits: &[Fits<'_>],
    ) -> Result<Vec<usize>> {
        if self.known.is_none() {
            return Ok(rows);
        }
        let count = rows.len() / parts;
        let whole = |rows: &[usize]| -> Result<Vec<Option<Vec<usize>>>> {
            let found = self.stand_ins(rows, fits)?;
            let tuple = |i: usize| -> Option<Vec<usize>> { (0..parts).map(|part| found[part * count + i]).collect() };
            let differ = |tuple: &Vec<usize>| tuple.iter().collect::<BTreeSet<_>>().len() == parts;
            Ok((0..count).map(|i| tuple(i).filter(differ)).collect())
        };
        let (mut draws, mut spare) = (1..=100, VecDeque::new());
        for (i, mut tuple) in whole(&rows)?.into_iter().enumerate() {
            let tuple = loop {
                if let Some(tuple) = tuple.take().or_else(|| spare.pop_front()) {
                    break tuple;
                }
                let draw = draws.next().ok_or_else(|| self.nothing(rows[i]))?;
                spare.extend(whole(&more(draw))?.into_iter().flatten());
            };
            tuple.into_iter().enumerate().for_each(|(part, row)| rows[part * count + i] = row);
        }
        Ok(rows)
    }

    fn look(&self, known: &[AtomicU8], rows: &[usize]) -> Result<()> {
        rows.par_iter().try_for_each(|&row| self.good(known, row).map(drop))
    }

    /// The row at a place, or what takes its place.
    fn other(&self, known: &[AtomicU8], (place, row): (usize, usize), fits: &[Fits<'_>]) -> Result<Option<usize>> {
        if self.good(known, row)? {
            return Ok(Some(row));
        }
        for (fits, i) in fits.iter().flat_map(|fits| (1..known.len()).map(move |i| (fits, i))) {
            let other = (row + i) % known.len();
            if fits(place, row, other) && self.good(known, other)? {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }

    fn nothing(&self, row: usize) -> anyhow::Error {
        let why = self.why(row);
        anyhow!("{why}; no photo can take its place in training: remove it, or give other --data")
    }

    fn why(&self, row: usize) -> String {
        (self.open)(row).err().map_or_else(|| format!("training photo {row}"), |error| format!("{error:#}"))
    }

    /// Those of `rows` that were found to be of no use.
    pub fn left_out(&self, rows: &[usize]) -> Vec<usize> {
        let bad = |row: &&usize| self.known.as_ref().is_some_and(|known| known[**row].load(Ordering::Relaxed) >= BAD);
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
        if known[row].fetch_max(BAD, Ordering::Relaxed) < BAD {
            match self.said.fetch_add(1, Ordering::Relaxed) {
                said if said < NAMED => say(format!("left out of training: {error:#}")),
                NAMED => say("more photos are left out of training: log.jsonl counts them"),
                _ => {}
            }
        }
        Ok(false)
    }
}
