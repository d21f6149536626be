//! The shared libraries of a program, and where its loader will find them in the guest (`ld.so(8)`). Pure: the host's
//! files are behind [`Files`].
//!
//! The guest has neither an `ld.so.cache` nor `LD_LIBRARY_PATH`, so every library must lie where its loader looks by
//! itself: in a directory of a search path inside the files, or in a default directory. A library that the host knows
//! from its configuration only is therefore moved to a default directory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use super::program::{Needs, ProgramError, needs};
use super::tree::Content;

/// Most libraries of one program.
pub const MAX_LIBRARIES: usize = 1024;

/// Where a loader looks by itself, first the directories of multiarch systems. The first that exists also gets what
/// is moved.
const DEFAULT_DIRECTORIES: [&str; 6] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];
/// The same for musl's loader.
const MUSL_DIRECTORIES: [&str; 3] = ["/lib", "/usr/local/lib", "/usr/lib"];
/// Parts of the C library that musl's loader is itself (musl `ldso/dynlink.c`).
const MUSL_ITSELF: [&str; 8] =
    ["libc.", "libpthread.", "librt.", "libm.", "libdl.", "libcrypt.", "libutil.", "libxnet."];

/// The host's files.
pub trait Files {
    /// The content of a regular file, links followed; `None` if there is none of this name.
    ///
    /// # Errors
    ///
    /// It exists and cannot be read.
    fn read(&self, path: &str) -> io::Result<Option<Content>>;

    /// The directory with all symbolic links in its name replaced; `None` if it is no directory.
    fn real_directory(&self, path: &str) -> Option<String>;
}

/// A library, and where it is to be.
#[derive(Debug, Clone)]
pub struct Library {
    /// Where it was found.
    pub host: String,
    /// Where its loader finds it.
    pub guest: String,
    /// Its bytes.
    pub content: Content,
}

/// Why the libraries of a program are not all there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClosureError {
    /// A library is nowhere.
    #[error("{library}, which {needed_by} needs, is not in {}", list(searched))]
    Missing {
        /// The name asked for.
        library: String,
        /// Who asked.
        needed_by: String,
        /// The directories searched.
        searched: Vec<String>,
    },
    /// A library is asked for by a path that depends on the working directory.
    #[error("{needed_by} needs {library}, a path that depends on the working directory")]
    RelativePath {
        /// The path asked for.
        library: String,
        /// Who asked.
        needed_by: String,
    },
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A file is not a usable ELF file.
    #[error("{path} is {source}")]
    Program {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: ProgramError,
    },
    /// More than [`MAX_LIBRARIES`].
    #[error("more than {MAX_LIBRARIES} libraries")]
    TooMany,
}

fn list(directories: &[String]) -> String {
    directories.join(", ")
}

/// A directory to search: its name on the host, and in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Dir {
    host: String,
    guest: String,
}

/// A file whose libraries are to be found.
struct Object {
    host: String,
    needs: Needs,
    /// The search path of its own, expanded.
    own: Vec<Dir>,
    /// Search paths of those who asked for it.
    inherited: Arc<[Dir]>,
}

/// The libraries of a program that is `content`, was found at `host` and will be at `guest`; its loader comes first.
/// Empty for what is static or no ELF file. `more` are directories of the host to search after the default ones.
///
/// # Errors
///
/// [`ClosureError`].
pub fn libraries(
    files: &impl Files,
    more: &[String],
    host: &str,
    guest: &str,
    content: &Content,
) -> Result<Vec<Library>, ClosureError> {
    let program = |source| ClosureError::Program { path: host.to_owned(), source };
    let Some(needs) = needs(content.bytes()).map_err(program)? else { return Ok(Vec::new()) };
    let mut search = Search::new(files, more, &needs);
    let mut found = search.loader(needs.interpreter.as_deref(), host)?;
    let mut queue = VecDeque::from([object(host, guest, needs, &Arc::from([]))]);
    while let Some(object) = queue.pop_front() {
        for name in &object.needs.libraries {
            if !search.is_new(name) {
                continue;
            }
            let (library, needs) = search.find(name, &object)?;
            let inherited: Arc<[Dir]> = if object.needs.search_is_inherited {
                object.own.iter().chain(&*object.inherited).cloned().collect()
            } else {
                object.inherited.clone()
            };
            queue.push_back(self::object(&library.host, &library.guest, needs, &inherited));
            found.push(library);
            if found.len() > MAX_LIBRARIES {
                return Err(ClosureError::TooMany);
            }
        }
    }
    Ok(found)
}

fn object(host: &str, guest: &str, needs: Needs, inherited: &Arc<[Dir]>) -> Object {
    let own = needs.search.iter().filter_map(|dir| expand(dir, host, guest)).collect();
    Object { host: host.to_owned(), needs, own, inherited: inherited.clone() }
}

/// A directory of a search path; `None` for one that says nothing outside of a running program.
fn expand(written: &str, host: &str, guest: &str) -> Option<Dir> {
    let on = |path: &str| {
        let origin = directory(path);
        let lib = written.replace("${LIB}", "lib64").replace("$LIB", "lib64");
        let lib = lib.replace("${PLATFORM}", "x86_64").replace("$PLATFORM", "x86_64");
        lexical(&lib.replace("${ORIGIN}", origin).replace("$ORIGIN", origin))
    };
    Some(Dir { host: on(host)?, guest: on(guest)? })
}

/// The directory part of an absolute path; empty for the root.
fn directory(path: &str) -> &str {
    path.rfind('/').and_then(|end| path.get(..end)).unwrap_or("")
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// An absolute path without `.`, `..` and doubled slashes, as the loader will have it if no part is a link.
fn lexical(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return None;
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Some(format!("/{}", parts.join("/")))
}

fn join(directory: &str, name: &str) -> String {
    format!("{}/{name}", directory.strip_suffix('/').unwrap_or(directory))
}

/// The state of one search.
struct Search<'a, F> {
    files: &'a F,
    defaults: Vec<Dir>,
    configured: Vec<Dir>,
    is_musl: bool,
    /// Names that are settled. A loader loads a name once, wherever it is asked for.
    settled: BTreeSet<String>,
    read: BTreeMap<String, Option<(Content, Needs)>>,
}

impl<'a, F: Files> Search<'a, F> {
    fn new(files: &'a F, more: &[String], program: &Needs) -> Self {
        let is_musl =
            program.interpreter.as_deref().is_some_and(|path| file_name(path).starts_with("ld-musl"));
        let names: &[&str] = if is_musl { &MUSL_DIRECTORIES } else { &DEFAULT_DIRECTORIES };
        // Under the real name: /lib may be a link to /usr/lib, and both are default directories then.
        let real = |&name: &&str| {
            let real = files.real_directory(name)?;
            Some(Dir { host: real.clone(), guest: real })
        };
        let mut defaults: Vec<Dir> = names.iter().filter_map(real).collect();
        defaults.dedup();
        let target = defaults.first().map_or_else(|| "/lib".to_owned(), |dir| dir.guest.clone());
        let configured = more.iter().map(|host| Dir { host: host.clone(), guest: target.clone() }).collect();
        Search { files, defaults, configured, is_musl, settled: BTreeSet::new(), read: BTreeMap::new() }
    }

    /// The loader itself lies exactly where the program says.
    fn loader(&mut self, path: Option<&str>, needed_by: &str) -> Result<Vec<Library>, ClosureError> {
        let Some(path) = path.and_then(lexical) else { return Ok(Vec::new()) };
        let path = path.as_str();
        self.settled.insert(file_name(path).to_owned());
        let missing = || ClosureError::Missing {
            library: path.to_owned(),
            needed_by: needed_by.to_owned(),
            searched: vec![directory(path).to_owned()],
        };
        let (content, _) = self.load(path)?.ok_or_else(missing)?;
        Ok(vec![Library { host: path.to_owned(), guest: path.to_owned(), content }])
    }

    fn is_new(&mut self, name: &str) -> bool {
        let is_the_loader = self.is_musl && MUSL_ITSELF.iter().any(|itself| name.starts_with(itself));
        !is_the_loader && self.settled.insert(name.to_owned())
    }

    fn find(&mut self, name: &str, object: &Object) -> Result<(Library, Needs), ClosureError> {
        let needed_by = || object.host.clone();
        if name.contains('/') {
            let refused = || ClosureError::RelativePath { library: name.to_owned(), needed_by: needed_by() };
            let path = lexical(name).ok_or_else(refused)?;
            let missing = || ClosureError::Missing {
                library: name.to_owned(),
                needed_by: needed_by(),
                searched: vec![directory(&path).to_owned()],
            };
            let (content, needs) = self.load(&path)?.ok_or_else(missing)?;
            return Ok((Library { host: path.clone(), guest: path.clone(), content }, needs));
        }
        let mut dirs: Vec<Dir> = object.own.clone();
        // A search path of the new kind stands for itself alone.
        if object.needs.search.is_empty() || object.needs.search_is_inherited {
            dirs.extend(object.inherited.iter().cloned());
        }
        if !object.needs.no_default {
            dirs.extend(self.defaults.iter().chain(&self.configured).cloned());
        }
        for dir in &dirs {
            let host = join(&dir.host, name);
            if let Some((content, needs)) = self.load(&host)? {
                return Ok((Library { host, guest: join(&dir.guest, name), content }, needs));
            }
        }
        let mut searched: Vec<String> = dirs.into_iter().map(|dir| dir.host).collect();
        searched.dedup();
        Err(ClosureError::Missing { library: name.to_owned(), needed_by: needed_by(), searched })
    }

    /// A library in a file; `None` for what a loader would pass over: nothing there, a linker script, another machine.
    fn load(&mut self, path: &str) -> Result<Option<(Content, Needs)>, ClosureError> {
        if let Some(known) = self.read.get(path) {
            return Ok(known.clone());
        }
        let read = |source| ClosureError::Read { path: path.into(), source };
        let loaded = match self.files.read(path).map_err(read)? {
            None => None,
            Some(content) => match needs(content.bytes()) {
                Ok(needs) => needs.map(|needs| (content, needs)),
                Err(ProgramError::Machine) => None,
                Err(source) => return Err(ClosureError::Program { path: path.to_owned(), source }),
            },
        };
        self.read.insert(path.to_owned(), loaded.clone());
        Ok(loaded)
    }
}

#[cfg(test)]
#[path = "closure_tests.rs"]
mod tests;
