//! The API in front of a real engine, and a client that sends one request per connection.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use store_disk::ManualClock;
use store_server::auth::Auth;
use store_server::config::Limits;
use store_server::engine::Engine;
use store_server::http::serve::serve;
use store_server::http::{App, Store, Timeouts, router};

/// A server; it ends when dropped.
pub(super) struct Server {
    addr: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(engine: Arc<Engine>, key: Option<[u8; 32]>, clock: Arc<ManualClock>) -> Self {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (told, addr) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(
                async move {
                    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                    told.send(listener.local_addr().unwrap()).unwrap();
                    let store: Arc<dyn Store> = engine;
                    let app = Arc::new(App::new(
                        store,
                        Auth::new(key, true),
                        Limits::default(),
                        Timeouts::default(),
                        clock,
                    ));
                    let stopped = async { drop(stopped.await) };
                    serve(listener, router(Arc::clone(&app), false), app, 100, stopped).await;
                },
            );
        });
        Self { addr: addr.recv().unwrap(), stop: Some(stop), thread: Some(thread) }
    }

    /// Status and body of the answer to one request. HTTP/1.0: the answer ends with the connection.
    pub(super) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut head = format!("{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        // Who is refused by his head alone need not be listened to.
        drop(stream.write_all(body));
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
        (status, answer.split_off(end + 4))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
