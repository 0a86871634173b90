//! The program itself: its arguments, its refusals, its start and its end.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn command(directory: &Path, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_store-server"));
    command.current_dir(directory).args(args.split_whitespace()).stdin(Stdio::null());
    command.env_remove("NOTIFY_SOCKET");
    command
}

fn run(directory: &Path, args: &str) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command(directory, args).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn write(directory: &Path, name: &str, text: &str) {
    std::fs::File::create(directory.join(name)).unwrap().write_all(text.as_bytes()).unwrap();
}

/// A config with one metric that listens on a port that the system chooses.
fn config(main: &str, store: &str) -> String {
    format!(
        r#"{{"main": {{"addr": "127.0.0.1:0"{main}}}, "metrics": {{"cpu_load": {{"frequency": 60}}}},
            "metric-store": {{"retention-in-memory": "48h", "memory-cap": 0{store}}}}}"#
    )
}

/// A server that runs; killed when dropped.
struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
    addr: String,
}

impl Running {
    /// Starts it and waits until it says where it listens.
    fn start(directory: &Path, args: &str) -> Self {
        Self::spawn(&mut command(directory, args))
    }

    /// The same in a shell that has called `ulimit` with these arguments.
    fn start_limited(directory: &Path, ulimit: &str, args: &str) -> Self {
        let mut shell = Command::new("sh");
        shell.current_dir(directory).env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
        let program = env!("CARGO_BIN_EXE_store-server");
        Self::spawn(shell.arg("-c").arg(format!("ulimit {ulimit} && exec '{program}' {args}")))
    }

    #[expect(clippy::zombie_processes, reason = "waited for when it is dropped")]
    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "ended: {seen}");
            if let Some((_, addr)) = line.split_once("listening on http://") {
                let addr = addr.split([';', '\n']).next().unwrap().to_owned();
                return Self { child, log, addr };
            }
            seen += &line;
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Waits for its end: the exit code and what it still said.
    fn wait(mut self) -> (i32, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code().unwrap(), rest)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.addr).unwrap();
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_refusal_is_one_critical_line_and_comes_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    write(path, "unknown.json", &config(r#", "adr": 1"#, ""));
    write(path, "tls.json", &config(r#", "https-cert-file": "c.pem""#, ""));
    write(path, "cut.json", "{\"main\": {\n");
    write(path, "a-file", "");
    write(path, "unusable.json", &config("", r#", "checkpoints": {"directory": "a-file/below"}"#));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    write(path, "taken.json", &config("", "").replace("127.0.0.1:0", &format!("127.0.0.1:{port}")));
    for (file, said) in [
        ("missing.json", "cannot read the config file missing.json"),
        ("unknown.json", "unknown.json: main.adr: unknown field `adr`"),
        ("tls.json", "tls.json: main.https-cert-file: HTTPS is not supported yet"),
        ("cut.json", "cut.json: main: EOF while parsing an object at line 2"),
        ("taken.json", "cannot listen on 127.0.0.1:"),
        ("unusable.json", "cannot use the checkpoint directory a-file/below"),
    ] {
        let begun = Instant::now();
        let (code, stdout, stderr) = run(path, &format!("-config {file} -loglevel crit"));
        assert!(begun.elapsed() < Duration::from_secs(1), "{file}: {:?}", begun.elapsed());
        assert_eq!((code, stdout.as_str(), stderr.matches('\n').count()), (1, "", 1), "{file}: {stderr}");
        assert!(stderr.starts_with(&format!("<2>[CRITICAL] {said}")), "{file}: {stderr}");
    }
}

#[test]
fn a_second_server_on_the_same_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "c.json", &config("", ""));
    let _first = Running::start(directory.path(), "-config c.json");
    let (code, _, stderr) = run(directory.path(), "-config c.json -loglevel crit");
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("in use by another process") && stderr.matches('\n').count() == 1, "{stderr}");
}

#[test]
fn what_was_written_is_there_after_a_stop_and_a_start() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "c.json", &config("", r#", "nats-subscriptions": [{"subscribe-to": "x"}]"#));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let question = format!(
        r#"{{"cluster": "c", "from": {}, "to": {}, "queries": [{{"metric": "cpu_load", "host": "h"}}]}}"#,
        now - 600,
        now + 60
    );
    let server = Running::start(directory.path(), "-config c.json -logdate");
    let answer =
        server.ask("POST", "/api/write?cluster=c", &format!("cpu_load,hostname=h value=1.5 {}\n", now - 300));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let before = server.ask("GET", "/api/query", &question);
    assert!(before.contains("1.500"), "{before}");
    server.signal(Signal::SIGTERM);
    let (code, log) = server.wait();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("SIGTERM: stopping") && log.ends_with("stopped\n"), "{log}");

    let server = Running::start(directory.path(), "-config c.json");
    let body = |answer: &str| answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let after = server.ask("GET", "/api/query", &question);
        if body(&after) == body(&before) {
            break;
        }
        assert!(Instant::now() < until, "{after}");
        std::thread::sleep(Duration::from_millis(50));
    }
    server.signal(Signal::SIGINT);
    assert_eq!(server.wait().0, 0);
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "c.json", &config("", ""));
    let server = Running::start(directory.path(), "-config c.json");
    // A request whose body never ends keeps the server waiting for the 5 s that requests are given.
    let mut stuck = TcpStream::connect(&server.addr).unwrap();
    stuck.write_all(b"POST /api/write HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    server.signal(Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    server.signal(Signal::SIGTERM);
    let (code, log) = server.wait();
    assert_eq!(code, 130, "{log}");
    assert!(log.contains("SIGTERM again"), "{log}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn without_a_config_it_runs_on_the_embedded_default_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    // The port of the embedded default is fixed; where it is taken the refusal names it.
    let mut child = command(directory.path(), "-auto-frequency 5")
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("127.0.0.1:8082") {
        assert_ne!(log.read_line(&mut said).unwrap(), 0, "{said}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said.contains("config: embedded default"), "{said}");
    assert!(
        said.contains("unknown metrics are registered when they are sent: avg, every 5 s, 4096 at most"),
        "{said}"
    );
    assert!(said.contains("no main.jwt-public-key"), "{said}");
}

#[test]
fn systemd_is_told_when_the_server_is_ready_and_when_it_stops() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "c.json", &config("", ""));
    let path = directory.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut child = command(directory.path(), "-config c.json -loglevel err")
        .env("NOTIFY_SOCKET", &path)
        .spawn()
        .unwrap();
    let told = || loop {
        let mut buffer = [0; 256];
        let bytes = socket.recv(&mut buffer).unwrap();
        let message = String::from_utf8_lossy(&buffer[..bytes]).trim().to_owned();
        // How things are is told at any time.
        if !message.starts_with("STATUS=") {
            break message;
        }
    };
    assert_eq!(told(), "READY=1");
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_config_can_be_checked_without_a_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    write(path, "good.json", &config(r#", "backend-url": "http://b""#, ""));
    write(path, "ours.json", &config(r#", "require-roles": false"#, r#", "max-future": "1m""#));
    write(path, "bad.json", &config("", r#", "num-workers": -1"#));
    let (code, stdout, stderr) = run(path, "-config good.json config check --as-original");
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.starts_with("good.json: ok, 1 metrics\nwarning: main.backend-url: "), "{stdout}");
    assert_eq!(run(path, "-config ours.json config check").0, 0);
    let (code, stdout, _) = run(path, "config check -as-original -config=ours.json");
    assert_eq!(code, 1);
    for key in ["main.require-roles", "metric-store.max-future"] {
        assert!(stdout.contains(&format!("the original does not know: {key}")), "{stdout}");
    }
    let (code, _, stderr) = run(path, "-config bad.json config check");
    assert_eq!((code, stderr.contains("metric-store.num-workers: -1 is less than 0")), (1, true), "{stderr}");
    assert!(!path.join("var").exists());
}

#[test]
fn the_config_in_the_working_directory_is_found() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "config.json", &config("", ""));
    let (_, stdout, _) = run(directory.path(), "config check");
    assert_eq!(stdout, "./config.json: ok, 1 metrics\n");
    let empty = tempfile::tempdir().unwrap();
    let (_, stdout, _) = run(empty.path(), "config check");
    assert!(stdout.starts_with("embedded default: ok, "), "{stdout}");
}

#[test]
fn version_and_help_are_printed_and_nonsense_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for flag in ["-version", "--version", "-version=true"] {
        let (code, stdout, stderr) = run(directory.path(), flag);
        assert_eq!((code, stderr.as_str()), (0, ""));
        assert_eq!(stdout, format!("store-server {}\n", env!("CARGO_PKG_VERSION")));
    }
    for flag in ["-h", "-help", "--help"] {
        let (code, stdout, _) = run(directory.path(), flag);
        assert_eq!((code, stdout.contains("--cleanup-checkpoints")), (0, true), "{flag}: {stdout}");
    }
    let (code, stdout, stderr) = run(directory.path(), "-nonsense");
    assert_eq!((code, stdout.as_str(), stderr.contains("--nonsense")), (2, "", true), "{stderr}");
}

#[test]
fn the_cleanup_runs_once_and_ends() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "c.json", &config("", ""));
    let (code, _, stderr) = run(directory.path(), "-config c.json -cleanup-checkpoints");
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("0 files removed"), "{stderr}");
}

#[test]
fn more_writers_than_are_worked_on_at_once_are_all_answered() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "c.json", &config("", r#", "wal-sync": "always""#));
    let server = Running::start(directory.path(), "-config c.json");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let post = |host: usize| {
        let lines = format!("cpu_load,hostname=h{host} value=1 {now}\n");
        server.ask("POST", "/api/write?cluster=c", &lines)
    };
    std::thread::scope(|scope| {
        let posts: Vec<_> = (0..600).map(|host| scope.spawn(move || post(host))).collect();
        for answer in posts.into_iter().map(|post| post.join().unwrap()) {
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
    });
}

/// A number in a JSON object of numbers, or behind a key in `/proc/<pid>/status`.
fn number_behind(text: &str, key: &str) -> u64 {
    let behind = &text[text.find(key).unwrap() + key.len()..];
    let digits = behind.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits[..digits.find(|c: char| !c.is_ascii_digit()).unwrap()].parse().unwrap()
}

#[test]
fn the_memory_that_is_accounted_for_is_the_memory_that_is_used() {
    // Blocks of JSON checkpoints stay on the heap; saved ones of block files do not, so that heads are the most of it.
    let json = r#", "checkpoints": {"file-format": "json", "directory": "dumps"}"#;
    assert_accounted(json, (40, 500), 300, 15);
    assert_accounted("", (300, 500), 40, 15);
    // Hosts with one series each are tables and names, of which the allocator rounds up each.
    assert_accounted("", (40_000, 1), 2, 20);
}

fn assert_accounted(store: &str, (hosts, columns): (u64, u64), steps: u64, percent: u64) {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "c.json", &config("", store));
    let server = Running::start(directory.path(), "-config c.json");
    let resident = || {
        let path = format!("/proc/{}/status", server.child.id());
        number_behind(&std::fs::read_to_string(path).unwrap(), "RssAnon:") * 1024
    };
    let total = || number_behind(&server.ask("GET", "/api/debug/memory", ""), "\"total-bytes\"");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let hosts_a_post = 500 / columns;
    let post = |first: u64, step: u64| {
        let mut lines = String::new();
        for (host, column) in
            (first..first + hosts_a_post).flat_map(|host| (0..columns).map(move |n| (host, n)))
        {
            // Full mantissas: what is accounted for is what was measured, not what was hoped for.
            let value = ((host * 7919 + column * 104_729 + step * 1_299_709) % 1_000_003) as f32 / 7.0;
            let time = now - (steps - step) * 60;
            lines +=
                &format!("cpu_load,hostname=h{host},type=hwthread,type-id={column} value={value} {time}\n");
        }
        let answer = server.ask("POST", "/api/write?cluster=c", &lines);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    };
    // What the program needs by itself, threads and their stacks included, is there after the first message.
    post(0, 0);
    let (bare, none) = (resident(), total());
    let posts = || (0..hosts).step_by(hosts_a_post as usize);
    (0..steps).for_each(|step| posts().for_each(|first| post(first, step)));
    // The allocator gives back what it does not use, a little later.
    let mut last = (0, 0);
    let begun = Instant::now();
    let fits = |(used, said): (u64, u64)| used.abs_diff(said) * 100 <= said * percent;
    while begun.elapsed() < Duration::from_secs(40) {
        last = (resident() - bare, total() - none);
        if fits(last) {
            break;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    assert!(last.1 > 16 << 20 && fits(last), "used, accounted for: {last:?} bytes");
}

/// Lines of one sample each for so many hosts, now.
fn lines_of(hosts: usize) -> String {
    (0..hosts).map(|host| format!("cpu_load,cluster=c,hostname=n{host} value=1.5\n")).collect()
}

/// How many of so many hosts have a sample of the last hour.
fn hosts_with_samples(running: &Running, hosts: usize) -> usize {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let queries: Vec<_> =
        (0..hosts).map(|host| format!(r#"{{"metric": "cpu_load", "host": "n{host}"}}"#)).collect();
    let query = format!(
        r#"{{"cluster": "c", "from": {}, "to": {}, "with-padding": false, "queries": [{}]}}"#,
        now - 3600,
        now + 60,
        queries.join(",")
    );
    running.ask("GET", "/api/query", &query).matches(r#""data":[1.500]"#).count()
}

#[test]
fn with_few_descriptors_many_hosts_are_saved_and_every_client_is_heard() {
    const HOSTS: usize = 300;
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "config.json", &config("", r#", "checkpoint-interval": "1s""#));
    for round in 0..2 {
        let running = Running::start_limited(directory.path(), "-n 32", "-config config.json");
        // More than can be served at a time, and they say nothing.
        let silent: Vec<_> = (0..4).map(|_| TcpStream::connect(&running.addr).unwrap()).collect();
        if round == 0 {
            let answer = running.ask("POST", "/api/write", &lines_of(HOSTS));
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        let begun = Instant::now();
        loop {
            let status = running.ask("GET", "/api/debug/status", "");
            let saved = status.contains(&format!(r#""blocks-saved": {HOSTS},"#)) || round > 0;
            if saved && status.contains(r#""ready": true"#) {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{status}");
            std::thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(hosts_with_samples(&running, HOSTS), HOSTS);
        drop(silent);
        running.signal(Signal::SIGTERM);
        let (code, log) = running.wait();
        assert_eq!(code, 0, "{log}");
    }
}

#[test]
fn a_limit_on_the_size_of_files_degrades_the_log_and_ends_nothing() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "config.json", &config("", ""));
    // In units of 512 bytes or 1 KiB, as the shell likes.
    let running = Running::start_limited(directory.path(), "-f 64", "-config config.json");
    let mut durable = 0;
    for _ in 0..40 {
        let answer = running.ask("POST", "/api/write", &lines_of(100));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        if answer.to_ascii_lowercase().contains("x-durability: memory") {
            assert!(durable > 0);
            assert_eq!(hosts_with_samples(&running, 100), 100);
            return;
        }
        durable += 1;
    }
    panic!("{durable} bodies were logged in a file of 64 KiB");
}
