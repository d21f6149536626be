//! What a network interface is given, wherever that comes from, and the resolver's file.

use alloc::vec::Vec;

/// An IPv4 address.
pub type Address = [u8; 4];

/// The interface of a virtual machine's network card.
pub const INTERFACE: &str = "eth0";

/// Settings of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its address.
    pub address: Address,
    /// Bits of its network's part, 0 to 32.
    pub prefix: u8,
    /// Where packets for other networks go.
    pub router: Option<Address>,
    /// Largest packet, bytes; `None` leaves it.
    pub mtu: Option<u32>,
    /// Name servers, best first.
    pub dns: Vec<Address>,
}

impl Settings {
    /// Reads `address/prefix:router[:dns]`. Without a name server the router is one.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, &'static str> {
        const FORM: &str = "not address/prefix:router[:dns]";
        let mut parts = text.trim_ascii().split(|&byte| byte == b':');
        let (Some(own), Some(router), dns, None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(FORM);
        };
        let slash = own.iter().position(|&byte| byte == b'/').ok_or(FORM)?;
        let (own, prefix) = own.split_at_checked(slash).ok_or(FORM)?;
        let prefix = prefix.strip_prefix(b"/").and_then(number).filter(|&bits| bits <= 32);
        let address = address(own).filter(|own| is_host(*own)).ok_or("not an address of a host")?;
        let router =
            self::address(router).filter(|router| is_host(*router)).ok_or("not a router's address")?;
        let dns = match dns {
            None => router,
            Some(dns) => self::address(dns).ok_or("not a name server's address")?,
        };
        let prefix = prefix.ok_or("not a prefix from 0 to 32")?;
        Ok(Self { address, prefix, router: Some(router), mtu: None, dns: Vec::from([dns]) })
    }
}

/// Whether an interface can have this address: not 0.x, loopback, multicast or broadcast (RFC 1122 §3.2.1.3).
pub fn is_host(address: Address) -> bool {
    let [first, ..] = address;
    first != 0 && first != 127 && first < 224
}

/// Dotted decimal.
fn address(text: &[u8]) -> Option<Address> {
    let mut parts = text.split(|&byte| byte == b'.').map(number);
    let mut part = || parts.next().flatten();
    let address = [part()?, part()?, part()?, part()?];
    parts.next().is_none().then_some(address)
}

/// A number of at most three digits.
fn number(text: &[u8]) -> Option<u8> {
    let value = Some(text).filter(|text| text.len() <= 3 && text.iter().all(u8::is_ascii_digit));
    value.and_then(crate::rlimit::number).and_then(|number| u8::try_from(number).ok())
}

/// Whether two addresses share so many leading bits.
pub fn same_network(one: Address, other: Address, prefix: u8) -> bool {
    let shift = 32_u32.saturating_sub(prefix.into());
    let network = |address| u32::from_be_bytes(address).checked_shr(shift).unwrap_or(0);
    network(one) == network(other)
}

/// The broadcast address of a network; `None` if it has none (RFC 3021).
pub fn broadcast(address: Address, prefix: u8) -> Option<Address> {
    let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
    (prefix <= 30).then(|| (u32::from_be_bytes(address) | hosts).to_be_bytes())
}

/// `/etc/resolv.conf` for these name servers; `None` leaves the file alone. The resolver of libc reads three.
pub fn resolver_file(dns: &[Address]) -> Option<Vec<u8>> {
    const MOST: usize = 3;
    let mut file = Vec::new();
    for address in dns.iter().take(MOST) {
        file.extend_from_slice(b"nameserver ");
        push_address(&mut file, *address);
        file.push(b'\n');
    }
    (!file.is_empty()).then_some(file)
}

/// Appends dotted decimal.
pub fn push_address(out: &mut Vec<u8>, address: Address) {
    for (index, byte) in address.into_iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        let digits = [byte / 100, byte / 10 % 10, byte % 10];
        let leading = digits.iter().take(2).take_while(|&&digit| digit == 0).count();
        out.extend(digits.iter().skip(leading).map(|digit| b'0' + digit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_settings() {
        let settings = |address, prefix, router, dns| Settings {
            address,
            prefix,
            router: Some(router),
            mtu: None,
            dns: Vec::from([dns]),
        };
        let table = [
            ("10.0.2.15/24:10.0.2.2", Ok(settings([10, 0, 2, 15], 24, [10, 0, 2, 2], [10, 0, 2, 2]))),
            ("10.0.2.15/24:10.0.2.2:1.1.1.1", Ok(settings([10, 0, 2, 15], 24, [10, 0, 2, 2], [1, 1, 1, 1]))),
            (
                "169.254.1.2/32:169.254.1.1",
                Ok(settings([169, 254, 1, 2], 32, [169, 254, 1, 1], [169, 254, 1, 1])),
            ),
            (" 1.2.3.4/0:1.2.3.5 \n", Ok(settings([1, 2, 3, 4], 0, [1, 2, 3, 5], [1, 2, 3, 5]))),
            ("10.0.2.15:10.0.2.2", Err("not address/prefix:router[:dns]")),
            ("10.0.2.15/24", Err("not address/prefix:router[:dns]")),
            ("", Err("not address/prefix:router[:dns]")),
            ("10.0.2.15/24:10.0.2.2:1.1.1.1:2.2.2.2", Err("not address/prefix:router[:dns]")),
            ("10.0.2/24:10.0.2.2", Err("not an address of a host")),
            ("10.0.2.256/24:10.0.2.2", Err("not an address of a host")),
            ("10.0.2.1.5/24:10.0.2.2", Err("not an address of a host")),
            ("224.0.0.1/24:10.0.2.2", Err("not an address of a host")),
            ("0.0.0.0/24:10.0.2.2", Err("not an address of a host")),
            ("10.0.2.15/33:10.0.2.2", Err("not a prefix from 0 to 32")),
            ("10.0.2.15/:10.0.2.2", Err("not a prefix from 0 to 32")),
            ("10.0.2.15/24:", Err("not a router's address")),
            ("10.0.2.15/24:127.0.0.1", Err("not a router's address")),
            ("10.0.2.15/24:10.0.2.2:", Err("not a name server's address")),
            ("10.0.2.15/24:10.0.2.2:+1.1.1.1", Err("not a name server's address")),
        ];
        for (text, expected) in table {
            assert_eq!(Settings::parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn networks() {
        let table = [
            ([10, 0, 2, 15], [10, 0, 2, 2], 24, true, Some([10, 0, 2, 255])),
            ([10, 0, 2, 15], [10, 0, 3, 2], 24, false, Some([10, 0, 2, 255])),
            ([10, 0, 2, 15], [10, 0, 3, 2], 23, true, Some([10, 0, 3, 255])),
            ([10, 0, 2, 15], [99, 0, 3, 2], 0, true, Some([255, 255, 255, 255])),
            ([10, 0, 2, 15], [10, 0, 2, 14], 32, false, None),
            ([10, 0, 2, 15], [10, 0, 2, 14], 31, true, None),
        ];
        for (one, other, prefix, same, all) in table {
            assert_eq!(
                (same_network(one, other, prefix), broadcast(one, prefix)),
                (same, all),
                "{one:?} {prefix}"
            );
        }
    }

    #[test]
    fn the_resolver_file_has_servers_or_is_left_alone() {
        assert_eq!(resolver_file(&[]), None);
        let file = resolver_file(&[[1, 0, 10, 100], [255, 9, 99, 0], [0; 4], [8; 4]]).unwrap();
        assert_eq!(file, b"nameserver 1.0.10.100\nnameserver 255.9.99.0\nnameserver 0.0.0.0\n");
    }
}
