//! Whether photos can be read and used, looked at before a training begins.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use rayon::prelude::*;

use super::Photo;
use crate::metrics::Others;
use crate::say::{count, thousands};

/// How far photos are looked at before they are used.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// So long at most.
    pub within: Duration,
    /// This process's number, and how many there are: each looks at every so many-th, and says what it finds.
    pub part: (usize, usize),
}

impl Look {
    /// Looks at every photo, however long it takes.
    pub const ALL: Look = Look { within: Duration::MAX, part: (0, 1) };

    /// `within` a time, by all of `others` together.
    pub fn shared(within: Duration, others: &impl Others) -> Look {
        Look { within, part: (others.rank(), others.size()) }
    }
}

/// Checks every file (see [`Source::check`]), on all cores.
pub fn check<'a>(photos: impl IntoIterator<Item = &'a Photo>) -> Result<()> {
    look(photos, Look::ALL, |photo| photo.source.check())
}

/// Checks `all` by `usable`, on all cores, as far as it says.
///
/// # Errors
/// One line: how many cannot be used of those looked at, the first of them in the given order, and what to do.
pub(crate) fn look<'a, T: Sync + 'a>(
    all: impl IntoIterator<Item = &'a T>,
    far: Look,
    usable: impl Fn(&T) -> Result<()> + Sync,
) -> Result<()> {
    looked_at(all, far, usable, "the data verb lists them")
}

/// As [`look`]; of several that cannot be used it says what `helps` with them.
pub(super) fn looked_at<'a, T: Sync + 'a>(
    all: impl IntoIterator<Item = &'a T>,
    Look { within, part: (rank, size) }: Look,
    usable: impl Fn(&T) -> Result<()> + Sync,
    helps: &str,
) -> Result<()> {
    let all: Vec<&T> = all.into_iter().skip(rank).step_by(size.max(1)).collect();
    let (begun, looked) = (Instant::now(), AtomicUsize::new(0));
    let one = |(i, item): (usize, &&T)| {
        if begun.elapsed() > within {
            return None;
        }
        looked.fetch_add(1, Ordering::Relaxed);
        usable(item).err().map(|error| (1_usize, Some((i, error))))
    };
    // Only the first error is kept: a folder that is not there would give a million.
    let (bad, first) =
        (all.par_iter().enumerate().filter_map(one)).reduce(|| (0, None), |a, b| (a.0 + b.0, earlier(a.1, b.1)));
    let Some((_, first)) = first else { return Ok(()) };
    let more = if bad > 1 { format!(" ({helps}), the first") } else { String::new() };
    Err(anyhow!("{} of {} cannot be used{more}: {first}", thousands(bad), count(looked.into_inner(), "image")))
}

/// Of two errors with their places, the one that comes first.
fn earlier(a: Option<(usize, anyhow::Error)>, b: Option<(usize, anyhow::Error)>) -> Option<(usize, anyhow::Error)> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if a.0 < b.0 { a } else { b }),
        (a, b) => a.or(b),
    }
}
