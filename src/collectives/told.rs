//! What process 0 has to say, however long it is.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{World, watch};
use crate::once;

/// Bytes that travel at once.
const AT_ONCE: usize = 1 << 23;

impl World {
    /// What `open` makes of folders and lists, which process 0 alone reads and tells the others. The others believe it: what
    /// they cannot find themselves is said when it is looked at.
    ///
    /// # Errors
    /// Those of `open`, and where another process is gone.
    pub fn read_once<T>(&self, open: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.size() == 1 {
            return open();
        }
        if !self.leads() {
            return once::told(self.told_bytes(Vec::new())?, open);
        }
        let (opened, read) = once::kept(open);
        let opened = opened?;
        self.told_bytes(read)?;
        Ok(opened)
    }

    /// What process 0 has to say: its `value`, everywhere.
    ///
    /// # Errors
    /// Where another process is gone.
    pub fn told<T: Serialize + for<'a> Deserialize<'a>>(&self, value: &T) -> Result<T> {
        let own = if self.leads() { serde_json::to_vec(value)? } else { Vec::new() };
        Ok(serde_json::from_slice(&self.told_bytes(own)?)?)
    }

    /// Process 0's bytes, everywhere.
    fn told_bytes(&self, own: Vec<u8>) -> Result<Vec<u8>> {
        let Some(inner) = &self.0 else { return Ok(own) };
        let tell = |part: Tensor| -> Result<Tensor> {
            let part = part.to_device(inner.device);
            inner.group.broadcast(&part).map_err(|error| watch::lost(&error))?;
            Ok(part.to_device(Device::Cpu))
        };
        let length = tell(Tensor::from_slice(&[own.len() as i64]))?.int64_value(&[0]) as usize;
        if self.leads() {
            own.chunks(AT_ONCE).try_for_each(|part| tell(Tensor::from_slice(part)).map(drop))?;
            return Ok(own);
        }
        let mut all = Vec::with_capacity(length);
        while all.len() < length {
            let part = Tensor::zeros([AT_ONCE.min(length - all.len()) as i64], (Kind::Uint8, Device::Cpu));
            all.extend(Vec::<u8>::try_from(tell(part)?)?);
        }
        Ok(all)
    }
}
