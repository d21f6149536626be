//! The processor name guests see (CPUID leaves 0x8000_0002 to 0x8000_0004): a generic one, so that a guest
//! moved to another host of the same family does not see it change, with the nominal frequency kept.

use super::cpuid::Table;

const LEAVES: [u32; 3] = [0x8000_0002, 0x8000_0003, 0x8000_0004];
const LEN: usize = 48;

pub(super) fn intel(table: &mut Table) {
    let host = read(table);
    let mut name = "Intel(R) Xeon(R) Processor".to_owned();
    if let Some(frequency) = frequency(&host) {
        name.push_str(" @ ");
        name.push_str(&frequency);
    }
    write(table, &name);
}

pub(super) fn amd(table: &mut Table) {
    write(table, "AMD EPYC");
}

fn read(table: &Table) -> Vec<u8> {
    let registers =
        LEAVES.iter().filter_map(|&leaf| table.get(leaf)).flat_map(|e| [e.eax, e.ebx, e.ecx, e.edx]);
    registers.flat_map(u32::to_le_bytes).take_while(|&b| b != 0).collect()
}

/// The text behind the last `@`, if it is a plain frequency.
fn frequency(name: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(name).ok()?;
    let (_, frequency) = text.rsplit_once('@')?;
    let frequency = frequency.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.';
    (frequency.ends_with("Hz") && frequency.len() <= 12 && frequency.chars().all(plain))
        .then(|| frequency.to_owned())
}

fn write(table: &mut Table, name: &str) {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(LEN, 0);
    for (leaf, part) in LEAVES.into_iter().zip(bytes.chunks_exact(16)) {
        let mut words = part.chunks_exact(4).map(|w| w.try_into().map_or(0, u32::from_le_bytes));
        let mut next = || words.next().unwrap_or(0);
        let registers = [next(), next(), next(), next()];
        table.edit(leaf, |e| [e.eax, e.ebx, e.ecx, e.edx] = registers);
    }
}
