//! Receives redirected connections and says where they were meant to go.
//!
//! `egress_proxy [ADDRESS:PORT [MAGIC [MAGIC_V6]]]`, by default on 127.0.0.1:15001 with the magic `PRLN`. A policy
//! whose rules say `"verdict": "redirect", "redirect_target": "127.0.0.1:15001"` sends a guest's connections and
//! datagrams here. Each connection is answered with one line and closed; datagrams are only counted.

use std::collections::HashMap;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use purlin_egress::{REDIRECT_HEADER_LEN, REDIRECT_HEADER_V6_LEN, RedirectHeader};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:15001".to_owned());
    let mut header = RedirectHeader::default();
    if let Some(magic) = arguments.next() {
        header.magic = magic.parse()?;
    }
    header.magic_v6 = arguments.next().map(|magic| magic.parse()).transpose()?;

    let listener = TcpListener::bind(&address)?;
    let datagrams = UdpSocket::bind(&address)?;
    println!("receiving on {}, magic {:#x}", listener.local_addr()?, header.magic);
    thread::spawn(move || {
        if let Err(e) = count(&header, &datagrams) {
            eprintln!("udp: {e}");
        }
    });
    for stream in listener.incoming() {
        let mut stream = stream?;
        thread::spawn(move || match original(&header, &mut stream) {
            Ok(Some(to)) => {
                println!("tcp to {to}");
                if let Err(e) = answer(&mut stream, to) {
                    eprintln!("tcp: {e}");
                }
            }
            Ok(None) => println!("tcp without a redirect header"),
            Err(e) => eprintln!("tcp: {e}"),
        });
    }
    Ok(())
}

/// Reads the header, which is whole before anything of the guest: 12 bytes, and 12 more if its magic says so.
fn original(header: &RedirectHeader, stream: &mut TcpStream) -> std::io::Result<Option<SocketAddr>> {
    let mut bytes = [0; REDIRECT_HEADER_V6_LEN];
    let (short, rest) = bytes.split_at_mut(REDIRECT_HEADER_LEN);
    stream.read_exact(short)?;
    if let Some(to) = header.parse(short) {
        return Ok(Some(to));
    }
    stream.read_exact(rest)?;
    Ok(header.parse(&bytes))
}

/// One line, and then the end. What the guest sends is read and forgotten: closed with bytes unread, a connection is
/// reset, and the line may be lost.
fn answer(stream: &mut TcpStream, to: SocketAddr) -> std::io::Result<()> {
    stream.write_all(format!("you wanted to go to {to}\n").as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    std::io::copy(stream, &mut std::io::sink())?;
    Ok(())
}

/// One source port is one flow, whose first datagram is the header.
fn count(header: &RedirectHeader, socket: &UdpSocket) -> std::io::Result<()> {
    let mut flows: HashMap<SocketAddr, (SocketAddr, u64)> = HashMap::new();
    let mut bytes = [0; 65536];
    loop {
        let (len, from) = socket.recv_from(&mut bytes)?;
        if let Some(to) = bytes.get(..len).and_then(|bytes| header.parse(bytes)) {
            println!("udp to {to}, from port {}", from.port());
            flows.insert(from, (to, 0));
        } else if let Some((to, datagrams)) = flows.get_mut(&from) {
            *datagrams = datagrams.saturating_add(1);
            println!("udp to {to}: {datagrams} datagrams, the last of {len} bytes");
        }
    }
}
