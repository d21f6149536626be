//! What an ELF program or library asks its dynamic loader for (System V ABI chapter 5; `ld.so(8)`). Pure.
//!
//! Any bytes are acceptable input: what is not an ELF file is `None`, what is a broken one is an error, and no more
//! than the limits below is taken out of it.

use elf::ElfBytes;
use elf::abi::{
    DF_1_NODEFLIB, DT_FLAGS_1, DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_STRSZ, DT_STRTAB, ELFCLASS64, ELFDATA2LSB,
    ELFMAGIC, EM_X86_64, PT_DYNAMIC, PT_INTERP, PT_LOAD,
};
use elf::endian::LittleEndian;
use elf::segment::ProgramHeader;
use elf::string_table::StringTable;
use thiserror::Error;

/// Most libraries that one file may ask for.
pub const MAX_NEEDED: usize = 1024;
/// Most directories in one search path.
pub const MAX_SEARCH: usize = 64;
/// Longest name or path in bytes.
pub const MAX_TEXT: usize = 4095;
/// Most program headers and dynamic entries that are looked at.
const MAX_HEADERS: usize = 1024;
const MAX_DYNAMIC: usize = 1 << 16;

/// What a file asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// The program loader, an absolute path; libraries and static programs have none.
    pub interpreter: Option<String>,
    /// Names of libraries, in order.
    pub libraries: Vec<String>,
    /// Directories to search first, as written (`$ORIGIN` is not expanded).
    pub search: Vec<String>,
    /// `search` is a `DT_RPATH`: it also counts for the libraries of the libraries.
    pub search_is_inherited: bool,
    /// The default directories are not searched.
    pub no_default: bool,
}

/// Why an ELF file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// For another machine.
    #[error("an ELF file, but not a 64-bit little-endian one for x86-64")]
    Machine,
    /// Headers or tables that are cut off or contradict each other.
    #[error("a broken ELF file: {0}")]
    Malformed(&'static str),
    /// Something asks for more than any honest file does.
    #[error("an ELF file with more than {limit} {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

/// Reads what a file asks for; `None` if it is no ELF file.
///
/// # Errors
///
/// [`ProgramError`].
pub fn needs(file: &[u8]) -> Result<Option<Needs>, ProgramError> {
    if !file.starts_with(&ELFMAGIC) {
        return Ok(None);
    }
    let ident = (file.get(4).copied(), file.get(5).copied());
    if ident != (Some(ELFCLASS64), Some(ELFDATA2LSB)) {
        return Err(ProgramError::Machine);
    }
    let malformed = |what| move |_| ProgramError::Malformed(what);
    let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(malformed("header"))?;
    if elf.ehdr.e_machine != EM_X86_64 {
        return Err(ProgramError::Machine);
    }
    let Some(segments) = elf.segments() else { return Ok(Some(Needs::default())) };
    if segments.len() > MAX_HEADERS {
        return Err(ProgramError::TooMany { what: "program headers", limit: MAX_HEADERS });
    }
    let segments: Vec<ProgramHeader> = segments.iter().collect();
    let image = Image { file, segments: &segments };

    let mut needs = Needs { interpreter: image.interpreter()?, ..Needs::default() };
    image.dynamic(&mut needs)?;
    Ok(Some(needs))
}

struct Image<'a> {
    file: &'a [u8],
    segments: &'a [ProgramHeader],
}

impl<'a> Image<'a> {
    fn segment(&self, kind: u32) -> Result<Option<&'a [u8]>, ProgramError> {
        let Some(header) = self.segments.iter().find(|segment| segment.p_type == kind) else {
            return Ok(None);
        };
        let bytes = self.bytes(header.p_offset, header.p_filesz);
        bytes.map(Some).ok_or(ProgramError::Malformed("segment outside of the file"))
    }

    fn bytes(&self, offset: u64, len: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(offset).ok()?;
        let end = usize::try_from(offset.checked_add(len)?).ok()?;
        self.file.get(start..end)
    }

    /// What lies at a virtual address, up to the end of its segment in the file.
    fn at_address(&self, address: u64) -> Option<&'a [u8]> {
        self.segments.iter().filter(|segment| segment.p_type == PT_LOAD).find_map(|segment| {
            let inside = address.checked_sub(segment.p_vaddr).filter(|&inside| inside < segment.p_filesz)?;
            self.bytes(segment.p_offset.checked_add(inside)?, segment.p_filesz.checked_sub(inside)?)
        })
    }

    fn interpreter(&self) -> Result<Option<String>, ProgramError> {
        let Some(bytes) = self.segment(PT_INTERP)? else { return Ok(None) };
        let path = StringTable::new(bytes).get_raw(0).ok().filter(|path| path.starts_with(b"/"));
        path.and_then(text).map(Some).ok_or(ProgramError::Malformed("program loader"))
    }

    fn dynamic(&self, needs: &mut Needs) -> Result<(), ProgramError> {
        let Some(table) = self.segment(PT_DYNAMIC)? else { return Ok(()) };
        let entries = table.chunks_exact(16).filter_map(|entry| {
            let (tag, value) = (entry.first_chunk::<8>()?, entry.last_chunk::<8>()?);
            Some((i64::from_le_bytes(*tag), u64::from_le_bytes(*value)))
        });
        let (mut strings_at, mut strings_len) = (None, None);
        let (mut names, mut run_path, mut r_path) = (Vec::new(), None, None);
        for (number, (tag, value)) in entries.take_while(|&(tag, _)| tag != 0).enumerate() {
            if number >= MAX_DYNAMIC {
                return Err(ProgramError::TooMany { what: "dynamic entries", limit: MAX_DYNAMIC });
            }
            match tag {
                DT_STRTAB => strings_at = Some(value),
                DT_STRSZ => strings_len = Some(value),
                DT_NEEDED if names.len() >= MAX_NEEDED => {
                    return Err(ProgramError::TooMany { what: "needed libraries", limit: MAX_NEEDED });
                }
                DT_NEEDED => names.push(value),
                DT_RUNPATH => run_path = Some(value),
                DT_RPATH => r_path = Some(value),
                DT_FLAGS_1 => needs.no_default = value & u64::from(DF_1_NODEFLIB as u32) != 0,
                _ => {}
            }
        }
        if names.is_empty() && run_path.is_none() && r_path.is_none() {
            return Ok(());
        }
        let strings = strings_at.and_then(|address| self.at_address(address));
        let strings = strings.ok_or(ProgramError::Malformed("no string table"))?;
        let len = usize::try_from(strings_len.unwrap_or(0)).unwrap_or(usize::MAX).min(strings.len());
        let strings = StringTable::new(strings.get(..len).unwrap_or_default());
        let string = |offset: u64| {
            let raw = usize::try_from(offset).ok().and_then(|offset| strings.get_raw(offset).ok());
            raw.and_then(text).ok_or(ProgramError::Malformed("name outside of the string table, or no text"))
        };
        for name in names {
            let name = string(name)?;
            if name.is_empty() {
                return Err(ProgramError::Malformed("a needed library without a name"));
            }
            needs.libraries.push(name);
        }
        // A DT_RUNPATH disables the older DT_RPATH.
        needs.search_is_inherited = run_path.is_none() && r_path.is_some();
        if let Some(path) = run_path.or(r_path) {
            needs.search = search_path(&string(path)?)?;
        }
        Ok(())
    }
}

/// An empty directory means the working directory, which a guest's first program has none worth searching of.
fn search_path(path: &str) -> Result<Vec<String>, ProgramError> {
    let directories: Vec<String> = path.split(':').filter(|dir| !dir.is_empty()).map(str::to_owned).collect();
    if directories.len() > MAX_SEARCH {
        return Err(ProgramError::TooMany { what: "directories in a search path", limit: MAX_SEARCH });
    }
    Ok(directories)
}

fn text(raw: &[u8]) -> Option<String> {
    if raw.len() > MAX_TEXT { None } else { String::from_utf8(raw.to_vec()).ok() }
}

#[cfg(test)]
#[path = "program_tests.rs"]
pub(super) mod tests;
