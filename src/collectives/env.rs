//! What `torchrun` or a scheduler says in the environment.

use anyhow::{Context, Result, bail, ensure};

/// A process's place among all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub rank: usize,
    pub size: usize,
    pub local_rank: usize,
    pub local_size: usize,
    pub host: String,
    pub port: u16,
    /// Whether this process holds the store: `torchrun`'s own agent does where it says so.
    pub serves: bool,
    /// Keeps runs, and numbers of processes, in one store apart.
    pub prefix: String,
}

/// So many processes may meet.
const MOST: usize = 1 << 16;

impl Place {
    /// None where `WORLD_SIZE` is absent, or 1 and `RANKLE_JOIN_ALONE` is not set. Errors name the variable.
    pub fn read() -> Result<Option<Place>> {
        Place::of(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn of(get: impl Fn(&str) -> Option<String>) -> Result<Option<Place>> {
        let number = |name: &str| -> Result<Option<usize>> {
            let Some(value) = get(name) else { return Ok(None) };
            let parsed = value.trim().parse::<usize>();
            Ok(Some(
                parsed
                    .ok()
                    .with_context(|| format!("{name} is {value:?} in the environment: it must be a whole number"))?,
            ))
        };
        let needed = |name: &str| {
            get(name).with_context(|| {
                format!("WORLD_SIZE is set but {name} is not: start through torchrun, or set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT")
            })
        };
        let Some(size) = number("WORLD_SIZE")? else {
            ensure!(
                get("RANK").is_none(),
                "RANK is set but WORLD_SIZE is not: start through torchrun, or set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, or unset RANK"
            );
            return Ok(None);
        };
        ensure!(
            (1..=MOST).contains(&size),
            "WORLD_SIZE is {size} in the environment: say how many processes there are (1 to {MOST}), or unset it"
        );
        let rank = number("RANK")?.unwrap_or(0);
        ensure!(rank < size, "RANK is {rank} but WORLD_SIZE is {size}: ranks run from 0 to {}", size - 1);
        if size == 1 && get("RANKLE_JOIN_ALONE").is_none() {
            return Ok(None);
        }
        needed("RANK")?;
        let host = needed("MASTER_ADDR")?;
        let port = needed("MASTER_PORT")?;
        let Some(port) = port.trim().parse::<u16>().ok().filter(|port| *port > 0) else {
            bail!("MASTER_PORT is {port:?} in the environment: it must be a port, 1 to 65535")
        };
        let agent = get("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True");
        let run = get("TORCHELASTIC_RUN_ID").unwrap_or_default();
        Ok(Some(Place {
            rank,
            size,
            local_rank: number("LOCAL_RANK")?.unwrap_or(rank),
            local_size: number("LOCAL_WORLD_SIZE")?.unwrap_or(1).max(1),
            host,
            port,
            serves: rank == 0 && !agent,
            prefix: format!("rankle/{run}/{size}"),
        }))
    }
}
