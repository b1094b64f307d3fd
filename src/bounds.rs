//! Numbers within bounds: as flags take them, for clap's `value_parser`, and what of the machine's memory they ask for.

use std::fmt::Display;
use std::fs::read_to_string;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;
use std::sync::OnceLock;

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
    number.ok_or_else(|| "say a number above 0, at most 1000000, e.g. 0.001".into())
}

/// Has serde take and give a type as it is typed, by its `FromStr` and `Display`; for `#[serde(into = "String", try_from = "String")]`.
macro_rules! as_typed {
    ($name:ty) => {
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> std::result::Result<$name, String> {
                text.parse()
            }
        }
    };
}
pub(crate) use as_typed;

/// Bytes of memory that this machine has, or that the control groups of this process leave it.
pub fn memory() -> u64 {
    static FOUND: OnceLock<u64> = OnceLock::new();
    *FOUND.get_or_init(|| {
        // SAFETY: asks for two numbers.
        let number = |name| u64::try_from(unsafe { libc::sysconf(name) }).unwrap_or(u64::MAX);
        let all = number(libc::_SC_PHYS_PAGES).saturating_mul(number(libc::_SC_PAGESIZE));
        let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
        limit(Path::new("/sys/fs/cgroup"), &groups).map_or(all, |limit| limit.min(all))
    })
}

/// The most bytes of memory that this process has had at once, where the system says.
pub fn resident() -> Option<u64> {
    let status = read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

/// The least limit of memory, in bytes, of control groups and of those above them: `groups` are lines of
/// `/proc/self/cgroup`, of version 2 (`0::/a/b`) and 1 (`4:memory:/a/b`), which lie below the folder `root`.
pub fn limit(root: &Path, groups: &str) -> Option<u64> {
    let of = |line: &str| -> Option<u64> {
        let (kinds, group) = line.split_once(':')?.1.split_once(':')?;
        let (root, file) = match kinds {
            "" => (root.to_path_buf(), "memory.max"),
            _ if kinds.split(',').any(|kind| kind == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => return None,
        };
        // A container sees its own group as the root, under a name that leads nowhere.
        let group = root.join(group.trim_start_matches('/'));
        let above = group.ancestors().take_while(|at| at.starts_with(&root));
        above.filter_map(|at| read_to_string(at.join(file)).ok()?.trim().parse().ok()).min()
    };
    groups.lines().chain(["0::/"]).filter_map(of).min()
}

/// How many numbers of `bytes` bytes the `sides` of something make, all at once in memory.
///
/// # Errors
/// Where a side is negative, or they are more than the machine's memory: a line that begins with what it is out of.
pub fn room(sides: impl IntoIterator<Item = i64> + Clone, bytes: u64) -> Result<usize, String> {
    let numbers = sides.clone().into_iter().try_fold(1_u64, |all, side| all.checked_mul(u64::try_from(side).ok()?));
    let fits = numbers.filter(|numbers| numbers.checked_mul(bytes).is_some_and(|bytes| bytes <= memory()));
    fits.map(|numbers| numbers as usize).ok_or_else(|| {
        let sides: Vec<String> = sides.into_iter().map(|side| side.to_string()).collect();
        format!("out of memory: {} numbers at once, this machine has {} MiB", sides.join(" x "), memory() >> 20)
    })
}
