//! The part of Python's pickle format that state dicts are written in, read without running anything.
//!
//! A pickle is a program for a stack machine that may import and call any Python function. This machine knows the
//! operations of protocol 2 and the few names that PyTorch needs to write tensors in dictionaries; every other
//! operation or name is an error. Values are small and refer to each other by number, so that a pickle of whatever
//! nesting, even one that contains itself, costs no more than its length.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use tch::Kind;

/// A value; what it consists of is in the [`Heap`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// A number that is no whole number of 64 bits, which a state dict has no use for.
    Number,
    Text(&'a str),
    /// A tuple or list: its place among [`Heap::sequences`].
    Sequence(usize),
    /// Its place among [`Heap::dicts`].
    Dict(usize),
    Global(Global),
    /// Its place among [`Heap::storages`].
    Storage(usize),
    /// Its place among [`Heap::tensors`].
    Tensor(usize),
}

/// The names that a pickle may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    /// `_rebuild_parameter` and, before PyTorch 0.4, `Parameter` itself: a tensor and things that aren't needed.
    RebuildParameter,
    Storage(Kind),
}

/// Numbers outside the pickle, or (in files before PyTorch 0.4) a part of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage<'a> {
    pub kind: Kind,
    pub key: &'a str,
    /// Elements of the whole storage.
    pub whole: i64,
    /// The part's first element and how many it has.
    pub first: i64,
    pub count: i64,
}

/// `_rebuild_tensor_v2`: what a tensor is within its storage, unchecked.
#[derive(Debug, Clone)]
pub(super) struct TensorOf<'a> {
    pub storage: Storage<'a>,
    pub offset: i64,
    pub size: Vec<i64>,
    pub stride: Vec<i64>,
}

/// What the values of one or more pickles consist of.
#[derive(Debug, Default)]
pub(super) struct Heap<'a> {
    pub sequences: Vec<Vec<Value<'a>>>,
    pub dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    pub storages: Vec<Storage<'a>>,
    pub tensors: Vec<TensorOf<'a>>,
}

/// No pickle of a state dict is nearly that long: they are some 200 bytes a tensor.
const LONGEST: usize = 64 << 20;

/// Reads the pickle at the front of `bytes`: its value and its length.
pub(super) fn read<'a>(bytes: &'a [u8], heap: &mut Heap<'a>) -> Result<(Value<'a>, usize)> {
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    let mut machine =
        Machine { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), copied: 0, heap };
    loop {
        if let Some(value) = machine.step()? {
            return Ok((value, machine.at));
        }
    }
}

struct Machine<'a, 'h> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack at which a MARK was set.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    /// Items copied out of lists; an honest pickle copies each once.
    copied: usize,
    heap: &'h mut Heap<'a>,
}

impl<'a> Machine<'a, '_> {
    /// One operation; the value where it was the last.
    fn step(&mut self) -> Result<Option<Value<'a>>> {
        let value = match self.byte()? {
            0x80 => {
                let protocol = self.byte()?;
                ensure!(
                    protocol <= 2,
                    "its pickle is of protocol {protocol}, and torch.save's own is 2: save it again without pickle_protocol"
                );
                return Ok(None);
            }
            b'.' => return self.pop().map(Some),
            b'(' => {
                self.marks.push(self.stack.len());
                return Ok(None);
            }
            b'0' => {
                self.pop()?;
                return Ok(None);
            }
            b'1' => {
                self.pop_mark()?;
                return Ok(None);
            }
            b'2' => self.top()?,
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'K' => Value::Int(self.number(1)?.into()),
            b'M' => Value::Int(self.number(2)?.into()),
            b'J' => Value::Int(i64::from(self.number(4)? as i32)),
            0x8a => self.long()?,
            b'G' => {
                self.take(8)?;
                Value::Number
            }
            b'X' | b'T' => self.text(4)?,
            b'U' => self.text(1)?,
            b'}' => self.dict(Vec::new()),
            b']' | b')' => self.sequence(Vec::new()),
            b't' => {
                let items = self.pop_mark()?;
                self.sequence(items)
            }
            code @ 0x85..=0x87 => {
                let mut items = (0x84..code).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
                items.reverse();
                self.sequence(items)
            }
            b'a' => {
                let item = self.pop()?;
                return self.append(vec![item]);
            }
            b'e' => {
                let items = self.pop_mark()?;
                return self.append(items);
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                return self.set(&[key, value]);
            }
            b'u' => {
                let items = self.pop_mark()?;
                return self.set(&items);
            }
            b'q' => return self.remember(1),
            b'r' => return self.remember(4),
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            b'c' => self.global()?,
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.call(function, arguments)?
            }
            // Attributes: an OrderedDict's _metadata, an old Parameter's requires_grad; not needed.
            b'b' => {
                self.pop()?;
                self.top()?;
                return Ok(None);
            }
            b'Q' => {
                let id = self.pop()?;
                self.storage(id)?
            }
            other => bail!("its pickle has the operation {other:#04x}, which no state dict needs"),
        };
        self.stack.push(value);
        Ok(None)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let taken =
            self.at.checked_add(count).and_then(|end| self.bytes.get(self.at..end)).context("it is cut short")?;
        self.at += count;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// A little-endian unsigned number of up to 4 bytes.
    fn number(&mut self, bytes: usize) -> Result<u32> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte)))
    }

    /// LONG1: little-endian, two's complement.
    fn long(&mut self) -> Result<Value<'a>> {
        let length = self.byte()?;
        let bytes = self.take(length.into())?;
        if bytes.len() > 8 {
            return Ok(Value::Number);
        }
        let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        Ok(Value::Int(i64::from_le_bytes(wide)))
    }

    fn text(&mut self, bytes: usize) -> Result<Value<'a>> {
        let length = self.number(bytes)?;
        let text = std::str::from_utf8(self.take(length as usize)?);
        Ok(Value::Text(text.ok().context("a text in it is no UTF-8")?))
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().take(1024).position(|&byte| byte == b'\n').context("a name in it has no end")?;
        let line = self.take(length + 1)?;
        std::str::from_utf8(&line[..length]).ok().context("a name in it is no UTF-8")
    }

    fn top(&self) -> Result<Value<'a>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack[floor..].last().copied().context("its pickle takes from an empty stack")
    }

    fn pop(&mut self) -> Result<Value<'a>> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// What stands above the last MARK.
    fn pop_mark(&mut self) -> Result<Vec<Value<'a>>> {
        let mark = self.marks.pop().context("its pickle lacks a mark")?;
        Ok(self.stack.split_off(mark))
    }

    fn remember(&mut self, bytes: usize) -> Result<Option<Value<'a>>> {
        let at = self.number(bytes)?;
        let top = self.top()?;
        self.memo.insert(at, top);
        Ok(None)
    }

    fn recall(&mut self, bytes: usize) -> Result<Value<'a>> {
        let at = self.number(bytes)?;
        self.memo.get(&at).copied().context("its pickle recalls what it never stored")
    }

    fn sequence(&mut self, items: Vec<Value<'a>>) -> Value<'a> {
        self.heap.sequences.push(items);
        Value::Sequence(self.heap.sequences.len() - 1)
    }

    fn dict(&mut self, items: Vec<(Value<'a>, Value<'a>)>) -> Value<'a> {
        self.heap.dicts.push(items);
        Value::Dict(self.heap.dicts.len() - 1)
    }

    fn append(&mut self, items: Vec<Value<'a>>) -> Result<Option<Value<'a>>> {
        let Value::Sequence(list) = self.top()? else { bail!("its pickle appends to what is no list") };
        self.heap.sequences[list].extend(items);
        Ok(None)
    }

    fn set(&mut self, items: &[Value<'a>]) -> Result<Option<Value<'a>>> {
        let Value::Dict(dict) = self.top()? else { bail!("its pickle sets items of what is no dictionary") };
        ensure!(items.len().is_multiple_of(2), "its pickle has a key without a value");
        self.heap.dicts[dict].extend(items.chunks_exact(2).map(|item| (item[0], item[1])));
        Ok(None)
    }

    fn global(&mut self) -> Result<Value<'a>> {
        let (module, name) = (self.line()?, self.line()?);
        Ok(Value::Global(match (module, name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") | ("torch.nn.parameter", "Parameter") => Global::RebuildParameter,
            ("torch", storage) => Global::Storage(match storage {
                "FloatStorage" => Kind::Float,
                "DoubleStorage" => Kind::Double,
                "HalfStorage" => Kind::Half,
                "BFloat16Storage" => Kind::BFloat16,
                "LongStorage" => Kind::Int64,
                "IntStorage" => Kind::Int,
                "ShortStorage" => Kind::Int16,
                "CharStorage" => Kind::Int8,
                "ByteStorage" => Kind::Uint8,
                "BoolStorage" => Kind::Bool,
                "ComplexFloatStorage" => Kind::ComplexFloat,
                _ => bail!("it holds a {:?}, which no state dict needs", format!("torch.{storage}")),
            }),
            _ => {
                bail!("it uses {:?}, which no state dict needs: save the state dict alone", format!("{module}.{name}"))
            }
        }))
    }

    fn items(&self, value: Value<'a>) -> Result<&[Value<'a>]> {
        let Value::Sequence(place) = value else { bail!("its pickle has something else for a list") };
        Ok(&self.heap.sequences[place])
    }

    fn call(&mut self, function: Value<'a>, arguments: Value<'a>) -> Result<Value<'a>> {
        let arguments = self.items(arguments)?;
        match (function, arguments) {
            (Value::Global(Global::OrderedDict), []) => Ok(self.dict(Vec::new())),
            // Python 2 gives the items with the call.
            (Value::Global(Global::OrderedDict), &[items]) => {
                let pair = |&item| match self.items(item)? {
                    &[key, value] => Ok((key, value)),
                    _ => bail!("its pickle has a key without a value"),
                };
                let items = self.items(items)?.iter().map(pair).collect::<Result<Vec<_>>>()?;
                self.copied += items.len();
                ensure!(self.copied <= self.bytes.len(), "its pickle copies a list over and over");
                Ok(self.dict(items))
            }
            (Value::Global(Global::RebuildParameter), &[tensor @ Value::Tensor(_), ..]) => Ok(tensor),
            (
                Value::Global(Global::RebuildTensor),
                &[Value::Storage(storage), Value::Int(offset), size, stride, ..],
            ) => {
                let numbers = |value| {
                    let number = |item: &Value| match *item {
                        Value::Int(number) => Ok(number),
                        _ => bail!("a tensor's size is no number"),
                    };
                    let items = self.items(value)?;
                    ensure!(items.len() <= 32, "a tensor has {} axes", items.len());
                    items.iter().map(number).collect::<Result<Vec<_>>>()
                };
                let (size, stride) = (numbers(size)?, numbers(stride)?);
                let storage = self.heap.storages[storage];
                self.heap.tensors.push(TensorOf { storage, offset, size, stride });
                Ok(Value::Tensor(self.heap.tensors.len() - 1))
            }
            _ => bail!("its pickle calls what is no function of a state dict, or with other arguments"),
        }
    }

    /// `("storage", class, key, device, elements)` and, in the older form, `None` or `(key, first, elements)` of a
    /// part.
    fn storage(&mut self, id: Value<'a>) -> Result<Value<'a>> {
        let &[
            Value::Text("storage"),
            Value::Global(Global::Storage(kind)),
            Value::Text(key),
            _,
            Value::Int(whole),
            ref rest @ ..,
        ] = self.items(id)?
        else {
            bail!("it holds more than a state dict, maybe a whole model: save its state_dict()");
        };
        let (first, count) = match rest {
            [] | [Value::None] => (0, whole),
            &[part] => match self.items(part)? {
                &[_, Value::Int(first), Value::Int(count)] => (first, count),
                _ => bail!("a part of a storage is not described"),
            },
            _ => bail!("a storage is not described"),
        };
        let fits = whole >= 0 && first >= 0 && count >= 0 && first.checked_add(count).is_some_and(|end| end <= whole);
        ensure!(fits, "a part of a storage lies outside it");
        self.heap.storages.push(Storage { kind, key, whole, first, count });
        Ok(Value::Storage(self.heap.storages.len() - 1))
    }
}
