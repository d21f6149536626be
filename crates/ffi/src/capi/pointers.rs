//! Arguments that are pointers. Each is read once, here, into an owned value.
//!
//! The types have the layout of a C pointer and no constructor: only a C caller makes them, and the
//! interface's contract with it is what the unsafe reads rest on.

use std::ffi::{CStr, c_char};

use super::guard::Failure;

/// Entries read of an array; later ones are dropped (libkrun's limit).
const MAX_ENTRIES: usize = 4096;

/// `const char *`: NULL, or a string with a NUL at its end.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct CText(*const c_char);

impl CText {
    #[cfg(any(test, feature = "test-utils"))]
    pub(super) fn new<T>(pointer: *const T) -> Self {
        CText(pointer.cast())
    }

    /// The text; `name` is the argument's, for the error.
    pub(super) fn required(self, name: &str) -> Result<String, Failure> {
        self.optional(name)?.ok_or_else(|| Failure::invalid(format!("{name}: NULL")))
    }

    /// The text, or `None` for NULL.
    pub(super) fn optional(self, name: &str) -> Result<Option<String>, Failure> {
        if self.0.is_null() {
            return Ok(None);
        }
        // SAFETY: not NULL, so the caller promises a string with a NUL that is not changed during the call.
        let text = unsafe { CStr::from_ptr(self.0) };
        match text.to_str() {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(e) => Err(Failure::invalid(format!("{name}: not UTF-8 from byte {} on", e.valid_up_to()))),
        }
    }
}

/// `const char *const[]`: NULL, or an array of strings that ends with NULL.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct CTextList(*const CText);

impl CTextList {
    #[cfg(any(test, feature = "test-utils"))]
    pub(super) fn new<T>(pointer: *const T) -> Self {
        CTextList(pointer.cast())
    }

    /// The strings; `name` is the argument's, for the error.
    pub(super) fn required(self, name: &str) -> Result<Vec<String>, Failure> {
        self.optional(name)?.ok_or_else(|| Failure::invalid(format!("{name}: NULL")))
    }

    /// The strings, or `None` for NULL.
    pub(super) fn optional(self, name: &str) -> Result<Option<Vec<String>>, Failure> {
        if self.0.is_null() {
            return Ok(None);
        }
        let mut list = Vec::new();
        for index in 0..MAX_ENTRIES {
            // SAFETY: the array has a NULL entry at its end and no entry before this one was it.
            let entry = unsafe { self.0.add(index) };
            // SAFETY: as above.
            let text = unsafe { entry.read() };
            let Some(text) = text.optional(&format!("{name}[{index}]"))? else { break };
            list.push(text);
        }
        Ok(Some(list))
    }
}

/// `const uint8_t *` with a length of its own.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct CBytes(*const u8);

impl CBytes {
    #[cfg(any(test, feature = "test-utils"))]
    pub(super) fn new<T>(pointer: *const T) -> Self {
        CBytes(pointer.cast())
    }

    /// A copy of `len` bytes; NULL only for none.
    pub(super) fn copy(self, name: &str, len: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        if len == 0 {
            return Ok(bytes);
        }
        if self.0.is_null() {
            return Err(Failure::invalid(format!("{name}: NULL, with a length of {len}")));
        }
        if isize::try_from(len).is_err() {
            return Err(Failure::invalid(format!("{name}: a length of {len}")));
        }
        if bytes.try_reserve_exact(len).is_err() {
            return Err(Failure::new(libc::ENOMEM, format!("{name}: no memory for {len} bytes")));
        }
        // SAFETY: not NULL, so the caller promises `len` bytes that are not changed during the call; `len` is
        // not above isize::MAX.
        bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(self.0, len) });
        Ok(bytes)
    }
}

/// `uint8_t *` to the six bytes of an Ethernet address.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct CMac(*const [u8; 6]);

impl CMac {
    #[cfg(any(test, feature = "test-utils"))]
    pub(super) fn new<T>(pointer: *const T) -> Self {
        CMac(pointer.cast())
    }

    /// The address.
    pub(super) fn required(self, name: &str) -> Result<[u8; 6], Failure> {
        if self.0.is_null() {
            return Err(Failure::invalid(format!("{name}: NULL")));
        }
        // SAFETY: not NULL, so the caller promises six bytes; bytes have no alignment.
        Ok(unsafe { self.0.read() })
    }
}

/// A place for a result.
#[repr(transparent)]
pub struct COut<T>(*mut T);

impl<T> COut<T> {
    #[cfg(any(test, feature = "test-utils"))]
    pub(super) fn new(pointer: *mut T) -> Self {
        COut(pointer)
    }

    /// Fails if it is NULL.
    pub(super) fn check(&self, name: &str) -> Result<(), Failure> {
        if self.0.is_null() { Err(Failure::invalid(format!("{name}: NULL"))) } else { Ok(()) }
    }

    /// Stores the result; nothing happens for NULL.
    pub(super) fn store(self, value: T) {
        if !self.0.is_null() {
            // SAFETY: not NULL, so the caller promises an aligned place for a `T` that nobody else uses now.
            unsafe { self.0.write(value) }
        }
    }
}

/// A place with a value that is read and written.
#[repr(transparent)]
pub struct CInOut<T>(*mut T);

impl<T: Copy> CInOut<T> {
    #[cfg(any(test, feature = "test-utils"))]
    pub(super) fn new(pointer: *mut T) -> Self {
        CInOut(pointer)
    }

    /// The value; fails if there is no place.
    pub(super) fn load(&self, name: &str) -> Result<T, Failure> {
        if self.0.is_null() {
            return Err(Failure::invalid(format!("{name}: NULL")));
        }
        // SAFETY: not NULL, so the caller promises an aligned, initialized `T` that nobody else uses now.
        Ok(unsafe { self.0.read() })
    }

    /// Stores another; nothing happens for NULL.
    pub(super) fn store(self, value: T) {
        COut(self.0).store(value);
    }
}

/// `char *` to room for text, with a length of its own.
#[repr(transparent)]
pub struct CBuffer(*mut u8);

/// Writes into a [`CBuffer`], as far as it goes.
pub(super) struct BufferWriter {
    start: *mut u8,
    size: usize,
    written: usize,
}

impl CBuffer {
    #[cfg(any(test, feature = "test-utils"))]
    pub(super) fn new(pointer: *mut u8) -> Self {
        CBuffer(pointer)
    }

    /// Fails if it is NULL.
    pub(super) fn writer(self, name: &str, size: usize) -> Result<BufferWriter, Failure> {
        if self.0.is_null() {
            return Err(Failure::invalid(format!("{name}: NULL")));
        }
        // What a call can return.
        let size = size.min(i32::MAX as usize);
        Ok(BufferWriter { start: self.0, size, written: 0 })
    }
}

impl BufferWriter {
    /// Appends all of it, or nothing and gives false.
    pub(super) fn write(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() > self.size.saturating_sub(self.written) {
            return false;
        }
        // SAFETY: `written` is at most `size`, and the caller promises `size` bytes there.
        let to = unsafe { self.start.add(self.written) };
        // SAFETY: `bytes.len()` bytes are left there, of which nobody else uses any now.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        self.written = self.written.saturating_add(bytes.len());
        true
    }

    /// Bytes so far.
    pub(super) fn written(&self) -> i32 {
        // Below i32::MAX by construction.
        i32::try_from(self.written).unwrap_or(i32::MAX)
    }
}

/// A C99 `_Bool`: any value but 0 is true.
pub(super) type CBool = u8;

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    fn text(bytes: &CStr) -> CText {
        CText(bytes.as_ptr())
    }

    #[test]
    fn texts() {
        assert_eq!(text(c"").required("a").unwrap(), "");
        assert_eq!(text(c"h\xc3\xb6he").required("a").unwrap(), "höhe");
        assert_eq!(text(c"x").optional("a").unwrap().as_deref(), Some("x"));
        assert_eq!(CText(ptr::null()).optional("a").unwrap(), None);
        let null = CText(ptr::null()).required("a").unwrap_err();
        assert_eq!((null.errno, null.text.as_str()), (libc::EINVAL, "a: NULL"));
        let bad = text(c"ab\xff").optional("path").unwrap_err();
        assert_eq!((bad.errno, bad.text.as_str()), (libc::EINVAL, "path: not UTF-8 from byte 2 on"));
    }

    #[test]
    fn lists() {
        let end = CText(ptr::null());
        let list = |entries: &[CText]| CTextList(entries.as_ptr()).required("argv");
        assert_eq!(list(&[end]).unwrap(), Vec::<String>::new());
        assert_eq!(list(&[text(c"a"), text(c""), text(c"b"), end]).unwrap(), ["a", "", "b"]);
        let bad = list(&[text(c"a"), text(c"\xff"), end]).unwrap_err();
        assert_eq!((bad.errno, bad.text.as_str()), (libc::EINVAL, "argv[1]: not UTF-8 from byte 0 on"));
        assert_eq!(CTextList(ptr::null()).optional("argv").unwrap(), None);
        assert_eq!(CTextList(ptr::null()).required("argv").unwrap_err().errno, libc::EINVAL);
    }

    #[test]
    fn bytes() {
        let data = [1, 2, 3];
        assert_eq!(CBytes(data.as_ptr()).copy("data", 3).unwrap(), data);
        assert_eq!(CBytes(ptr::null()).copy("data", 0).unwrap(), Vec::<u8>::new());
        assert_eq!(CBytes(ptr::null()).copy("data", 1).unwrap_err().errno, libc::EINVAL);
        assert_eq!(CBytes(data.as_ptr()).copy("data", usize::MAX).unwrap_err().errno, libc::EINVAL);
        assert_eq!(CBytes(data.as_ptr()).copy("data", isize::MAX as usize).unwrap_err().errno, libc::ENOMEM);
        assert_eq!(CMac(&[1, 2, 3, 4, 5, 6]).required("mac").unwrap(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(CMac(ptr::null()).required("mac").unwrap_err().errno, libc::EINVAL);
    }

    #[test]
    fn results() {
        let mut place = 0;
        assert!(COut(&mut place).check("out").is_ok());
        COut(&mut place).store(7);
        assert_eq!(place, 7);
        let null = COut::<i32>(ptr::null_mut());
        assert_eq!(null.check("out").unwrap_err().errno, libc::EINVAL);
        null.store(7);
    }

    #[test]
    fn values_and_buffers() {
        let mut value = 5_u64;
        let place = CInOut(&mut value);
        assert_eq!(place.load("next").unwrap(), 5);
        place.store(6);
        assert_eq!(value, 6);
        assert_eq!(CInOut::<u64>(ptr::null_mut()).load("next").unwrap_err().errno, libc::EINVAL);
        let mut bytes = [b'-'; 6];
        let mut writer = CBuffer(bytes.as_mut_ptr()).writer("buffer", 5).unwrap();
        assert!(writer.write(b"abc") && !writer.write(b"def") && writer.write(b"gh") && !writer.write(b"i"));
        assert_eq!((writer.written(), &bytes), (5, b"abcgh-"));
        assert!(CBuffer(ptr::null_mut()).writer("buffer", 5).is_err());
    }

    #[test]
    fn no_more_than_4096_entries_are_read() {
        // No NULL at the end: one entry more would be out of bounds.
        let entries = [text(c"x"); MAX_ENTRIES];
        assert_eq!(CTextList(entries.as_ptr()).required("argv").unwrap().len(), MAX_ENTRIES);
    }
}
