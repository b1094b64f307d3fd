//! Numbers within bounds, as flags take them: for clap's `value_parser`.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A number within `range`, else a line that says so: for `value_parser`.
pub fn within<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse::<T>().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("say {} to {}", range.start(), range.end()))
    }
}

/// How many steps, batches or images: 1 to a thousand million.
pub fn count(text: &str) -> Result<u64, String> {
    within(1..=1_000_000_000_u64)(text)
}

/// A number above 0: a learning rate, say.
pub fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| *number > 0. && *number <= 1e6);
    number.ok_or_else(|| "say a number above 0, e.g. 0.001".into())
}
