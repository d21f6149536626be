//! The DHCP client's socket, and what its orders do to the interface.

use crate::console::{say, trace, with_error};
use crate::dhcp::packet::MAX_LENGTH;
use crate::dhcp::{CLIENT_PORT, Client, Destination, Order, PATIENCE_MS, SERVER_PORT};
use crate::errno::Errno;
use crate::interfaces;
use crate::net::INTERFACE;
use crate::plan;
use crate::setup::perform_all;
use crate::sys::{self, Fd, Poll, Result};

/// Packets read at one time, so that a flood cannot hold up the rest.
const MOST_PACKETS: usize = 32;

pub struct Dhcp {
    client: Client,
    socket: Fd,
}

impl Dhcp {
    /// A client for the network card's interface, which is up.
    fn new() -> Result<Self> {
        let mac = sys::hardware_address(&sys::route_socket()?, INTERFACE)?;
        let socket = sys::datagram_socket(INTERFACE, CLIENT_PORT)?;
        Ok(Self { client: Client::new(mac, sys::random(), sys::now()), socket })
    }

    /// Asks for an address and waits for it, for a while. The client is there also if none has come: it goes on asking.
    pub fn acquire() -> Option<Self> {
        let mut dhcp = match Self::new() {
            Ok(dhcp) => dhcp,
            // No network card: as good as not asked.
            Err(Errno::NODEV) => return None,
            Err(why) => {
                say(&with_error("ask for an address by DHCP", why));
                return None;
            }
        };
        let until = sys::now().saturating_add(PATIENCE_MS);
        loop {
            dhcp.run();
            let now = sys::now();
            if dhcp.client.lease().is_some() {
                break;
            }
            if now >= until {
                say("no DHCP server answers; the boot goes on without an address");
                break;
            }
            let next = dhcp.deadline().map_or(until, |next| next.min(until));
            sys::poll(&mut [dhcp.poll_entry()], Some(next.saturating_sub(now)));
        }
        Some(dhcp)
    }

    /// What to wait for.
    pub fn poll_entry(&self) -> Poll {
        Poll::new(&self.socket, Poll::READ)
    }

    /// When something is due.
    pub fn deadline(&self) -> Option<u64> {
        self.client.deadline()
    }

    /// Does what is due, and takes what has come.
    pub fn run(&mut self) {
        let order = self.client.tick(sys::now());
        self.obey(order);
        let mut packet = [0; MAX_LENGTH];
        for _ in 0..MOST_PACKETS {
            let Ok((packet, from)) = sys::receive_from(&self.socket, &mut packet) else { return };
            let order = self.client.receive(sys::now(), packet, from);
            self.obey(order);
        }
    }

    fn obey(&self, order: Option<Order>) {
        match order {
            None => {}
            // What does not get out is asked again.
            Some(Order::Send(to, packet)) => {
                let to = match to {
                    Destination::Broadcast => [255; 4],
                    Destination::Server(address) => address,
                };
                let _ = sys::send_to(&self.socket, &packet, to, SERVER_PORT);
            }
            Some(Order::Use(lease)) => {
                trace("an address by DHCP");
                // None of the steps is fatal.
                let _ = perform_all(&plan::network(&lease.settings));
            }
            Some(Order::Drop(lease)) => {
                say("the DHCP lease is over");
                let settings = lease.settings;
                if let Err(why) = interfaces::delete_address(INTERFACE, settings.address, settings.prefix) {
                    say(&with_error("remove the address", why));
                }
            }
        }
    }
}
