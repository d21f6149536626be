//! The device seen by a driver: FUSE messages through real rings, served by the device's own thread
//! against real directories.

mod bounds;
mod client;
mod device;
mod files;
mod hostile;
mod kernel;
mod life;
mod posix;
mod special;
mod tree;
mod umask;
mod waiting;
mod window;
