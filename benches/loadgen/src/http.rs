//! A keep-alive HTTP/1.1 client on one blocking `TcpStream`.
//!
//! A general client costs more CPU than a good store needs to answer, and would be measured along with it.
//! This one knows what a store answers with: a status, a length or chunks, and no redirects.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The largest head of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The largest body of an answer.
const BODY_BYTES_MAX: usize = 2 << 30;

/// The head of an answer, as far as a load generator cares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// `X-Lines-Bad`.
    pub lines_bad: u64,
    /// `X-Lines-Refused`.
    pub lines_refused: u64,
    /// `X-Durability: memory` was there: the batch may be lost by a kill.
    pub memory_only: bool,
    /// `Retry-After` in seconds.
    pub retry_after_s: Option<u64>,
    length: Option<usize>,
    chunked: bool,
    close: bool,
}

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    addr: SocketAddr,
    timeout: Duration,
    host: String,
    /// Bytes that were read and not used yet: `buffer[at..]`.
    buffer: Vec<u8>,
    at: usize,
    request: Vec<u8>,
    closed: bool,
    /// Answers that came over this connection.
    answers: u64,
}

impl Client {
    /// Connects; `timeout` holds for connecting and for each read and write.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn connect(addr: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self {
            stream,
            addr,
            timeout,
            host: addr.to_string(),
            buffer: Vec::with_capacity(16 << 10),
            at: 0,
            request: Vec::new(),
            closed: false,
            answers: 0,
        })
    }

    /// Whether the server said that it closes the connection, or an answer failed half-way.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Sends a request and reads the answer; its body is put into `answer`, which is cleared first.
    ///
    /// # Errors
    ///
    /// Those of the socket; `InvalidData` for an answer that is no HTTP or too large. The connection is closed
    /// then, and whether the server acted on the request is unknown.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        body: &[u8],
        answer: &mut Vec<u8>,
    ) -> io::Result<Head> {
        let result = self.try_request(method, path, body, answer);
        match &result {
            Ok(head) => {
                self.closed |= head.close;
                self.answers += 1;
            }
            Err(_) => self.closed = true,
        }
        result
    }

    /// As [`request`](Self::request), and once more over a new connection when this one turns out to be closed:
    /// a server may close a connection that was idle, and only a request tells. The first try may have reached
    /// the server all the same, so this is for requests that may come twice.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request), of the second try.
    pub fn request_twice(
        &mut self,
        method: &str,
        path: &str,
        body: &[u8],
        answer: &mut Vec<u8>,
    ) -> io::Result<Head> {
        if !self.closed {
            match self.request(method, path, body, answer) {
                Err(error) if self.answers > 0 && is_closed(&error) => {}
                result => return result,
            }
        }
        *self = Self::connect(self.addr, self.timeout)?;
        self.request(method, path, body, answer)
    }

    fn try_request(
        &mut self,
        method: &str,
        path: &str,
        body: &[u8],
        answer: &mut Vec<u8>,
    ) -> io::Result<Head> {
        answer.clear();
        self.request.clear();
        write!(
            self.request,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
            self.host,
            body.len()
        )?;
        // One segment for head and body: two writes would be two packets and two wake-ups of the server.
        self.request.extend_from_slice(body);
        self.stream.write_all(&self.request)?;
        let head = self.read_head()?;
        match (head.chunked, head.length) {
            (true, _) => self.read_chunks(answer)?,
            (false, Some(length)) => self.read_exactly(length, answer)?,
            (false, None) if head.close => self.read_to_end(answer)?,
            (false, None) => {}
        }
        Ok(head)
    }

    fn read_head(&mut self) -> io::Result<Head> {
        loop {
            let end = self.find(b"\r\n\r\n")?;
            let head = parse_head(&self.buffer[self.at..end])?;
            self.at = end + 4;
            // 1xx answers come before the real one.
            if head.status >= 200 {
                return Ok(head);
            }
        }
    }

    /// The position of `pattern` in the buffer, reading until it is there.
    fn find(&mut self, pattern: &[u8]) -> io::Result<usize> {
        let mut from = self.at;
        loop {
            if let Some(offset) =
                self.buffer[from..].windows(pattern.len()).position(|window| window == pattern)
            {
                return Ok(from + offset);
            }
            if self.buffer.len() - self.at > HEAD_BYTES_MAX {
                return Err(invalid("the head of the answer is too long"));
            }
            let unread = self.buffer.len() - self.at;
            self.fill()?;
            // `fill` may have moved what was unread to the front.
            from = self.at + unread.saturating_sub(pattern.len() - 1);
        }
    }

    /// Reads some more bytes.
    fn fill(&mut self) -> io::Result<()> {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        let length = self.buffer.len();
        self.buffer.resize(length + (16 << 10), 0);
        let read = loop {
            match self.stream.read(&mut self.buffer[length..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(length + read.as_ref().map_or(0, |read| *read));
        match read? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")),
            _ => Ok(()),
        }
    }

    fn read_exactly(&mut self, length: usize, answer: &mut Vec<u8>) -> io::Result<()> {
        if length > BODY_BYTES_MAX || answer.len() > BODY_BYTES_MAX - length {
            return Err(invalid("the body of the answer is too long"));
        }
        let buffered = length.min(self.buffer.len() - self.at);
        answer.extend_from_slice(&self.buffer[self.at..self.at + buffered]);
        self.at += buffered;
        let start = answer.len();
        answer.resize(start + length - buffered, 0);
        self.stream.read_exact(&mut answer[start..])
    }

    fn read_chunks(&mut self, answer: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let end = self.find(b"\r\n")?;
            let line = std::str::from_utf8(&self.buffer[self.at..end]).unwrap_or_default();
            let digits = line.split(';').next().unwrap_or_default().trim();
            let length =
                usize::from_str_radix(digits, 16).map_err(|_| invalid("a chunk without a length"))?;
            self.at = end + 2;
            if length == 0 {
                break;
            }
            self.read_exactly(length, answer)?;
            if self.find(b"\r\n")? != self.at {
                return Err(invalid("a chunk is longer than it says"));
            }
            self.at += 2;
        }
        // Trailers, up to the empty line.
        loop {
            let end = self.find(b"\r\n")?;
            let empty = end == self.at;
            self.at = end + 2;
            if empty {
                return Ok(());
            }
        }
    }

    fn read_to_end(&mut self, answer: &mut Vec<u8>) -> io::Result<()> {
        answer.extend_from_slice(&self.buffer[self.at..]);
        self.at = self.buffer.len();
        let room = (BODY_BYTES_MAX - answer.len().min(BODY_BYTES_MAX)) as u64;
        (&mut self.stream).take(room).read_to_end(answer).map(|_| ())
    }
}

fn parse_head(head: &[u8]) -> io::Result<Head> {
    let text = std::str::from_utf8(head).map_err(|_| invalid("the head of the answer is not text"))?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .filter(|line| line.starts_with("HTTP/1."))
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| invalid("the answer is not HTTP/1"))?;
    let mut parsed = Head { status, ..Head::default() };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            return Err(invalid("a header without a colon"));
        };
        let value = value.trim();
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        if is("content-length") {
            parsed.length =
                Some(value.parse().map_err(|_| invalid("the length of the answer is no number"))?);
        } else if is("transfer-encoding") {
            parsed.chunked = value.eq_ignore_ascii_case("chunked");
        } else if is("connection") {
            parsed.close = value.eq_ignore_ascii_case("close");
        } else if is("x-lines-bad") {
            parsed.lines_bad = value.parse().map_err(|_| invalid("X-Lines-Bad is no number"))?;
        } else if is("x-lines-refused") {
            parsed.lines_refused = value.parse().map_err(|_| invalid("X-Lines-Refused is no number"))?;
        } else if is("x-durability") {
            parsed.memory_only = value.eq_ignore_ascii_case("memory");
        } else if is("retry-after") {
            parsed.retry_after_s = value.parse().ok();
        }
    }
    if status == 204 || status == 304 {
        parsed.length = Some(0);
    }
    Ok(parsed)
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// Serves one connection: for each answer, reads a request and sends the answer in the pieces given.
    fn serve(answers: Vec<Vec<&'static [u8]>>) -> (SocketAddr, thread::JoinHandle<Vec<Vec<u8>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            let mut requests = Vec::new();
            for answer in answers {
                let mut request = vec![0; 4096];
                let read = stream.read(&mut request).unwrap();
                request.truncate(read);
                requests.push(request);
                for piece in answer {
                    stream.write_all(piece).unwrap();
                    thread::sleep(Duration::from_millis(5));
                }
            }
            requests
        });
        (addr, server)
    }

    fn client(addr: SocketAddr) -> Client {
        Client::connect(addr, Duration::from_secs(10)).unwrap()
    }

    #[test]
    fn two_requests_go_over_one_connection_whatever_the_pieces() {
        let (addr, server) = serve(vec![
            vec![b"HTTP/1.1 200 OK\r\nX-Lines-Bad: 3\r", b"\n\r", b"\nrest that is not read"],
            vec![],
        ]);
        let mut client = client(addr);
        let mut answer = Vec::new();
        let head = client.request("POST", "/api/write", b"a b 1", &mut answer).unwrap();
        assert_eq!((head.status, head.lines_bad, answer.len()), (200, 3, 0));
        drop(client);
        let request = String::from_utf8(server.join().unwrap().remove(0)).unwrap();
        assert!(request.starts_with("POST /api/write HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        assert!(request.ends_with("\r\nContent-Length: 5\r\n\r\na b 1"), "{request}");
    }

    #[test]
    fn bodies_with_a_length_in_chunks_and_up_to_the_end_are_read_whole() {
        let (addr, server) = serve(vec![
            vec![b"HTTP/1.1 503 No\r\nRetry-After: 2\r\ncontent-length: 5\r\n\r\nab", b"cde"],
            vec![
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r",
                b"\nabc\r\n",
                b"a;x=y\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n",
            ],
            vec![b"HTTP/1.1 200 OK\r\nX-Durability: memory\r\nConnection: close\r\n\r\nxy", b"z"],
        ]);
        let mut client = client(addr);
        let mut answer = Vec::new();
        let head = client.request("GET", "/a", b"", &mut answer).unwrap();
        assert_eq!((head.status, head.retry_after_s, answer.as_slice()), (503, Some(2), &b"abcde"[..]));
        let head = client.request("GET", "/b", b"", &mut answer).unwrap();
        assert_eq!((head.status, answer.as_slice()), (200, &b"abc0123456789"[..]));
        assert!(!client.is_closed());
        let head = client.request("GET", "/c", b"", &mut answer).unwrap();
        assert_eq!((head.memory_only, answer.as_slice()), (true, &b"xyz"[..]));
        assert!(client.is_closed());
        assert_eq!(server.join().unwrap().len(), 3);
    }

    #[test]
    fn a_connection_that_was_closed_while_idle_is_opened_again_and_a_dead_server_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                let read = stream.read(&mut [0; 4096]).unwrap();
                assert!(read > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
        });
        let mut client = client(addr);
        for _ in 0..2 {
            assert_eq!(client.request_twice("GET", "/", b"", &mut Vec::new()).unwrap().status, 200);
            // The server closes the connection behind its answer.
            thread::sleep(Duration::from_millis(50));
        }
        server.join().unwrap();
        assert!(client.request_twice("GET", "/", b"", &mut Vec::new()).is_err());
    }

    #[test]
    fn an_answer_that_is_cut_or_no_http_is_an_error() {
        let cases: [&'static [u8]; 4] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
            b"SSH-2.0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ];
        for case in cases {
            let (addr, server) = serve(vec![vec![case]]);
            let mut client = client(addr);
            let error = client.request("GET", "/", b"", &mut Vec::new()).unwrap_err();
            assert!(client.is_closed(), "{error}");
            server.join().unwrap();
        }
    }
}
