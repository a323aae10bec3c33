//! Limits the memory that a pickle may take.
//!
//! A pickle is a program for a stack machine. `pytorch-reader` runs it and copies a value each time the program fetches
//! it from the memo, so a short program can fill the memory. [`Budget`] runs the same program on sizes instead of
//! values, and refuses it as soon as they exceed what a file of this length warrants.

use std::collections::HashMap;

/// Bytes of one value on the stack of `pytorch-reader`.
const VALUE: usize = 88;

/// The bytes that the pickles of one file may still take.
pub(super) struct Budget {
    left: usize,
}

impl Budget {
    /// The budget for a file. A small module, pickled whole, needs up to 100 bytes per byte of the file. In larger
    /// files, most bytes belong to tensors.
    pub(super) fn of(file: &[u8]) -> Self {
        let small = (512 << 10) + 128 * file.len();
        let large = (16 << 20) + 16 * file.len();
        Self {
            left: small.min(large),
        }
    }

    /// Charges the pickle at the start of `program`; returns the rest of `program`.
    pub(super) fn charge<'a>(&mut self, program: &'a [u8]) -> Result<&'a [u8], &'static str> {
        let mut machine = Machine {
            program,
            left: self.left,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        machine.run()?;
        // The reader keeps the pickle's result; the rest is free again.
        self.left = self.left.min(machine.left);
        Ok(machine.program)
    }
}

const MALFORMED: &str = "its pickle is malformed";
const TOO_LARGE: &str = "its pickle takes more memory than a state_dict needs";

/// The size of a value, and the slot of the memo that also holds it.
#[derive(Clone, Copy)]
struct Size {
    bytes: usize,
    memo: Option<u64>,
}

struct Machine<'a> {
    program: &'a [u8],
    left: usize,
    stack: Vec<Size>,
    marks: Vec<usize>,
    memo: HashMap<u64, usize>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<(), &'static str> {
        loop {
            match self.number(1)? as u8 {
                // STOP; PROTO, FRAME
                b'.' => return Ok(()),
                0x80 => self.skip(1)?,
                0x95 => self.skip(8)?,
                // NONE, NEWTRUE, NEWFALSE; EMPTY_TUPLE, EMPTY_LIST, EMPTY_DICT, EMPTY_SET
                b'N' | 0x88 | 0x89 | b')' | b']' | b'}' | 0x8f => self.push(0)?,
                // BININT1, BININT2, BININT, BINFLOAT
                b'K' => self.fixed(1)?,
                b'M' => self.fixed(2)?,
                b'J' => self.fixed(4)?,
                b'G' => self.fixed(8)?,
                // INT, LONG, FLOAT, UNICODE, PERSID; GLOBAL
                b'I' | b'L' | b'F' | b'V' | b'P' => {
                    let line = self.line()?;
                    self.push(line.len())?;
                }
                b'c' => {
                    let len = self.line()?.len() + self.line()?.len();
                    self.push(len)?;
                }
                // LONG1, SHORT_BINSTRING, SHORT_BINBYTES, SHORT_BINUNICODE
                0x8a | b'U' | b'C' | 0x8c => self.counted(1)?,
                // LONG4, BINSTRING, BINBYTES, BINUNICODE
                0x8b | b'T' | b'B' | b'X' => self.counted(4)?,
                // BINUNICODE8, BINBYTES8, BYTEARRAY8
                0x8d | 0x8e | 0x96 => self.counted(8)?,
                // MARK; TUPLE, LIST, DICT, FROZENSET
                b'(' => self.mark()?,
                b't' | b'l' | b'd' | 0x91 => {
                    let bytes = self.pop_to_mark()?;
                    self.push(bytes)?;
                }
                // TUPLE1, TUPLE2, TUPLE3; BINPERSID; STACK_GLOBAL, REDUCE, NEWOBJ; NEWOBJ_EX
                0x85 => self.join(1, VALUE)?,
                0x86 => self.join(2, VALUE)?,
                0x87 => self.join(3, VALUE)?,
                b'Q' => self.join(1, 0)?,
                0x93 | b'R' | 0x81 => self.join(2, 0)?,
                0x92 => self.join(3, 0)?,
                // APPEND, SETITEM; APPENDS, SETITEMS, ADDITEMS
                b'a' => self.extend(1)?,
                b's' => self.extend(2)?,
                b'e' | b'u' | 0x90 => {
                    let bytes = self.pop_to_mark()?;
                    self.grow(bytes)?;
                }
                // BUILD: the memo gets the built object.
                b'b' => {
                    self.extend(1)?;
                    if let Size {
                        memo: Some(slot), ..
                    } = *self.top()?
                    {
                        self.put(slot)?;
                    }
                }
                // POP, POP_MARK, DUP
                b'0' => {
                    if self.marks.last() == Some(&self.stack.len()) {
                        self.marks.pop();
                    } else {
                        self.pop()?;
                    }
                }
                b'1' => {
                    self.pop_to_mark()?;
                }
                b'2' => {
                    let Size { bytes, memo } = *self.top()?;
                    self.push_size(bytes, memo)?;
                }
                // PUT, BINPUT, LONG_BINPUT, MEMOIZE; GET, BINGET, LONG_BINGET
                0x94 => self.put(self.memo.len() as u64)?,
                op @ (b'p' | b'q' | b'r' | b'g' | b'h' | b'j') => {
                    let slot = match op {
                        b'q' | b'h' => self.number(1)?,
                        b'r' | b'j' => self.number(4)?,
                        _ => self.slot()?,
                    };
                    match op {
                        b'p' | b'q' | b'r' => self.put(slot)?,
                        _ => self.get(slot)?,
                    }
                }
                _ => return Err("its pickle has an instruction that torch.save does not write"),
            }
        }
    }

    // Reading the program.

    fn take(&mut self, count: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self
            .program
            .split_at_checked(count)
            .ok_or("its pickle is cut short")?;
        self.program = rest;
        Ok(taken)
    }

    /// A little-endian number of `width` bytes, 8 at most.
    fn number(&mut self, width: usize) -> Result<u64, &'static str> {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(self.take(width)?);
        Ok(u64::from_le_bytes(bytes))
    }

    fn line(&mut self) -> Result<&'a [u8], &'static str> {
        let end = self.program.iter().position(|&byte| byte == b'\n');
        let line = self.take(end.ok_or("its pickle is cut short")?)?;
        self.take(1)?;
        Ok(line)
    }

    fn slot(&mut self) -> Result<u64, &'static str> {
        let text = std::str::from_utf8(self.line()?).map_err(|_| MALFORMED)?;
        text.parse().map_err(|_| MALFORMED)
    }

    fn skip(&mut self, count: usize) -> Result<(), &'static str> {
        self.take(count).map(|_| ())
    }

    fn fixed(&mut self, len: usize) -> Result<(), &'static str> {
        self.skip(len)?;
        self.push(0)
    }

    fn counted(&mut self, width: usize) -> Result<(), &'static str> {
        let len = usize::try_from(self.number(width)?).map_err(|_| MALFORMED)?;
        self.take(len)?;
        self.push(len)
    }

    // Keeping track of sizes.

    fn spend(&mut self, bytes: usize) -> Result<(), &'static str> {
        self.left = self.left.checked_sub(bytes).ok_or(TOO_LARGE)?;
        Ok(())
    }

    /// Pushes a value with `content` bytes in addition to its own.
    fn push(&mut self, content: usize) -> Result<(), &'static str> {
        self.push_size(content + VALUE, None)
    }

    fn push_size(&mut self, bytes: usize, memo: Option<u64>) -> Result<(), &'static str> {
        self.spend(bytes)?;
        self.stack.push(Size { bytes, memo });
        Ok(())
    }

    fn mark(&mut self) -> Result<(), &'static str> {
        self.spend(size_of::<usize>())?;
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn top(&mut self) -> Result<&mut Size, &'static str> {
        self.stack.last_mut().ok_or(MALFORMED)
    }

    /// Pops a value off the stack; returns the bytes that this frees.
    fn pop(&mut self) -> Result<usize, &'static str> {
        let size = self.stack.pop().ok_or(MALFORMED)?;
        self.left += size.bytes;
        Ok(size.bytes)
    }

    fn pop_to_mark(&mut self) -> Result<usize, &'static str> {
        let mark = self.marks.pop().ok_or(MALFORMED)?;
        let mut bytes = 0;
        while self.stack.len() > mark {
            bytes += self.pop()?;
        }
        Ok(bytes)
    }

    /// Joins the last `count` values into one, with `more` bytes in addition to theirs.
    fn join(&mut self, count: usize, more: usize) -> Result<(), &'static str> {
        let mut bytes = more;
        for _ in 0..count {
            bytes += self.pop()?;
        }
        self.push_size(bytes, None)
    }

    /// Moves the last `count` values into the value below them.
    fn extend(&mut self, count: usize) -> Result<(), &'static str> {
        let mut bytes = 0;
        for _ in 0..count {
            bytes += self.pop()?;
        }
        self.grow(bytes)
    }

    fn grow(&mut self, bytes: usize) -> Result<(), &'static str> {
        self.spend(bytes)?;
        self.top()?.bytes += bytes;
        Ok(())
    }

    fn put(&mut self, slot: u64) -> Result<(), &'static str> {
        let top = self.top()?;
        top.memo = Some(slot);
        let bytes = top.bytes;
        self.spend(bytes)?;
        self.left += self.memo.insert(slot, bytes).unwrap_or(0);
        Ok(())
    }

    fn get(&mut self, slot: u64) -> Result<(), &'static str> {
        let bytes = *self.memo.get(&slot).ok_or(MALFORMED)?;
        self.push_size(bytes, Some(slot))
    }
}
