//! Reading `/proc/PID/smaps`: what a VM's process keeps in memory outside guest RAM.

/// From this size on, a mapping without a file is taken for guest RAM (or a window into it), in KiB.
const RAM_FROM: u64 = 16 << 10;

/// Resident memory of a process, in KiB.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// Everything but guest RAM: code, libraries, heaps, stacks, a guest kernel mapped from a file.
    pub outside: u64,
    /// In guest RAM.
    pub ram: u64,
    /// The size of the mappings taken for guest RAM.
    pub ram_size: u64,
}

/// Sums up the text of an smaps file (man 5 proc_pid_smaps).
pub fn resident(smaps: &str) -> Resident {
    let mut sum = Resident::default();
    let mut is_memory = false;
    let mut is_ram = false;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        if !first.ends_with(':') {
            is_memory = has_no_file(words);
            continue;
        }
        let kib = words.next().and_then(|number| number.parse().ok()).unwrap_or(0);
        match first {
            "Size:" => {
                is_ram = is_memory && kib >= RAM_FROM;
                sum.ram_size += if is_ram { kib } else { 0 };
            }
            "Rss:" if is_ram => sum.ram += kib,
            "Rss:" => sum.outside += kib,
            _ => {}
        }
    }
    sum
}

/// Whether a mapping, by the words after its address range, is anonymous or a memfd.
fn has_no_file<'a>(mut words: impl Iterator<Item = &'a str>) -> bool {
    let inode = words.nth(3).unwrap_or_default();
    let path = words.next().unwrap_or_default();
    path.starts_with("/memfd:") || path.starts_with("/dev/zero") || (inode == "0" && !path.starts_with('['))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_ram_is_told_from_the_rest() {
        let smaps = "\
7f0000000000-7f0010000000 rw-p 00000000 00:00 0
Size:             262144 kB
Rss:               40000 kB
7f0010000000-7f0011000000 rw-s 00000000 00:01 77 /memfd:ram (deleted)
Size:              16384 kB
Rss:                 100 kB
7f0020000000-7f0021000000 rw-p 00000000 08:01 12 /lib/libkrunfw.so.5
Size:              20000 kB
Rss:               18000 kB
VmFlags: rd wr
7f0030000000-7f0030100000 rw-p 00000000 00:00 0
Size:               1024 kB
Rss:                 200 kB
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]
Size:                132 kB
Rss:                  12 kB
";
        assert_eq!(resident(smaps), Resident { outside: 18_212, ram: 40_100, ram_size: 278_528 });
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(resident(""), Resident::default());
    }
}
