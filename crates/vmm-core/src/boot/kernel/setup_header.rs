//! The setup header of a bzImage (Linux `Documentation/arch/x86/boot.rst`, "The Real-Mode Kernel Header"). Pure.

/// First byte of the header, in the file and in the zero page.
pub(in crate::boot) const START: usize = 0x1f1;
/// The header ends at `0x202` and the byte at `0x201`.
const LENGTH: usize = 0x201;
const JUMP_END: usize = 0x202;
/// What follows the header in the zero page (`edd_mbr_sig_buffer`): a longer header is not copied.
const LIMIT: usize = 0x290;

const SECTOR: u64 = 512;
const BOOT_FLAG: u16 = 0xaa55;
const MAGIC: &[u8] = b"HdrS";
/// Protocol 2.08: payload offset and length.
const VERSION_PAYLOAD: u16 = 0x208;
/// Protocol 2.12: `xloadflags`.
const VERSION_XLOADFLAGS: u16 = 0x20c;
/// `loadflags` bit 0: the protected-mode part goes to 1 MiB.
const LOADED_HIGH: u8 = 1;
/// `xloadflags` bit 0: a 64-bit entry at 0x200.
const KERNEL_64: u16 = 1;

/// What the header of a bzImage says. Numbers are as in the file: not checked against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupHeader {
    bytes: Vec<u8>,
    /// Offset in the file of the protected-mode part.
    pub(super) protected_mode: u64,
    /// Offset in the protected-mode part and length of the compressed kernel, if the header names them.
    pub(super) payload: Option<(u64, u64)>,
    /// It can be entered in 64-bit mode.
    pub(super) has_64_bit_entry: bool,
    pub(super) relocatable: bool,
    pub(super) alignment: u64,
    pub(super) pref_address: u64,
    pub(super) code32_start: u64,
    pub(super) init_size: u64,
    /// Offset in the file of the text that names the release.
    pub(super) release_at: Option<u64>,
    /// Longest command line, without its NUL.
    pub(super) cmdline_size: u32,
    /// Last address a RAM disk may occupy.
    pub(super) initrd_addr_max: u32,
}

impl SetupHeader {
    /// The header of a file that begins with `head`; `None` if it has none or is older than protocol 2.08 (2007).
    pub fn parse(head: &[u8]) -> Option<Self> {
        let byte = |at: usize| head.get(at).copied();
        let half = |at: usize| Some(u16::from_le_bytes(*head.get(at..)?.first_chunk()?));
        let word = |at: usize| Some(u32::from_le_bytes(*head.get(at..)?.first_chunk()?));
        let long = |at: usize| Some(u64::from_le_bytes(*head.get(at..)?.first_chunk()?));
        if half(0x1fe)? != BOOT_FLAG || head.get(0x202..0x206)? != MAGIC {
            return None;
        }
        let version = half(0x206)?;
        if version < VERSION_PAYLOAD || byte(0x211)? & LOADED_HIGH == 0 {
            return None;
        }
        // 0 stands for 4; at most 256 sectors.
        let setup_sectors = match byte(0x1f1)? {
            0 => 4,
            sectors => u64::from(sectors),
        };
        let (payload_offset, payload_length) = (word(0x248)?, word(0x24c)?);
        let end = JUMP_END + usize::from(byte(LENGTH)?);
        Some(SetupHeader {
            bytes: head.get(START..end.clamp(START, LIMIT))?.to_vec(),
            protected_mode: (setup_sectors + 1) * SECTOR,
            payload: (payload_length > 0).then_some((payload_offset.into(), payload_length.into())),
            has_64_bit_entry: version >= VERSION_XLOADFLAGS && half(0x236)? & KERNEL_64 != 0,
            relocatable: byte(0x234)? != 0,
            alignment: word(0x230)?.into(),
            pref_address: long(0x258)?,
            code32_start: word(0x214)?.into(),
            init_size: word(0x260)?.into(),
            // Relative to 0x200; 0 if there is none.
            release_at: Some(half(0x20e)?).filter(|&at| at > 0).map(|at| u64::from(at) + 0x200),
            cmdline_size: word(0x238)?,
            initrd_addr_max: word(0x22c)?,
        })
    }

    /// The header's own bytes, which the zero page has from 0x1f1 on.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Longest command line the kernel reads, in bytes without the NUL.
    pub fn cmdline_size(&self) -> u32 {
        self.cmdline_size
    }
}
