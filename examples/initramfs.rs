//! Makes an initial RAM disk and says what is in it. Needs no KVM.
//!
//! `purlin-initramfs [--init HOST] [--program GUEST=HOST]... [--file GUEST=HOST]... [--plain] [--no-cache] [--output FILE]`

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::BufWriter;
use std::process::ExitCode;

use lexopt::Arg::{Long, Short};
use lexopt::ValueExt;
use purlin_vmm_core::boot::initramfs::shell::{Compression, Initramfs, InitramfsBuilder};
use purlin_vmm_core::boot::initramfs::sizing::{Footprint, RootShare};

const USAGE: &str = "\
usage: purlin-initramfs [OPTIONS]

Makes an initial RAM disk for Linux and prints its parts.

  --init HOST            a program as /init, with its shared libraries
  --program GUEST=HOST   a program with its shared libraries
  --file GUEST=HOST      a file, with the mode it has
  --plain                not compressed (default: LZ4)
  --no-cache             not kept in shared memory
  --output FILE          also write the archive to a file
";

fn options() -> Result<Option<(InitramfsBuilder, Option<OsString>)>, lexopt::Error> {
    let mut builder = InitramfsBuilder::new();
    let mut output = None;
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("init") => builder = builder.init(parser.value()?),
            Long("program") => {
                let (guest, host) = pair(&parser.value()?.string()?)?;
                builder = builder.program(guest, host);
            }
            Long("file") => {
                let (guest, host) = pair(&parser.value()?.string()?)?;
                builder = builder.file(guest, None, host);
            }
            Long("plain") => builder = builder.compression(Compression::None),
            Long("no-cache") => builder = builder.cache(None),
            Long("output") => output = Some(parser.value()?),
            Short('h') | Long("help") => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some((builder, output)))
}

fn pair(text: &str) -> Result<(String, String), lexopt::Error> {
    let (guest, host) = text.split_once('=').ok_or("use GUEST=HOST")?;
    Ok((guest.to_owned(), host.to_owned()))
}

fn print(archive: &Initramfs) {
    println!("{:>12}  {:<44} from", "bytes", "path");
    for part in archive.parts() {
        println!("{:>12}  {:<44} {}", part.len, part.path, part.from);
    }
    let sizes = archive.sizes();
    println!("\nbase {} bytes ({:?}), suffix {} bytes", sizes.base, archive.base_origin(), sizes.suffix);
    println!("{} bytes in guest RAM, {} bytes unpacked", sizes.packed(), sizes.unpacked);
    println!("key {}", archive.key());
    for (share, words) in [(RootShare::Half, "any kernel"), (RootShare::NineTenths, RootShare::OPTION)] {
        let footprint = Footprint { unpacked: sizes.unpacked, packed: sizes.packed(), kernel: 0, share };
        println!("{} MiB of guest RAM and the kernel's own need ({words})", footprint.required_mib());
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let Some((builder, output)) = options()? else {
        print!("{USAGE}");
        return Ok(());
    };
    let archive = builder.build()?;
    print(&archive);
    if let Some(path) = output {
        archive.write_to(&mut BufWriter::new(File::create(path)?))?;
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("purlin-initramfs: {error}");
            ExitCode::FAILURE
        }
    }
}
