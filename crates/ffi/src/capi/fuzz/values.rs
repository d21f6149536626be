//! Arguments out of fuzz input: mostly what breaks things, sometimes what the input says.

use std::ffi::{CString, c_char};
use std::ptr;

use super::super::guard::Failure;
use super::super::lifecycle::{krun_create_ctx, krun_free_ctx};
use super::super::pointers::{CBytes, CMac, COut, CText, CTextList};
use super::super::table;

/// Contexts of one input.
const MAX_CONTEXTS: usize = 6;
/// Bytes of a text from the input.
const MAX_TEXT: usize = 64;
/// Texts of a list from the input.
const MAX_LIST: usize = 8;

const TEXTS: [&[u8]; 20] = [
    b"",
    b"/",
    b"a",
    b"dir/file",
    b"/dev/root",
    b"/dev/null",
    b"/nowhere/at/all",
    b"80:80",
    b"65536:0",
    b"A=1",
    b"=",
    b"7=1:2",
    b"auto",
    b"hvc0",
    b"console=hvc0 -- x",
    b"\xff\xfe",
    b"a\xc3",
    b"\n\t\"\\",
    b"{\"rules\":[]}",
    b"{\"rules\":[{\"base\":\"::\",\"prefix_len\":0,\"verdict\":\"allow\"}]}",
];
const NUMBERS: [u64; 12] =
    [0, 1, 2, 3, 620, 0x7f, 0xff, 0x4c83, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, u64::MAX];

/// The input, and what it has made: everything a call was given lives as long as this.
pub struct Values<'a> {
    data: &'a [u8],
    descriptors: [i32; 2],
    contexts: Vec<u32>,
    texts: Vec<CString>,
    lists: Vec<Vec<*const c_char>>,
    pub bytes_out: Box<(*const u8, usize)>,
}

impl<'a> Values<'a> {
    /// `descriptors` are open and can be given away.
    pub fn new(data: &'a [u8], descriptors: [i32; 2]) -> Self {
        Values {
            data,
            descriptors,
            contexts: Vec::new(),
            texts: Vec::new(),
            lists: Vec::new(),
            bytes_out: Box::new((ptr::null(), 0)),
        }
    }

    /// The next byte, `None` at the end.
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.data.split_first()?;
        self.data = rest;
        Some(*first)
    }

    pub fn small(&mut self) -> usize {
        self.byte().unwrap_or_default().into()
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (now, later) = self.data.split_at(count.min(self.data.len()));
        self.data = later;
        now
    }

    /// One of a table, or the next bytes of the input.
    pub fn number(&mut self) -> u64 {
        let choice = self.small();
        NUMBERS
            .get(choice % (NUMBERS.len() + 4))
            .copied()
            .unwrap_or_else(|| self.take(8).iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    pub fn u32(&mut self) -> u32 {
        self.number() as u32
    }

    /// Open, closed, and no descriptor at all. Never standard streams, nor others of this process.
    pub fn fd(&mut self) -> i32 {
        let [first, second] = self.descriptors;
        let table = [-1, 0, i32::MIN, i32::MAX, 1 << 20, -2, first, second];
        table.get(self.small() % table.len()).copied().unwrap_or(-1)
    }

    pub fn create(&mut self) -> i32 {
        if self.contexts.len() >= MAX_CONTEXTS {
            return 0;
        }
        let id = krun_create_ctx();
        self.contexts.extend(u32::try_from(id));
        id
    }

    /// A context of this input, mostly; it may have been freed.
    pub fn ctx(&mut self) -> u32 {
        match self.small() {
            250.. => self.u32() | 0x4000_0000,
            choice => {
                if self.contexts.is_empty() {
                    self.create();
                }
                let index = choice.checked_rem(self.contexts.len()).unwrap_or_default();
                self.contexts.get(index).copied().unwrap_or(u32::MAX)
            }
        }
    }

    fn pointer(&mut self) -> *const c_char {
        let text = match self.small() {
            0..16 => return ptr::null(),
            choice @ 16..200 => TEXTS.get(choice % TEXTS.len()).copied().unwrap_or_default().to_vec(),
            choice @ 200..230 => vec![b'x'; [20, 36, 37, 107, 108, 255, 256, 5000][choice % 8]],
            _ => {
                let count = self.small() % MAX_TEXT;
                self.take(count).iter().copied().filter(|byte| *byte != 0).collect()
            }
        };
        let text = CString::new(text).unwrap_or_default();
        // What it points to does not move with it.
        let pointer = text.as_ptr();
        self.texts.push(text);
        pointer
    }

    pub fn text(&mut self) -> CText {
        CText::new(self.pointer())
    }

    pub fn list(&mut self) -> CTextList {
        let mut list = match self.small() {
            0..32 => return CTextList::new(ptr::null::<CText>()),
            32..40 => vec![c"x".as_ptr(); 4100],
            choice => (0..choice % MAX_LIST).map(|_| self.pointer()).collect(),
        };
        list.push(ptr::null());
        let pointer = list.as_ptr();
        self.lists.push(list);
        CTextList::new(pointer)
    }

    /// Bytes with a length that is true, or so large that it cannot be.
    pub fn bytes(&mut self) -> (CBytes, usize) {
        let count = self.small() % MAX_TEXT;
        let bytes = self.take(count);
        match self.small() {
            0..32 => (CBytes::new(ptr::null::<u8>()), count),
            32..48 => (CBytes::new(bytes.as_ptr()), usize::MAX),
            48..64 => (CBytes::new(bytes.as_ptr()), (isize::MAX as usize) + 1),
            _ => (CBytes::new(bytes.as_ptr()), bytes.len()),
        }
    }

    pub fn mac(&mut self) -> CMac {
        const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
        CMac::new(if self.small() < 32 { ptr::null() } else { MAC.as_ptr() })
    }

    /// Places for results, each of which may be NULL.
    pub fn places(&mut self) -> (COut<*const u8>, COut<usize>) {
        let choice = self.small();
        let (data, len) = &mut *self.bytes_out;
        let data = if choice & 1 == 0 { data } else { ptr::null_mut() };
        let len = if choice & 2 == 0 { len } else { ptr::null_mut() };
        (COut::new(data), COut::new(len))
    }

    /// A context that cannot start: more vCPUs than there can be, and a kernel that is not there.
    pub fn unstartable(&mut self) -> u32 {
        let id = self.create();
        let Ok(id) = u32::try_from(id) else { return u32::MAX };
        let changed = table::update(id, |context| {
            context.vcpus = u8::MAX;
            context.kernel.set_missing();
        });
        if changed.is_err() { u32::MAX } else { id }
    }

    /// What is left at the end. Some may have been freed before.
    pub fn free_contexts(&mut self) {
        for id in self.contexts.drain(..) {
            let left: Result<(), Failure> = table::update(id, |_| ());
            assert_eq!(krun_free_ctx(id) == 0, left.is_ok());
        }
    }
}
