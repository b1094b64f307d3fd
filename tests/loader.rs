//! The loader: order, bounds, errors, panics.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, bail};
use rankle::loader::Loader;
use rankle::seed;

#[test]
fn loader_delivers_in_order_whatever_the_threads() {
    for (workers, depth) in [(1, 1), (2, 1), (2, 3), (5, 2), (5, 16), (0, 0)] {
        // Later items are quicker, so that they finish first.
        let make = |index: u64| {
            std::thread::sleep(std::time::Duration::from_micros((97 * index) % 400));
            Ok(seed::mix(index))
        };
        let loader = Loader::new(3..90, workers, depth, make).unwrap();
        assert_eq!(loader.size_hint(), (87, Some(87)));
        let items: Vec<u64> = loader.map(Result::unwrap).collect();
        assert_eq!(items, (3..90).map(seed::mix).collect::<Vec<_>>());
    }
    #[expect(clippy::reversed_empty_ranges)]
    let mut none = Loader::new(5..2, 2, 2, Ok).unwrap();
    assert!(none.next().is_none() && none.next().is_none());
}

#[test]
fn a_loader_thread_computes_by_itself_and_the_others_as_before() {
    let before = tch::get_num_threads();
    let counts: Vec<i32> =
        Loader::new(0..6, 2, 2, |_| Ok(tch::get_num_threads())).unwrap().map(Result::unwrap).collect();
    assert_eq!(counts, [1; 6]);
    let started_later = std::thread::spawn(tch::get_num_threads).join().unwrap();
    assert_eq!((tch::get_num_threads(), started_later), (before, before));
}

/// Counts itself while it lives.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn loader_holds_no_more_than_its_depth() {
    let (live, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counter, peak) = (live.clone(), most.clone());
    let make = move |_| {
        peak.fetch_max(counter.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        Ok(Counted(counter.clone()))
    };
    let mut loader = Loader::new(0..u64::MAX, 4, 3, make).unwrap();
    for _ in 0..50 {
        let item = loader.next().unwrap().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(300));
        drop(item);
    }
    drop(loader); // far from the range's end: the threads stop and every item goes
    assert_eq!(live.load(Ordering::SeqCst), 0);
    let most = most.load(Ordering::SeqCst);
    assert!((2..=4).contains(&most), "{most} items: 3 ahead and the consumer's");
}

#[test]
fn loader_passes_errors_and_panics_on_in_their_place() {
    let make = |index| match index {
        3 => bail!("no file {index}"),
        5 => panic!("broken {index}"),
        6 => std::panic::panic_any("plain"),
        _ => Ok(index),
    };
    for workers in [1, 2, 5] {
        let mut loader = Loader::new(0..9, workers, 4, make).unwrap();
        let seen: Vec<String> =
            loader.by_ref().map(|item| item.map_or_else(|e| format!("{e:#}"), |i| i.to_string())).collect();
        let (a, b) = ("loading item 5 panicked: broken 5", "loading item 6 panicked: plain");
        assert_eq!(seen, ["0", "1", "2", "no file 3", "4", a, b, "7", "8"]);
    }
}

#[test]
fn loader_counts_the_wait() {
    let slow = |index| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        Ok(index)
    };
    let start = std::time::Instant::now();
    let mut loader = Loader::new(0..2, 1, 1, slow).unwrap();
    assert!(loader.waited().is_zero());
    loader.by_ref().for_each(drop);
    assert!(!loader.waited().is_zero() && loader.waited() <= start.elapsed());
}
