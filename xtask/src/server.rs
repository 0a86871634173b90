//! A server as a child process: started, awaited, stopped, killed, and never left behind.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use store_loadgen::http::Client;

/// How long a server may take to listen, whatever it has to load.
const LISTEN_LIMIT: Duration = Duration::from_secs(120);
/// How long a clean stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(300);

/// How a server is started; the same each time on one directory.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// The program.
    pub(crate) binary: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
    /// Its working directory.
    pub(crate) directory: PathBuf,
    /// Where it will listen.
    pub(crate) addr: SocketAddr,
    /// Gets what it prints, of all its lives.
    pub(crate) log: PathBuf,
}

impl Launch {
    /// A server with the original's command line: `-config FILE`.
    pub(crate) fn with_config(binary: &Path, directory: &Path, config: &Path, addr: SocketAddr) -> Self {
        Self {
            binary: binary.to_owned(),
            arguments: vec!["-config".to_owned(), config.to_string_lossy().into_owned()],
            directory: directory.to_owned(),
            addr,
            log: directory.join("server.log"),
        }
    }
}

/// A running server. Dropping it kills the process, so that every path out of a command ends its children.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    launch: Launch,
    started: Instant,
}

impl Server {
    /// Starts the process.
    ///
    /// The kernel is asked to kill it with us, by `setpriv` where that is installed: a task that is killed
    /// itself runs no destructor.
    pub(crate) fn spawn(launch: &Launch) -> anyhow::Result<Self> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&launch.log)
            .with_context(|| format!("cannot open {}", launch.log.display()))?;
        let mut command = match setpriv() {
            Some(program) => {
                let mut command = Command::new(program);
                command.args(["--pdeathsig", "KILL", "--"]).arg(&launch.binary);
                command
            }
            None => Command::new(&launch.binary),
        };
        let started = Instant::now();
        let child = command
            .args(&launch.arguments)
            .current_dir(&launch.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", launch.binary.display()))?;
        Ok(Self { child, launch: launch.clone(), started })
    }

    /// Starts the process and waits until it listens.
    pub(crate) fn start(launch: &Launch) -> anyhow::Result<Self> {
        let mut server = Self::spawn(launch)?;
        server.wait_listening()?;
        Ok(server)
    }

    /// Waits until the server accepts connections; gives the time since it was started.
    pub(crate) fn wait_listening(&mut self) -> anyhow::Result<Duration> {
        loop {
            if std::net::TcpStream::connect_timeout(&self.launch.addr, Duration::from_secs(1)).is_ok() {
                return Ok(self.started.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended before it listened: {status}\n{}", self.log_tail());
            }
            if self.started.elapsed() > LISTEN_LIMIT {
                bail!("the server does not listen on {} after {LISTEN_LIMIT:?}", self.launch.addr);
            }
            thread::sleep(Duration::from_micros(500));
        }
    }

    /// The time since the process was started.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.launch.addr
    }

    /// The number of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection to it.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Client::connect(self.launch.addr, Duration::from_secs(60))
            .with_context(|| format!("cannot connect to {}\n{}", self.launch.addr, self.log_tail()))
    }

    /// Sends SIGTERM and does not wait.
    pub(crate) fn terminate(&self) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).context("the process number is too large")?);
        kill(pid, Signal::SIGTERM).context("cannot send SIGTERM to the server")
    }

    /// Stops the server with SIGTERM and waits for its end; gives how long that took.
    pub(crate) fn stop(mut self) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        self.terminate()?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                if !status.success() {
                    bail!("the server did not stop cleanly: {status}\n{}", self.log_tail());
                }
                return Ok(begin.elapsed());
            }
            if begin.elapsed() > STOP_LIMIT {
                bail!("the server has not stopped after {STOP_LIMIT:?}\n{}", self.log_tail());
            }
            thread::sleep(Duration::from_micros(500));
        }
    }

    /// Kills the server with SIGKILL, unless it has ended, and waits for its end.
    pub(crate) fn kill(mut self) -> anyhow::Result<ExitStatus> {
        self.child.kill().context("cannot kill the server")?;
        Ok(self.child.wait()?)
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// The end of what it printed, for error messages.
    pub(crate) fn log_tail(&self) -> String {
        log_tail(&self.launch.log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; there is nobody left to tell of another error.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

/// The last lines of a server's log; nothing when there is none.
pub(crate) fn log_tail(path: &Path) -> String {
    let tail = read_tail(path).unwrap_or_default();
    let lines: Vec<&str> = tail.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

fn read_tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(8192)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn setpriv() -> Option<&'static str> {
    ["/usr/bin/setpriv", "/bin/setpriv"].into_iter().find(|path| Path::new(path).exists())
}

/// A loopback address that nobody listens on at this moment.
pub(crate) fn free_addr() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?)
}

/// Seconds since the epoch.
pub(crate) fn now_s() -> anyhow::Result<i64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_secs())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(directory: &Path, script: &str) -> Launch {
        Launch {
            binary: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            directory: directory.to_owned(),
            addr: free_addr().unwrap(),
            log: directory.join("log"),
        }
    }

    fn is_alive(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn a_dropped_server_is_dead() {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::spawn(&launch(directory.path(), "sleep 100")).unwrap();
        let pid = server.pid();
        assert!(is_alive(pid));
        drop(server);
        assert!(!is_alive(pid));
    }

    #[test]
    fn a_server_that_ends_early_is_an_error_with_its_last_words() {
        let directory = tempfile::tempdir().unwrap();
        let error = Server::start(&launch(directory.path(), "echo cannot do it >&2; exit 3")).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("cannot do it") && text.contains('3'), "{text}");
    }

    #[test]
    fn a_stop_waits_for_the_end_and_tells_a_bad_one() {
        let directory = tempfile::tempdir().unwrap();
        let script = "trap 'exit 0' TERM; echo up > up; while :; do sleep 0.01; done";
        let ready = || while !directory.path().join("up").exists() {};
        let server = Server::spawn(&launch(directory.path(), script)).unwrap();
        ready();
        server.stop().unwrap();
        std::fs::remove_file(directory.path().join("up")).unwrap();
        let server = Server::spawn(&launch(directory.path(), &script.replace("exit 0", "exit 4"))).unwrap();
        ready();
        assert!(format!("{:#}", server.stop().unwrap_err()).contains("did not stop cleanly"));
    }
}
