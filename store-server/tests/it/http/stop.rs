//! The end of the server.

use std::time::{Duration, Instant};

use store_server::http::Timeouts;
use store_server::http::serve::Served;

use super::client::Client;
use super::fake::{Fake, Server, Setup};

#[test]
fn a_running_request_is_answered_and_idle_connections_are_closed() {
    let fake = Fake { write_takes: Duration::from_millis(400), ..Fake::default() };
    let mut server = Server::start(fake);
    let mut idle = Client::connect(&server);
    assert_eq!(idle.request("POST", "/api/write", &[], b"a").status, 200);
    let mut busy = Client::connect(&server);
    busy.send(b"POST /api/write HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nb");
    std::thread::sleep(Duration::from_millis(100));
    let begun = Instant::now();
    server.tell_to_stop();
    assert!(idle.answer().is_none());
    assert!(begun.elapsed() < Duration::from_millis(250), "idle for {:?}", begun.elapsed());
    assert_eq!(busy.answer().unwrap().status, 200);
    assert_eq!(server.join(), Served { cut: 0 });
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(std::net::TcpStream::connect(server.addr).is_err());
}

#[test]
fn what_does_not_end_in_time_is_cut() {
    let timeouts = Timeouts { grace: Duration::from_millis(300), ..Timeouts::default() };
    let mut server = Server::start_with(Fake::default(), Setup { timeouts, ..Setup::default() });
    let mut stuck = Client::connect(&server);
    stuck.send(b"POST /api/write HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc");
    std::thread::sleep(Duration::from_millis(100));
    let begun = Instant::now();
    assert_eq!(server.join(), Served { cut: 1 });
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(280) && took < Duration::from_secs(3), "{took:?}");
}
