//! The device with real sockets, and a driver that speaks the guest's protocol.

mod changing;
mod datagrams;
mod descriptors;
mod device;
mod guest;
mod hostile;
mod listeners;
mod policy;
mod streams;
