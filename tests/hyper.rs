//! Flags of a small paper: which values hold, which are needed, idle or departures, and what a folder is called.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use rankle::hyper::{
    All, Follow, Heading, Hyper, Idle,
    Place::{At, Ours, Says},
    Size, Typed, check_bounds, data_name, departures, flags, folder, from_flags, needed, refuse_idle, resolve, shown,
    sound, two, varied, when, with,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::common::{has, line};

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Net {
    Large,
    Small,
}

#[derive(Args, Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Small {
    /// What is trained on
    #[arg(long, default_value = "all", add = At("Section 1"), help_heading = Heading::Data)]
    data: String,
    /// The network
    #[arg(long, value_enum, default_value_t = Net::Large, add = At("Section 2"), help_heading = Heading::Network)]
    net: Net,
    /// Its width
    #[arg(long, default_value_t = 100, value_parser = rankle::hyper::within(1..=1000_i64), add = At("Section 2"))]
    width: i64,
    /// Dropout, of the large one
    #[arg(long, default_value_t = 0.5, add = Says("Section 2", "before the last layer"))]
    dropout: f64,
    /// Rate
    #[arg(long, default_value_t = 0.1, add = At("Section 3"), help_heading = Heading::Optimisation)]
    lr: f64,
    /// Rate of the second stage
    #[arg(long, default_value_t = 0.01, add = Ours)]
    lr2: f64,
    /// Steps
    #[arg(long, default_value_t = 500, add = At("Section 3"))]
    steps: u64,
}

impl Hyper for Small {
    const PRESETS: &'static [fn(&mut Small)] = &[
        |h| when(h.data == "drawn", || h.net = Net::Small),
        |h| {
            if h.net == Net::Small {
                (h.width, h.lr2) = (8, 0.5);
            }
        },
    ];
    const FOLLOW: &'static [Follow<Small>] = &[("lr", |h| h.lr2 = h.lr / 10.)];
    const IDLE: &'static [Idle<Small>] = &[(&["dropout"], |h| h.net == Net::Large)];
    const AXES: &'static [&'static str] = &["net"];
    const NAMED: &'static [&'static str] = &["data", "?width", "seed"];
}

type Flags = Map<String, Value>;

fn of(typed: Value) -> All<Small> {
    resolve(typed.as_object().expect("flags"), &|_| ()).expect("fits")
}

/// Each row: what is typed, and the network, width and second rate that follow.
#[test]
fn defaults_chain_and_what_is_typed_wins_at_every_link() {
    for (typed, wanted) in [
        (json!({}), (Net::Large, 100, 0.01)),
        (json!({"data": "drawn"}), (Net::Small, 8, 0.5)),
        (json!({"net": "small"}), (Net::Small, 8, 0.5)),
        (json!({"data": "drawn", "net": "large"}), (Net::Large, 100, 0.01)),
        (json!({"data": "drawn", "width": 9}), (Net::Small, 9, 0.5)),
        // A rate follows the one that is typed, at its usual value too, whatever a preset says; its own wins.
        (json!({"lr": 0.1}), (Net::Large, 100, 0.1 / 10.)),
        (json!({"data": "drawn", "lr": 0.1}), (Net::Small, 8, 0.1 / 10.)),
        (json!({"data": "drawn", "lr": 0.4, "lr2": 7.0}), (Net::Small, 8, 7.)),
    ] {
        let own = of(typed.clone()).own;
        assert_eq!((own.net, own.width, own.lr2), wanted, "{typed}");
    }
    sound::<Small, NoFlags>().expect("a sound paper");
}

/// Of every set of flags: they give the same again, and none can be left out.
#[test]
fn what_has_to_be_typed_is_enough_and_no_more() {
    let choices = [("data", json!("drawn")), ("net", json!("large")), ("width", json!(8)), ("lr", json!(0.3))];
    for set in 0..1_usize << choices.len() {
        let chosen = choices.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1).map(|(_, choice)| choice);
        let typed: Flags = chosen.map(|(flag, value)| (flag.to_string(), value.clone())).collect();
        let resolved = |typed: &Flags| resolve::<Small>(typed, &|_| ()).expect("fits");
        let found = needed::<Small>(&flags(&resolved(&typed).own)).expect("flags");
        assert_eq!(resolved(&found), resolved(&typed), "{typed:?}");
        for flag in found.keys() {
            let mut fewer = found.clone();
            fewer.remove(flag);
            assert_ne!(resolved(&fewer), resolved(&typed), "{typed:?}: {flag} of {found:?}");
        }
    }
}

#[test]
fn idle_flags_and_departures_are_said_with_their_place() {
    let small = of(json!({"net": "small", "dropout": 0.9, "lr": 0.3, "lr2": 4.0, "steps": 7}));
    let typed = json!({"dropout": 0.9}).as_object().expect("flags").clone();
    assert_eq!(
        line(refuse_idle(&small.own, &typed, Typed::Here)),
        "--dropout has no effect here: leave it out, or say --net large"
    );
    assert_eq!(
        line(refuse_idle(&small.own, &typed, Typed::Before)),
        "--dropout has no effect on this run: leave it out"
    );
    refuse_idle(&of(json!({})).own, &typed, Typed::Here).expect("looked at");
    // Neither what is idle, nor the paper's own choice and what follows from it, nor what is ours.
    assert_eq!(departures(&small, |_| true), ["--lr 0.3 (Section 3: 0.1)", "--steps 7 (Section 3: 500)"]);
    assert_eq!(departures(&of(json!({"dropout": 0.0})), |_| true), ["--dropout 0 (Section 2: 0.5)"]);
    assert!(departures(&of(json!({"net": "small"})), |_| true).is_empty());
    assert!(departures(&small, |flag| flag != "lr" && flag != "steps").is_empty());
}

#[test]
fn a_folder_is_called_by_its_data_and_what_differs() {
    let called = |typed: Value| folder("p", &of(typed));
    assert_eq!(called(json!({"data": "a/b/"})), Path::new("data/runs/p/b-1"));
    assert_eq!(called(json!({"data": "drawn", "width": 100, "seed": 7})), Path::new("data/runs/p/drawn-7"));
    assert_eq!(called(json!({"data": "drawn"})), Path::new("data/runs/p/drawn-width8-1"));
    for (data, name) in [("x/labeled", "x-labeled"), ("labeled", "labeled"), ("..", "here"), ("/a/b/.", "b")] {
        assert_eq!(data_name(data), name);
    }
}

#[test]
fn flags_go_into_json_and_back_and_a_wrong_one_is_named() {
    let all = of(json!({"net": "small", "seed": 3, "log-every": 5}));
    let known = flags(&all);
    assert_eq!(from_flags::<All<Small>>(&known).expect("the same"), all);
    assert_eq!((shown(&all, "log-every").as_str(), shown(&all, "net").as_str()), ("5", "small"));
    let wrong =
        |value: Value| format!("{:#}", with(&all, &Map::from_iter([("width".into(), value)])).expect_err("wrong"));
    has(&wrong(json!("wide")), "--width wide|say a value like 8");
    let bounds = |value: Value| check_bounds::<Small>(&Map::from_iter([("width".to_string(), value)]));
    bounds(json!(1000)).expect("within");
    assert_eq!(line(bounds(json!(1001))), "--width 1001: say 1 to 1000");
    let [a, b] = [json!({}), json!({"lr": 0.3})].map(|typed| flags(&of(typed)));
    assert_eq!(varied(&[a.clone(), b]), ["lr", "lr2"]);
    assert!(varied(&[a.clone(), a]).is_empty());
    for (text, size) in
        [("256x128", Some(Size(256, 128))), ("7x128", None), ("8x4097", None), ("8", None), ("8x-8", None)]
    {
        assert_eq!(text.parse::<Size>().ok(), size, "{text}");
    }
    assert_eq!((two("1,0.5"), two("1").is_err(), two("1,nan").is_err()), (Ok([1., 0.5]), true, true));
}

#[derive(Args)]
struct NoFlags {}

#[derive(Args, Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Misnamed {
    /// Another run
    #[arg(long, add = Ours, help_heading = Heading::Data)]
    start: Option<PathBuf>,
}

impl Hyper for Misnamed {
    const LENGTH: &'static [&'static str] = &[];
    const NAMED: &'static [&'static str] = &["?start", "gone|start"];
}

#[derive(Args, Serialize)]
struct NoPlace {
    /// Without a place
    #[arg(long)]
    lost: bool,
}

#[test]
fn a_paper_that_is_not_sound_is_told_why() {
    assert_eq!(line(sound::<Misnamed, NoFlags>()), "a row names --gone, which does not exist");
    assert_eq!(
        line(sound::<Small, NoPlace>()),
        "--lost has no place in the paper and is not marked ours: Without a place"
    );
}
