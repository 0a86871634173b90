//! An HTTP client of the least kind: it sends the bytes that a test wants to send.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::fake::Server;

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The text of an error, after checking that it has the form of every error.
    pub(super) fn error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let json = self.json();
        let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["error", "status"], "{json}");
        assert!(!json["status"].as_str().unwrap().is_empty());
        json["error"].as_str().unwrap().to_owned()
    }
}

/// One connection.
pub(super) struct Client {
    stream: TcpStream,
    /// What was read and belongs to the next answer.
    rest: Vec<u8>,
}

impl Client {
    pub(super) fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { stream, rest: Vec::new() }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Says that nothing more will be sent.
    pub(super) fn end_sending(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
    }

    pub(super) fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost:8082\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        self.send(head.as_bytes());
        // A server that refuses early may close before it has read everything; the answer counts.
        drop(self.stream.write_all(body));
        self.answer().expect("an answer")
    }

    /// The next answer; `None` if the server closes the connection.
    pub(super) fn answer(&mut self) -> Option<Answer> {
        let head_end = loop {
            if let Some(at) = find(&self.rest, b"\r\n\r\n") {
                break at;
            }
            if self.more() == 0 {
                return None;
            }
        };
        let head = String::from_utf8(self.rest.drain(..head_end + 4).collect()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        answer.body = match answer.header("content-length") {
            Some(length) => self.exactly(length.parse().unwrap()),
            None if answer.header("transfer-encoding") == Some("chunked") => self.chunks(),
            None => Vec::new(),
        };
        Some(answer)
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line_end = loop {
                if let Some(at) = find(&self.rest, b"\r\n") {
                    break at;
                }
                assert_ne!(self.more(), 0, "cut in a chunk");
            };
            let line: Vec<u8> = self.rest.drain(..line_end + 2).collect();
            let length = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
            let chunk = self.exactly(length + 2);
            if length == 0 {
                return body;
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }

    fn exactly(&mut self, bytes: usize) -> Vec<u8> {
        while self.rest.len() < bytes {
            assert_ne!(self.more(), 0, "cut in a body");
        }
        self.rest.drain(..bytes).collect()
    }

    fn more(&mut self) -> usize {
        let mut buffer = vec![0; 64 << 10];
        let read = self.stream.read(&mut buffer).unwrap_or(0);
        self.rest.extend_from_slice(&buffer[..read]);
        read
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// One request on a connection of its own.
pub(super) fn ask(server: &Server, method: &str, path: &str, body: &[u8]) -> Answer {
    Client::connect(server).request(method, path, &[], body)
}

/// The same with headers.
pub(super) fn ask_with(
    server: &Server,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    Client::connect(server).request(method, path, headers, body)
}
