//! Takes the port, as Go's runtime does it: a wildcard address is every address of the machine, IPv4 and IPv6.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context as _;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be accepted, at most; the kernel has a limit of its own (`net.core.somaxconn`), which is
/// the same mostly.
///
/// A whole fleet connects at once when a switch comes back. What finds no place is told so only after a second or three.
const BACKLOG: u32 = 4096;

/// Listens on `addr`, which is `host:port`.
///
/// An empty host, `0.0.0.0` and `[::]` are all the same: one socket that hears IPv4 and IPv6, or IPv4 only where the
/// machine has no IPv6. Of the addresses of a name those of IPv4 come first, since that is what clients try.
///
/// # Errors
/// The name has no address, or none of its addresses can be listened on.
pub(crate) async fn listen(addr: &str) -> anyhow::Result<TcpListener> {
    let cannot = || format!("cannot listen on {addr}");
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in candidates(addr).await.with_context(cannot)? {
        match listen_on(candidate) {
            Ok(listener) => return Ok(listener),
            Err(error) => {
                // What is taken is taken for both families; the next one would only seem to work.
                let is_taken = error.kind() == io::ErrorKind::AddrInUse;
                last = error;
                if is_taken && candidate.ip().is_unspecified() {
                    break;
                }
            }
        }
    }
    Err(last).with_context(cannot)
}

/// The addresses that `addr` may mean, in the order in which they are tried.
async fn candidates(addr: &str) -> io::Result<Vec<SocketAddr>> {
    let mut found: Vec<SocketAddr> = match addr.strip_prefix(':') {
        Some(port) => {
            let port: u16 = port.parse().map_err(io::Error::other)?;
            vec![(Ipv4Addr::UNSPECIFIED, port).into()]
        }
        None => tokio::net::lookup_host(addr).await?.collect(),
    };
    found.sort_by_key(SocketAddr::is_ipv6);
    if let Some(wildcard) = found.iter().find(|address| address.ip().is_unspecified()) {
        let port = wildcard.port();
        let both: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
        return Ok(both.map(|address| SocketAddr::new(address, port)).to_vec());
    }
    Ok(found)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    // A server that was stopped a moment ago leaves connections behind that keep the port for a minute.
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        // Some systems are set up the other way.
        setsockopt(&socket, sockopt::Ipv6V6Only, &!address.ip().is_unspecified())?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn an_address_in_use_is_named_in_the_refusal() {
        let first = listen("127.0.0.1:0").await.unwrap();
        let addr = first.local_addr().unwrap().to_string();
        let refusal = format!("{:#}", listen(&addr).await.unwrap_err());
        assert!(refusal.starts_with(&format!("cannot listen on {addr}: ")), "{refusal}");
    }

    #[tokio::test]
    async fn a_wildcard_is_every_address_of_both_families() {
        let has_ipv6 = TcpListener::bind("[::1]:0").await.is_ok();
        for addr in [":0", "0.0.0.0:0", "[::]:0"] {
            let listener = listen(addr).await.unwrap();
            let address = listener.local_addr().unwrap();
            assert!(address.ip().is_unspecified(), "{addr}: {address}");
            TcpStream::connect(("127.0.0.1", address.port())).await.unwrap();
            let over_ipv6 = TcpStream::connect(("::1", address.port())).await;
            assert_eq!(over_ipv6.is_ok(), has_ipv6, "{addr}: {over_ipv6:?}");
            // The port is taken, whatever it is called.
            for other in [format!("0.0.0.0:{}", address.port()), format!("[::]:{}", address.port())] {
                assert!(listen(&other).await.is_err(), "{addr}, then {other}");
            }
        }
    }

    #[tokio::test]
    async fn one_address_is_that_address() {
        let listener = listen("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(TcpStream::connect(("::1", port)).await.is_err());
    }

    #[tokio::test]
    async fn addresses_of_ipv4_come_first() {
        let found = candidates("localhost:80").await.unwrap();
        assert!(found.is_sorted_by_key(SocketAddr::is_ipv6) && found[0].is_ipv4(), "{found:?}");
        assert!(candidates(":x").await.is_err());
    }

    #[tokio::test]
    async fn more_connections_than_the_default_allows_may_wait() {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
        let listener = listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let most: usize =
            std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
        let waiting: Vec<_> = (0..most.min(1200))
            .map(|_| std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_secs(2)))
            .collect();
        let refused = waiting.iter().filter(|connected| connected.is_err()).count();
        assert_eq!(refused, 0, "of {} connections that nobody accepts", waiting.len());
    }
}
