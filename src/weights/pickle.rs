//! The part of Python's pickle format that state dicts use, read without running anything.
//!
//! A pickle is a program for a stack machine that may call any Python function by name. Here a global is only a name,
//! and a call is only data, until [`super::storage`] knows it as one of PyTorch's; everything else is an error.

use anyhow::{Context, Result, bail};

/// What a pickle holds, as far as it is understood.
#[derive(Debug, Clone)]
pub enum Value {
    /// None, and what stands for nothing here.
    None,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number; its value is of no use to state dicts.
    Float,
    /// Text.
    Text(String),
    /// A list or tuple.
    List(Vec<Value>),
    /// A dictionary (also an OrderedDict), in order.
    Dict(Vec<(Value, Value)>),
    /// `module.name`, not resolved.
    Global(String),
    /// A global called with arguments, not called.
    Call(String, Vec<Value>),
    /// A reference to something outside the pickle.
    Persistent(Box<Value>),
    /// Where a MARK stands on the stack.
    Mark,
}

/// Reads one pickle from the front of `bytes`; returns its value and how long it was.
pub fn read(bytes: &[u8]) -> Result<(Value, usize)> {
    let mut machine = Machine { bytes, at: 0, stack: Vec::new(), memo: Vec::new(), work: 0 };
    let value = machine.run()?;
    Ok((value, machine.at))
}

/// Most values that may be copied out of the memo: a hostile file could otherwise double itself without end.
const MOST_WORK: usize = 10_000_000;

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    memo: Vec<Option<Value>>,
    work: usize,
}

impl Machine<'_> {
    fn take(&mut self, count: usize) -> Result<&[u8]> {
        let end =
            self.at.checked_add(count).filter(|&end| end <= self.bytes.len()).context("the pickle is cut short")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// A little-endian unsigned number of `count` bytes.
    fn number(&mut self, count: usize) -> Result<usize> {
        let bytes = self.take(count)?;
        let wide =
            bytes.iter().rev().try_fold(0_u64, |sum, &byte| sum.checked_mul(256).map(|sum| sum | u64::from(byte)));
        usize::try_from(wide.context("a number is too large")?).context("a number is too large")
    }

    fn line(&mut self) -> Result<String> {
        let length = self.bytes[self.at..].iter().position(|&byte| byte == b'\n').context("the pickle is cut short")?;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(text)
    }

    fn text(&mut self, length: usize) -> Result<Value> {
        Ok(Value::Text(String::from_utf8_lossy(self.take(length)?).into_owned()))
    }

    fn pop(&mut self) -> Result<Value> {
        self.stack.pop().context("the pickle pops an empty stack")
    }

    /// What stands above the last MARK.
    fn pop_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.stack.iter().rposition(|value| matches!(value, Value::Mark)).context("a MARK is missing")?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn remember(&mut self, at: usize) -> Result<()> {
        if at > 10_000_000 {
            bail!("the pickle's memo is too large");
        }
        if self.memo.len() <= at {
            self.memo.resize(at + 1, None);
        }
        let top = self.stack.last().context("the pickle memoises nothing")?;
        // A container is filled after it was memoised; nothing in a state dict refers back to one, so an empty copy
        // costs nothing and is an error only if it is used as a tensor.
        self.memo[at] = Some(top.clone());
        Ok(())
    }

    fn recall(&mut self, at: usize) -> Result<()> {
        let value = self.memo.get(at).cloned().flatten().context("the pickle recalls what it never memoised")?;
        self.work += size_of_value(&value);
        if self.work > MOST_WORK {
            bail!("the pickle repeats itself without end");
        }
        self.stack.push(value);
        Ok(())
    }

    fn run(&mut self) -> Result<Value> {
        loop {
            let code = self.take(1)?[0];
            match code {
                0x80 => drop(self.take(1)?), // PROTO
                b'.' => return self.pop(),   // STOP
                b'(' => self.stack.push(Value::Mark),
                b'N' => self.stack.push(Value::None),
                0x88 => self.stack.push(Value::Bool(true)),
                0x89 => self.stack.push(Value::Bool(false)),
                b'}' => self.stack.push(Value::Dict(Vec::new())),
                b']' => self.stack.push(Value::List(Vec::new())),
                b')' => self.stack.push(Value::List(Vec::new())), // EMPTY_TUPLE
                b'K' => self.push_number(1)?,                     // BININT1
                b'M' => self.push_number(2)?,                     // BININT2
                b'J' => {
                    let raw = self.number(4)? as u32;
                    self.stack.push(Value::Int(i64::from(raw as i32))); // BININT
                }
                0x8a => {
                    let length = self.number(1)?; // LONG1
                    let value = long(self.take(length)?)?;
                    self.stack.push(value);
                }
                b'G' => {
                    self.take(8)?; // BINFLOAT
                    self.stack.push(Value::Float);
                }
                b'X' => self.push_text(4)?, // BINUNICODE
                0x8c => self.push_text(1)?, // SHORT_BINUNICODE
                b'T' => self.push_text(4)?, // BINSTRING
                b'U' => self.push_text(1)?, // SHORT_BINSTRING
                b'q' => {
                    let at = self.number(1)?;
                    self.remember(at)?;
                }
                b'r' => {
                    let at = self.number(4)?;
                    self.remember(at)?;
                }
                0x94 => self.remember(self.memo.len())?, // MEMOIZE
                b'h' => {
                    let at = self.number(1)?;
                    self.recall(at)?;
                }
                b'j' => {
                    let at = self.number(4)?;
                    self.recall(at)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?); // GLOBAL
                    self.stack.push(Value::Global(format!("{module}.{name}")));
                }
                0x95 => drop(self.take(8)?), // FRAME
                b't' => {
                    let items = self.pop_mark()?;
                    self.stack.push(Value::List(items));
                }
                0x85..=0x87 => {
                    let count = usize::from(code - 0x84); // TUPLE1 to TUPLE3
                    let from = self.stack.len().checked_sub(count).context("the pickle pops an empty stack")?;
                    let items = self.stack.split_off(from);
                    self.stack.push(Value::List(items));
                }
                b'a' => {
                    let item = self.pop()?;
                    self.extend(vec![item])?;
                }
                b'e' => {
                    let items = self.pop_mark()?;
                    self.extend(items)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set(vec![key, value])?;
                }
                b'u' => {
                    let items = self.pop_mark()?;
                    self.set(items)?;
                }
                b'R' => {
                    let (arguments, function) = (self.pop()?, self.pop()?); // REDUCE
                    let (Value::Global(name), Value::List(arguments)) = (function, arguments) else {
                        bail!("the pickle calls what is no function");
                    };
                    self.stack.push(match name.as_str() {
                        "collections.OrderedDict" => Value::Dict(Vec::new()),
                        _ => Value::Call(name, arguments),
                    });
                }
                b'b' => drop(self.pop()?), // BUILD: an OrderedDict's attributes (_metadata) are of no use here.
                b'Q' => {
                    let id = self.pop()?; // BINPERSID
                    self.stack.push(Value::Persistent(Box::new(id)));
                }
                b'0' => drop(self.pop()?),
                other => bail!("the pickle has the operation {other:#04x}, which state dicts do not need"),
            }
        }
    }

    fn push_number(&mut self, count: usize) -> Result<()> {
        let number = self.number(count)? as i64;
        self.stack.push(Value::Int(number));
        Ok(())
    }

    fn push_text(&mut self, count: usize) -> Result<()> {
        let length = self.number(count)?;
        let text = self.text(length)?;
        self.stack.push(text);
        Ok(())
    }

    fn extend(&mut self, items: Vec<Value>) -> Result<()> {
        match self.stack.last_mut() {
            Some(Value::List(list)) => list.extend(items),
            _ => bail!("the pickle appends to what is no list"),
        }
        Ok(())
    }

    fn set(&mut self, items: Vec<Value>) -> Result<()> {
        let Some(Value::Dict(dict)) = self.stack.last_mut() else {
            bail!("the pickle sets items of what is no dictionary")
        };
        if !items.len().is_multiple_of(2) {
            bail!("the pickle has a key without a value");
        }
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            dict.push((key, value));
        }
        Ok(())
    }
}

/// A little-endian two's-complement number of up to 8 bytes; longer ones (legacy magic numbers) give None.
fn long(bytes: &[u8]) -> Result<Value> {
    if bytes.len() > 8 {
        return Ok(Value::None);
    }
    let negative = bytes.last().is_some_and(|&byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Ok(Value::Int(i64::from_le_bytes(wide)))
}

fn size_of_value(value: &Value) -> usize {
    match value {
        Value::List(items) | Value::Call(_, items) => 1 + items.iter().map(size_of_value).sum::<usize>(),
        Value::Dict(items) => {
            1 + items.iter().map(|(key, value)| size_of_value(key) + size_of_value(value)).sum::<usize>()
        }
        Value::Persistent(inner) => 1 + size_of_value(inner),
        _ => 1,
    }
}
