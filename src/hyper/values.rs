//! Values of flags that more than one paper has.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Runs `set` where `holds`: a preset in one line.
pub fn when(holds: bool, set: impl FnOnce()) {
    if holds {
        set();
    }
}

/// The file that the value of a flag names which takes `FILE|none`, if it does.
pub fn file(value: Option<&str>) -> Option<&str> {
    value.filter(|file| *file != "none")
}

/// Two numbers from 0 to a million with a comma between them.
pub fn two(text: &str) -> std::result::Result<[f64; 2], String> {
    let number = |text: &str| text.parse::<f64>().ok().filter(|x| (0. ..=1e6).contains(x));
    let both = text.split_once(',').and_then(|(a, b)| Some([number(a)?, number(b)?]));
    both.ok_or_else(|| "say two numbers from 0 to 1e6 with a comma between them, e.g. 1,0.5".into())
}

/// Height and width of a network's input in pixels, typed as `256x128`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Size(pub u32, pub u32);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.0, self.1)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Size, String> {
        let sides = text.split_once('x').and_then(|(h, w)| Some(Size(h.parse().ok()?, w.parse().ok()?)));
        let sides = sides.filter(|size| [size.0, size.1].iter().all(|side| (8..=4096).contains(side)));
        sides.ok_or_else(|| "say height x width in pixels, 8 to 4096 each, e.g. 256x128".into())
    }
}

crate::bounds::as_typed!(Size);
