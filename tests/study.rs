//! Tables of runs.

use rankle::hyper::{Sets, as_usual};
use rankle::metrics::Score;
use rankle::study::{Grid, Row};

#[test]
fn an_order_holds_or_is_said_to_break_and_where() {
    let of = |steps: &[f64], rises: bool| {
        let cells = steps.iter().map(|&step| vec![vec![vec![Score::new("score", step)]]]).collect();
        let grid = Grid { rows: ["a", "b", "c"].map(String::from).to_vec(), cells };
        let rows: [Row<(), ()>; 3] = ["a", "b", "c"].map(|name| (name, as_usual as Sets<(), ()>, &[] as &[&str]));
        grid.ordered(&rows, "it rises", "score", rises)
    };
    assert_eq!(of(&[1., 1., 2.], true).as_deref(), Some("it rises: yes"));
    assert_eq!(of(&[2., 1., 1.], false).as_deref(), Some("it rises: yes"));
    assert_eq!(of(&[1., 0.5, 0.25], true).as_deref(), Some("it rises: no: a 1.0000 to b 0.5000; b 0.5000 to c 0.2500"));
    assert!(of(&[1., f64::NAN], true).is_some_and(|text| text.contains("no: a 1.0000 to b NaN")));
    assert_eq!(of(&[1.], true), None);
}
