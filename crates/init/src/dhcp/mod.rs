//! A DHCP client (RFC 2131), pure.
//!
//! [`Client`] is told of packets and of the time and says what to send and what lease to use; [`packet`] is the wire
//! format. A virtual network answers within microseconds, so the client asks again after a tenth of a second, where RFC
//! 2131 §4.1 suggests four seconds for a real one; like there the wait doubles with every try and is scattered.
//!
//! ```
//! use purlin_init::dhcp::{Client, Destination, Order};
//!
//! let mut client = Client::new([2, 0, 0, 0, 0, 1], 7, 0);
//! let Some(Order::Send(Destination::Broadcast, discover)) = client.tick(0) else { panic!() };
//! assert_eq!(discover.len(), 300);
//! // Nobody answers: the question is asked again.
//! let again = client.deadline().unwrap();
//! assert!((100..125).contains(&again));
//! assert!(client.tick(again).is_some() && client.lease().is_none());
//! ```

mod client;
pub mod packet;
mod words;

#[cfg(test)]
mod tests;

pub use client::{Client, Destination, Lease, Order, PATIENCE_MS};

/// Port of servers.
pub const SERVER_PORT: u16 = 67;
/// Port of clients.
pub const CLIENT_PORT: u16 = 68;
