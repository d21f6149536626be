//! Legacy x86 devices on port I/O.
