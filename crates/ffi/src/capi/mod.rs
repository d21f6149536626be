//! The C interface: `libkrun.so.1`, with libkrun 1.19's calls and a few of our own. `include/libkrun.h` is
//! its documentation.
//!
//! A context is plain data ([`context`]); calls fill it and `krun_start_enter` ([`start`]) turns it into a
//! [`VmConfig`](crate::VmConfig). Nothing here knows a device.
//!
//! Rules every call keeps, each in one place:
//!
//! - nothing unwinds into C, failures are negative errno values with a text behind `krun_get_last_error`
//!   ([`guard`]);
//! - pointers are read by types that answer NULL and bad UTF-8 with `-EINVAL` ([`pointers`]);
//! - arguments are checked first, in order, and the context is looked up last ([`table`]);
//! - calls on a machine that runs find it by the id of its context ([`running`]);
//! - nothing but `krun_create_ctx` (which loads libkrunfw) and `krun_start_enter` touches the host, unless
//!   its documentation says so, and only `krun_start_enter` starts threads.

mod console;
mod context;
mod control;
mod descriptors;
mod disk;
mod egress;
mod exec;
mod exit;
mod features;
mod fs;
#[cfg(any(test, feature = "test-utils"))]
pub(crate) mod fuzz;
mod graphics;
mod guard;
mod init;
mod kernel;
mod lifecycle;
mod logger;
mod machine;
mod net;
mod outlet;
mod overlay;
mod pointers;
mod rescue;
mod resident;
mod running;
mod serial;
mod shutdown;
mod signals;
mod start;
mod stdio;
mod table;
mod user;
mod vsock;
