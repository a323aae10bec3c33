//! The `state_dict` in a file by `torch.save`: a zip archive that holds a pickle, which describes the tensors, and
//! their bytes in entries of their own.
//!
//! A pickle is a program. Only the instructions that make up a dictionary of tensors are carried out here, each in
//! memory bounded by its own length; whatever else the pickle wants is an error. The entries of the archive are stored,
//! not compressed, and are read in place.

use std::collections::{BTreeMap, HashMap};

use burn::tensor::DType;

use super::error::shortened;
use super::safetensors::COUNTER;
use super::{Contents, Layout, Values, byte_len, not_float};

pub(super) fn is_zip(file: &[u8]) -> bool {
    file.starts_with(b"PK\x03\x04")
}

pub(super) fn read(file: &[u8]) -> Result<Contents, String> {
    let entries = Entries::of(file)?;
    if entries
        .get("byteorder")
        .is_some_and(|order| order != b"little")
    {
        return Err("its numbers are big-endian".into());
    }
    let pickle = entries.get("data.pkl").ok_or(NO_STATE_DICT)?;
    let mut tensors = BTreeMap::new();
    let mut total = 0;
    for (name, tensor) in Machine::new(pickle).run()? {
        let Some(dtype) = tensor.storage.dtype else {
            if name.ends_with(COUNTER) && tensor.storage.kind == "LongStorage" {
                continue;
            }
            return Err(not_float(name, tensor.storage.kind));
        };
        // A view may repeat the values of its storage: what it says it is must still be in the file.
        total += byte_len(&tensor.shape, dtype)
            .filter(|&len| len <= file.len())
            .ok_or(TOO_LARGE)?;
        if total > file.len() {
            return Err(TOO_LARGE.into());
        }
        let bytes = entries
            .get(&format!("data/{}", tensor.storage.key))
            .and_then(|storage| tensor.gather(storage, dtype.size()))
            .ok_or_else(|| format!("the values of {} are not in it", shortened(name)))?;
        let shape = tensor.shape;
        let values = Values {
            dtype,
            shape,
            bytes,
        };
        tensors.insert(name.to_string(), values);
    }
    Ok(Contents {
        layout: Layout::PyTorch,
        tensors,
        config: None,
    })
}

const NO_STATE_DICT: &str =
    "it holds no state_dict; write one with torch.save(model.state_dict(), path)";
const TOO_LARGE: &str = "its tensors are larger than the file";
/// More axes than any layer's weight has.
const MAX_RANK: usize = 8;
const CUT_SHORT: &str = "it is cut short";

/// The entries of a zip archive, by name, without the folder that they are all in.
struct Entries<'a>(HashMap<&'a str, &'a [u8]>);

impl<'a> Entries<'a> {
    fn of(file: &'a [u8]) -> Result<Self, String> {
        // The directory is found from the end of the file, which holds a comment of at most 65,535 bytes.
        let from = file.len().saturating_sub(22 + 0xFFFF);
        let end = file[from..]
            .windows(4)
            .rposition(|bytes| bytes == b"PK\x05\x06")
            .ok_or(CUT_SHORT)?;
        let mut end = Cursor(&file[from + end..]);
        end.skip(10)?;
        let count = end.u16()?;
        end.skip(4)?;
        let mut directory = Cursor(file);
        directory.skip(end.u32()? as usize)?;

        let mut entries = HashMap::new();
        let mut total = 0;
        for _ in 0..count {
            if directory.take(4)? != b"PK\x01\x02" {
                return Err("its directory is damaged".into());
            }
            directory.skip(6)?;
            let method = directory.u16()?;
            directory.skip(4)?;
            let checksum = directory.u32()?;
            let (stored, size) = (directory.u32()?, directory.u32()?);
            let [name, extra, comment] = [directory.u16()?, directory.u16()?, directory.u16()?];
            directory.skip(8)?;
            let offset = directory.u32()?;
            let name = directory.take(name.into())?;
            directory.skip(usize::from(extra) + usize::from(comment))?;
            let name = std::str::from_utf8(name).map_err(|_| "its directory is damaged")?;
            if size == u32::MAX || offset == u32::MAX {
                return Err("it has an entry of 4 GiB or more".into());
            }
            if method != 0 || stored != size {
                return Err("it is compressed, which torch.save does not do".into());
            }
            // Entries that overlap would be read again and again.
            total += size as usize;
            if total > file.len() {
                return Err("its entries are larger than the file".into());
            }
            let mut entry = Cursor(file);
            entry.skip(offset as usize)?;
            entry.skip(26)?;
            let (name_again, extra) = (entry.u16()?, entry.u16()?);
            entry.skip(usize::from(name_again) + usize::from(extra))?;
            let entry = entry.take(size as usize)?;
            // torch.save writes 0 where it was asked to compute none.
            if checksum != 0 && checksum != crc32fast::hash(entry) {
                let name = shortened(name);
                return Err(format!(
                    "the values of {name} are not the ones it was written with"
                ));
            }
            let (_, name) = name.split_once('/').unwrap_or(("", name));
            entries.insert(name, entry);
        }
        Ok(Self(entries))
    }

    fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.0.get(name).copied()
    }
}

/// What is left to read.
#[derive(Clone, Copy)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CUT_SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn skip(&mut self, count: usize) -> Result<(), String> {
        self.take(count).map(drop)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.take(N)?.try_into().expect("so many were taken"))
    }

    fn u8(&mut self) -> Result<u8, String> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, String> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn text(&mut self, len: usize) -> Result<&'a str, String> {
        std::str::from_utf8(self.take(len)?).map_err(|_| "a name in it is not UTF-8".into())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let end = self.0.iter().position(|&byte| byte == b'\n');
        let line = self.text(end.ok_or(CUT_SHORT)?)?;
        self.skip(1)?;
        Ok(line)
    }
}

/// A storage: the values that tensors are views of.
#[derive(Clone, Copy)]
struct Storage<'a> {
    /// Its class, as `FloatStorage`.
    kind: &'a str,
    /// Its type, if it is one of floats.
    dtype: Option<DType>,
    /// The name of its entry.
    key: &'a str,
}

/// A strided view of a storage. Offset and strides count values.
#[derive(Clone)]
struct View<'a> {
    storage: Storage<'a>,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl View<'_> {
    /// The bytes of the view, row after row, if they are all in the storage. The view's length is that of a `Vec`.
    fn gather(&self, storage: &[u8], size: usize) -> Option<Vec<u8>> {
        let count = self.shape.iter().product::<usize>();
        if self.shape.len() != self.strides.len() {
            return None;
        }
        let mut bytes = Vec::with_capacity(count * size);
        for number in 0..count {
            let (mut rest, mut index) = (number, self.offset);
            for (&dim, &stride) in self.shape.iter().zip(&self.strides).rev() {
                index = index.checked_add((rest % dim).checked_mul(stride)?)?;
                rest /= dim;
            }
            let start = index.checked_mul(size)?;
            bytes.extend_from_slice(storage.get(start..start.checked_add(size)?)?);
        }
        Some(bytes)
    }
}

/// A value of the pickle. What holds others is a number in the machine's list of them, so that values are small, may
/// contain each other, and are dropped without recursion.
#[derive(Clone, Copy)]
enum Value<'a> {
    /// None, a boolean, a float: nothing that a tensor is made of.
    Other,
    Int(i64),
    Text(&'a str),
    Class(&'a str, &'a str),
    Tuple(usize),
    Dict(usize),
    List,
    Storage(Storage<'a>),
    View(usize),
}

/// The stack machine that a pickle is a program for.
struct Machine<'a> {
    program: Cursor<'a>,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    tuples: Vec<Vec<Value<'a>>>,
    dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    views: Vec<View<'a>>,
}

impl<'a> Machine<'a> {
    fn new(program: &'a [u8]) -> Self {
        Self {
            program: Cursor(program),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            tuples: Vec::new(),
            dicts: Vec::new(),
            views: Vec::new(),
        }
    }

    /// The tensors of the dictionary that the program ends with.
    fn run(mut self) -> Result<Vec<(&'a str, View<'a>)>, String> {
        loop {
            match self.program.u8()? {
                // PROTO and FRAME
                0x80 => self.program.skip(1)?,
                0x95 => self.program.skip(8)?,
                // NONE, NEWTRUE, NEWFALSE
                b'N' | 0x88 | 0x89 => self.stack.push(Value::Other),
                // BINFLOAT
                b'G' => {
                    self.program.skip(8)?;
                    self.stack.push(Value::Other);
                }
                b'J' => {
                    let value = self.program.u32()? as i32;
                    self.stack.push(Value::Int(value.into()));
                }
                b'K' => {
                    let value = self.program.u8()?;
                    self.stack.push(Value::Int(value.into()));
                }
                b'M' => {
                    let value = self.program.u16()?;
                    self.stack.push(Value::Int(value.into()));
                }
                // LONG1: any number of bytes in two's complement.
                0x8a => {
                    let len = self.program.u8()?;
                    let bytes = self.program.take(len.into())?;
                    let sign = bytes.last().map_or(0, |&byte| (byte as i8 >> 7) as u8);
                    let mut value = [sign; 8];
                    if bytes.len() > value.len() {
                        return Err("it counts beyond 64 bits".into());
                    }
                    value[..bytes.len()].copy_from_slice(bytes);
                    self.stack.push(Value::Int(i64::from_le_bytes(value)));
                }
                // BINUNICODE, SHORT_BINUNICODE
                b'X' => {
                    let len = self.program.u32()?;
                    let text = self.program.text(len as usize)?;
                    self.stack.push(Value::Text(text));
                }
                0x8c => {
                    let len = self.program.u8()?;
                    let text = self.program.text(len.into())?;
                    self.stack.push(Value::Text(text));
                }
                // GLOBAL, STACK_GLOBAL
                b'c' => {
                    let class = Value::Class(self.program.line()?, self.program.line()?);
                    self.stack.push(class);
                }
                0x93 => match (self.pop()?, self.pop()?) {
                    (Value::Text(name), Value::Text(module)) => {
                        self.stack.push(Value::Class(module, name));
                    }
                    _ => return Err(MALFORMED.into()),
                },
                // The memo: BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
                b'q' => {
                    let slot = self.program.u8()?;
                    self.memoize(slot.into())?;
                }
                b'r' => {
                    let slot = self.program.u32()?;
                    self.memoize(slot)?;
                }
                0x94 => self.memoize(self.memo.len() as u32)?,
                b'h' => {
                    let slot = self.program.u8()?;
                    self.recall(slot.into())?;
                }
                b'j' => {
                    let slot = self.program.u32()?;
                    self.recall(slot)?;
                }
                // MARK, and the tuples: EMPTY_TUPLE, TUPLE1 to 3, TUPLE
                b'(' => self.marks.push(self.stack.len()),
                b')' => self.tuple(Vec::new()),
                count @ 0x85..=0x87 => {
                    let count = usize::from(count - 0x84);
                    let start = self.stack.len().checked_sub(count).ok_or(MALFORMED)?;
                    let items = self.since(start)?;
                    self.tuple(items);
                }
                b't' => {
                    let items = self.since_mark()?;
                    self.tuple(items);
                }
                // EMPTY_DICT, SETITEM, SETITEMS
                b'}' => self.dict(),
                b's' => {
                    let start = self.stack.len().checked_sub(2).ok_or(MALFORMED)?;
                    let items = self.since(start)?;
                    self.set_items(&items)?;
                }
                b'u' => {
                    let items = self.since_mark()?;
                    self.set_items(&items)?;
                }
                // EMPTY_LIST, APPEND, APPENDS
                b']' => self.stack.push(Value::List),
                b'a' => drop(self.pop()?),
                b'e' => drop(self.since_mark()?),
                // BINPERSID
                b'Q' => {
                    let storage = self.storage()?;
                    self.stack.push(Value::Storage(storage));
                }
                // REDUCE: calls a function, of which only a few are there.
                b'R' => self.call()?,
                // BUILD: gives an object attributes, which a dictionary of tensors does not need.
                b'b' => drop(self.pop()?),
                // STOP
                b'.' => return self.tensors(),
                other => {
                    return Err(format!(
                        "its pickle has the instruction {other:#04x}; {NO_STATE_DICT}"
                    ));
                }
            }
        }
    }

    fn pop(&mut self) -> Result<Value<'a>, String> {
        self.stack.pop().ok_or(MALFORMED.into())
    }

    /// Takes what the stack holds from `start` on.
    fn since(&mut self, start: usize) -> Result<Vec<Value<'a>>, String> {
        match start <= self.stack.len() {
            true => Ok(self.stack.split_off(start)),
            false => Err(MALFORMED.into()),
        }
    }

    fn since_mark(&mut self) -> Result<Vec<Value<'a>>, String> {
        let mark = self.marks.pop().ok_or(MALFORMED)?;
        self.since(mark)
    }

    fn memoize(&mut self, slot: u32) -> Result<(), String> {
        let top = self.stack.last().ok_or(MALFORMED)?;
        self.memo.insert(slot, *top);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<(), String> {
        self.stack.push(*self.memo.get(&slot).ok_or(MALFORMED)?);
        Ok(())
    }

    fn tuple(&mut self, items: Vec<Value<'a>>) {
        self.stack.push(Value::Tuple(self.tuples.len()));
        self.tuples.push(items);
    }

    fn dict(&mut self) {
        self.stack.push(Value::Dict(self.dicts.len()));
        self.dicts.push(Vec::new());
    }

    fn set_items(&mut self, items: &[Value<'a>]) -> Result<(), String> {
        let Some(&Value::Dict(dict)) = self.stack.last() else {
            return Err(MALFORMED.into());
        };
        let pairs = items.chunks_exact(2).map(|pair| (pair[0], pair[1]));
        self.dicts[dict].extend(pairs);
        Ok(())
    }

    fn items(&self, value: Value<'a>) -> Result<&[Value<'a>], String> {
        match value {
            Value::Tuple(tuple) => Ok(&self.tuples[tuple]),
            _ => Err(MALFORMED.into()),
        }
    }

    /// What `("storage", class, key, device, length)` means.
    fn storage(&mut self) -> Result<Storage<'a>, String> {
        let id = self.pop()?;
        match self.items(id)? {
            [
                Value::Text("storage"),
                Value::Class("torch", kind),
                Value::Text(key),
                ..,
            ] => Ok(Storage {
                kind,
                dtype: match *kind {
                    "DoubleStorage" => Some(DType::F64),
                    "FloatStorage" => Some(DType::F32),
                    "HalfStorage" => Some(DType::F16),
                    "BFloat16Storage" => Some(DType::BF16),
                    _ => None,
                },
                key,
            }),
            _ => Err(MALFORMED.into()),
        }
    }

    fn call(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Value::Class(module, name) = function else {
            return Err(MALFORMED.into());
        };
        match (module, name, self.items(arguments)?) {
            ("collections", "OrderedDict", []) => self.dict(),
            ("torch._utils", "_rebuild_parameter", [tensor @ Value::View(_), ..]) => {
                let tensor = *tensor;
                self.stack.push(tensor);
            }
            (
                "torch._utils",
                "_rebuild_tensor_v2",
                &[
                    Value::Storage(storage),
                    Value::Int(offset),
                    shape,
                    strides,
                    ..,
                ],
            ) => {
                let view = View {
                    storage,
                    offset: offset.try_into().map_err(|_| MALFORMED)?,
                    shape: self.sizes(shape)?,
                    strides: self.sizes(strides)?,
                };
                self.stack.push(Value::View(self.views.len()));
                self.views.push(view);
            }
            _ => {
                let (module, name) = (shortened(module), shortened(name));
                return Err(format!("its pickle calls {module}.{name}; {NO_STATE_DICT}"));
            }
        }
        Ok(())
    }

    fn sizes(&self, tuple: Value<'a>) -> Result<Vec<usize>, String> {
        let size = |value: &Value<'a>| match value {
            Value::Int(size) => (*size).try_into().map_err(|_| MALFORMED.to_string()),
            _ => Err(MALFORMED.into()),
        };
        let sizes = self.items(tuple)?;
        // The dictionary may hold one tensor under many names.
        if sizes.len() > MAX_RANK {
            return Err(format!("it has a tensor of {} axes", sizes.len()));
        }
        sizes.iter().map(size).collect()
    }

    fn tensors(mut self) -> Result<Vec<(&'a str, View<'a>)>, String> {
        let Value::Dict(root) = self.pop()? else {
            return Err(NO_STATE_DICT.into());
        };
        let tensor = |&(key, value): &(Value<'a>, Value<'a>)| match (key, value) {
            (Value::Text(name), Value::View(view)) => Ok((name, self.views[view].clone())),
            _ => Err(NO_STATE_DICT.to_string()),
        };
        self.dicts[root].iter().map(tensor).collect()
    }
}

const MALFORMED: &str = "its pickle is malformed";
