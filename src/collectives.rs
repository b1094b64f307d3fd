//! Several processes at one run: torch.distributed's own engine (c10d: gloo between CPUs, NCCL between GPUs), started
//! by `torchrun` or by any scheduler that sets `RANK`, `WORLD_SIZE`, `MASTER_ADDR` and `MASTER_PORT`.
//!
//! A batch stays one batch: every process embeds its share of the rows, the embeddings of all are gathered, and the loss
//! over all of them is shared out by anchors and summed ([`World::tally`]), with a graph through a process's own rows
//! alone. The gradient of a parameter is then a sum over processes of what flowed through their rows, so that N processes of
//! B rows take the step that one process of N·B rows takes; batch normalisation alone sees a share, unless it is
//! synchronised. A checkpoint resumes with any number.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, nn::VarStore};

use crate::distance::Metric;
use crate::losses::Tally;
use crate::losses::embedded::Loss;
use crate::metrics::Others;

mod env;
mod gradients;
mod native;
mod told;
mod watch;

pub use gradients::Gradients;
pub use watch::{PATIENCE, exit, fail, finish, leave};

/// Ends the process with the line `why`, where an error has no other way to its end.
pub fn fall(why: &str) -> ! {
    fail(why);
    watch::leave_now(1)
}

/// The processes of a run, as one of them sees them.
#[derive(Debug, Clone, Default)]
pub struct World(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    rank: usize,
    size: usize,
    device: Device,
    group: native::Group,
}

/// What every process must be told alike.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    name: String,
    shape: Vec<i64>,
    kind: i32,
}

impl World {
    /// A run of one process: nothing is sent.
    pub fn alone() -> World {
        World::default()
    }

    /// Whether the environment says that this is one process of several.
    ///
    /// # Errors
    /// Where it says so but not in full.
    pub fn is_wanted() -> Result<bool> {
        Ok(env::Place::read()?.is_some())
    }

    /// This process's number among those of its machine (`LOCAL_RANK`, else `RANK`), for the choice of a GPU; and how
    /// many share the machine (`LOCAL_WORLD_SIZE`, else 1).
    ///
    /// # Errors
    /// Where the environment says that there are several processes, but not in full.
    pub fn local() -> Result<(usize, usize)> {
        Ok(env::Place::read()?.map_or((0, 1), |place| (place.local_rank, place.local_size)))
    }

    /// Meets the other processes that the environment speaks of; [`World::alone`] where it speaks of none. Tensors of
    /// collectives live on `device`. From then on a process that ends without [`finish`], or that is not heard of for
    /// `patience`, ends all of them.
    ///
    /// # Errors
    /// In one line: where the environment is wrong, the others do not come within five minutes, or this build cannot.
    pub fn join(device: Device, patience: Duration) -> Result<World> {
        let Some(place) = env::Place::read()? else { return Ok(World::alone()) };
        if let Device::Cuda(_) = device {
            ensure!(
                native::has_nccl(),
                "this build has no NCCL, which several processes on GPUs need: build where the CUDA headers are (papers/README.md, \"Many processes\"), or say --device cpu"
            );
        }
        watch::quiet(place.rank);
        if device.is_cuda() {
            // NCCL's own watchdog would tear a process down before it can say why: ours does that.
            // SAFETY: this early no thread of ours reads the environment.
            unsafe { std::env::set_var("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0") };
        }
        let group = watch::meet(&place, device, patience)?;
        let world = World(Some(Arc::new(Inner { rank: place.rank, size: place.size, device, group })));
        world.barrier()?;
        // Other verbs would meet in collectives of other things.
        let of: Vec<String> = std::env::args().take(2).collect();
        let program = of.first().and_then(|path| path.rsplit('/').next());
        world.agree("the program and its verb: start every process alike", &(program, of.get(1)))?;
        // Never taken down: its destructor waits for collectives that the others may never finish.
        std::mem::forget(world.clone());
        Ok(world)
    }

    /// Whether no collective will meet anyone: false of one process that joined a world of its own (`RANKLE_JOIN_ALONE`).
    pub fn is_alone(&self) -> bool {
        self.0.is_none()
    }

    /// This process's number, from 0.
    pub fn rank(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.rank)
    }

    /// How many processes there are.
    pub fn size(&self) -> usize {
        self.0.as_ref().map_or(1, |inner| inner.size)
    }

    /// Whether this is the process that writes files and speaks.
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// Who embeds which of `rows` rows: consecutive shares of whole units of `unit` rows (K images of a person), as
    /// even as can be.
    ///
    /// # Errors
    /// Where there are fewer units than processes.
    pub fn shares(&self, rows: usize, unit: usize) -> Result<Shares> {
        let (size, units) = (self.size(), rows.div_ceil(unit.max(1)));
        ensure!(
            size == 1 || units >= size,
            "a batch has {units} parts to share and there are {size} processes: start fewer, or make the batch larger"
        );
        let bounds = (0..=size).map(|rank| (rank * units / size * unit.max(1)).min(rows)).collect();
        Ok(Shares { bounds, rank: self.rank() })
    }

    /// The rows of all processes from the shares of each: `x` is this one's, `[own, ...]`, of a floating point kind;
    /// the result `[rows, ...]` is alike on all of them but for its graph, which leads through this one's rows alone.
    ///
    /// # Errors
    /// Where another process is gone.
    ///
    /// # Panics
    /// Where `x` has not as many rows as the share.
    pub fn gather(&self, x: &Tensor, shares: &Shares) -> Result<Tensor> {
        let Some(inner) = &self.0 else { return Ok(x.shallow_clone()) };
        let own = shares.own();
        assert_eq!(x.size()[0], own.len() as i64, "a process gives the rows of its share");
        let most = shares.of().map(|share| share.len()).max().unwrap_or(0) as i64;
        let parts = tch::no_grad(|| -> Result<Vec<Tensor>> {
            let mut shape = x.size();
            shape[0] = most;
            // NCCL and gloo gather equal parts alone.
            let part = Tensor::zeros(&shape, (x.kind(), inner.device));
            part.narrow(0, 0, own.len() as i64).copy_(&x.detach());
            shape[0] = most * inner.size as i64;
            let all = Tensor::empty(&shape, (x.kind(), inner.device));
            inner.group.gather(&all, &part).map_err(|error| watch::lost(&error))?;
            let all = all.to_device(x.device());
            Ok(shares
                .of()
                .enumerate()
                .map(|(rank, share)| all.narrow(0, rank as i64 * most, share.len() as i64))
                .collect())
        })?;
        let parts: Vec<&Tensor> =
            parts.iter().enumerate().map(|(rank, part)| if rank == inner.rank { x } else { part }).collect();
        Ok(Tensor::cat(&parts, 0))
    }

    /// `loss` of the gathered rows `x` `[B, D]` with int64 `labels` `[B]`, alike on all: each process computes the rows of its
    /// own anchors, B/N of them, and the losses and gradients of all are summed. Memory and time of the loss fall with N.
    ///
    /// # Errors
    /// Where another process is gone.
    pub fn tally(&self, loss: Loss, x: &Tensor, labels: &Tensor, metric: Metric) -> Result<Tally> {
        if self.is_alone() {
            return Ok(loss.of(x, labels, metric));
        }
        let bound = |rank: usize| rank as i64 * x.size()[0] / self.size() as i64;
        let share = loss.share(x, labels, metric, bound(self.rank())..bound(self.rank() + 1));
        Ok(share.summed(|of| self.sum(of))?.tally())
    }

    /// [`World::gather`] of lists of numbers of any length, those of process 0 first.
    ///
    /// # Errors
    /// Where another process is gone.
    pub fn gather_lists(&self, own: &[f64]) -> Result<Vec<Vec<f64>>> {
        if self.0.is_none() {
            return Ok(vec![own.to_vec()]);
        }
        // A list's length, and all of it if it is short: most are, and each message takes as long as a thousand rows' distances.
        const HEAD: usize = 16;
        let mut head = [0.; HEAD];
        head[0] = own.len() as f64;
        head.iter_mut().skip(1).zip(own).for_each(|(to, &number)| *to = number);
        let even = Shares { bounds: (0..=self.size()).map(|rank| rank * HEAD).collect(), rank: self.rank() };
        let heads: Vec<f64> = Vec::try_from(self.gather(&Tensor::from_slice(&head), &even)?)?;
        let lengths: Vec<usize> = heads.chunks(HEAD).map(|head| head[0] as usize).collect();
        if lengths.iter().all(|&length| length < HEAD) {
            return Ok(heads.chunks(HEAD).zip(lengths).map(|(head, length)| head[1..=length].to_vec()).collect());
        }
        let mut bounds = vec![0];
        lengths.iter().for_each(|length| bounds.push(bounds[bounds.len() - 1] + length));
        let shares = Shares { bounds, rank: self.rank() };
        let all: Vec<f64> = Vec::try_from(self.gather(&Tensor::from_slice(own), &shares)?)?;
        Ok(shares.of().map(|share| all[share].to_vec()).collect())
    }

    /// The sum of `x`, of one shape everywhere, over all processes, without a graph.
    ///
    /// # Errors
    /// Where another process is gone.
    pub fn sum(&self, x: &Tensor) -> Result<Tensor> {
        let Some(inner) = &self.0 else { return Ok(x.detach().copy()) };
        let own = x.detach().to_device(inner.device).contiguous().copy();
        inner.group.sum(&own).map_err(|error| watch::lost(&error))?;
        Ok(own.to_device(x.device()))
    }

    /// The sum of `x` over all processes, with a graph: what a process put in has the gradient that comes back to any
    /// of them.
    ///
    /// # Errors
    /// Where another process is gone.
    pub fn sum_with_grad(&self, x: &Tensor) -> Result<Tensor> {
        let Some(inner) = &self.0 else { return Ok(x.shallow_clone()) };
        inner.group.sum_with_grad(x).map_err(|error| watch::lost(&error))
    }

    /// Waits for all processes.
    ///
    /// # Errors
    /// Where another process is gone.
    pub fn barrier(&self) -> Result<()> {
        if let Some(inner) = &self.0 {
            let one = Tensor::ones([1], (Kind::Float, inner.device));
            inner.group.sum(&one).map_err(|error| watch::lost(&error))?;
            // On a GPU the collective is only queued: reading its result is what waits.
            let _ = one.double_value(&[0]);
        }
        Ok(())
    }

    /// An error where process 0 has another `value` than this one; `what` names what differs and how to mend it.
    ///
    /// # Errors
    /// So, and where another process is gone.
    pub fn agree(&self, what: &str, value: &impl Serialize) -> Result<()> {
        if self.0.is_none() {
            return Ok(());
        }
        // A hash of it: there may be millions of names in it.
        let mut own = blake3::Hasher::new();
        serde_json::to_writer(&mut own, value)?;
        let own = own.finalize().to_hex().to_string();
        let leader: String = self.told(&own)?;
        // Everyone hears of it, so that nobody waits for the one that stops.
        let differs = self.sum(&Tensor::from_slice(&[i64::from(leader != own)]))?.int64_value(&[0]);
        if leader != own {
            bail!("{what}: not the same as in process 0");
        }
        ensure!(differs == 0, "{what}: not the same in {differs} of {} processes", self.size());
        Ok(())
    }

    /// What `work` gives in process 0, which alone does it, and None in the others, who wait for as long as it calls what it is
    /// given, every so often.
    ///
    /// # Errors
    /// Where another process is gone.
    pub fn led<T>(&self, work: impl FnOnce(&dyn Fn()) -> T) -> Result<Option<T>> {
        if self.is_alone() {
            return Ok(Some(work(&|| ())));
        }
        if !self.leads() {
            while self.told(&false)? {}
            return Ok(None);
        }
        let gone = RefCell::new(Ok(true));
        let found = work(&|| {
            let mut gone = gone.borrow_mut();
            if gone.is_ok() {
                *gone = self.told(&true);
            }
        });
        gone.into_inner()?;
        self.told(&false)?;
        Ok(Some(found))
    }

    /// Process 0's named tensors, everywhere; those of the others are not looked at. They come back on the CPU where
    /// they were not this process's own.
    ///
    /// # Errors
    /// Where another process is gone.
    pub fn told_tensors(&self, tensors: Vec<(String, Tensor)>) -> Result<Vec<(String, Tensor)>> {
        let Some(inner) = &self.0 else { return Ok(tensors) };
        let header =
            |(name, x): &(String, Tensor)| Header { name: name.clone(), shape: x.size(), kind: x.kind() as i32 };
        let headers: Vec<Header> = self.told(&tensors.iter().map(header).collect::<Vec<_>>())?;
        let mut own = if self.leads() { tensors } else { Vec::new() }.into_iter();
        let mut all = Vec::with_capacity(headers.len());
        for Header { name, shape, kind } in headers {
            let kind = kind_of(kind).ok_or_else(|| anyhow!("{name} is of a kind that cannot be sent"))?;
            let x = match own.next() {
                Some((_, x)) => x.detach().to_device(inner.device).contiguous(),
                None => Tensor::zeros(&shape, (kind, inner.device)),
            };
            inner.group.broadcast(&x).map_err(|error| watch::lost(&error))?;
            all.push((name, x.to_device(Device::Cpu)));
        }
        Ok(all)
    }

    /// Process 0's variables into the `store` of all.
    ///
    /// # Errors
    /// Where another process is gone or has another network.
    pub fn share_variables(&self, store: &VarStore) -> Result<()> {
        let Some(inner) = &self.0 else { return Ok(()) };
        let mut variables: Vec<(String, Tensor)> = store.variables().into_iter().collect();
        variables.sort_by(|a, b| a.0.cmp(&b.0));
        let shapes: Vec<(&str, Vec<i64>)> = variables.iter().map(|(name, x)| (name.as_str(), x.size())).collect();
        self.agree("the network: give every process the same flags", &shapes)?;
        tch::no_grad(|| {
            for (_, mut x) in variables {
                let whole = x.detach().to_device(inner.device).contiguous();
                inner.group.broadcast(&whole).map_err(|error| watch::lost(&error))?;
                x.copy_(&whole);
            }
            Ok(())
        })
    }
}

impl Others for World {
    type Error = anyhow::Error;

    fn rank(&self) -> usize {
        World::rank(self)
    }

    fn size(&self) -> usize {
        World::size(self)
    }

    fn gather(&self, own: &[f64]) -> Result<Vec<Vec<f64>>> {
        self.gather_lists(own)
    }
}

/// The kinds that checkpoints hold, by libtorch's number.
fn kind_of(number: i32) -> Option<Kind> {
    use Kind::*;
    [Uint8, Int8, Int16, Int, Int64, Half, Float, Double, Bool, BFloat16]
        .into_iter()
        .find(|kind| *kind as i32 == number)
}

/// Which rows of a batch each process embeds.
#[derive(Debug, Clone)]
pub struct Shares {
    bounds: Vec<usize>,
    rank: usize,
}

impl Shares {
    /// This process's rows.
    pub fn own(&self) -> Range<usize> {
        self.bounds[self.rank]..self.bounds[self.rank + 1]
    }

    /// The rows of every process, in their order.
    pub fn of(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.bounds.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// This process's rows in consecutive parts of at most `most`, as many parts in every process; None where one has
    /// fewer rows than that.
    pub fn passes(&self, most: usize) -> Option<Vec<Range<usize>>> {
        let (own, longest) = (self.own(), self.of().map(|share| share.len()).max().unwrap_or(1));
        let count = longest.div_ceil(most);
        let part = |i: usize| own.start + i * own.len() / count..own.start + (i + 1) * own.len() / count;
        self.of().all(|share| share.len() >= count).then(|| (0..count).map(part).collect())
    }
}
