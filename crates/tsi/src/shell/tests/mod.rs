//! The device with real sockets, and a driver that speaks the guest's protocol.

mod device;
mod guest;
mod policy;
