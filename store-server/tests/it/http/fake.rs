//! A store that does as it is told, and a server in front of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use store_disk::ManualClock;
use store_server::auth::Auth;
use store_server::config::Limits;
use store_server::engine::{
    DebugError, Durability, FreeError, Freed, HealthAnswer, HealthState, LastHosts, PathElement, ReadError,
    ReadRequest, Series, WriteReport,
};
use store_server::http::serve::{Served, serve};
use store_server::http::{App, Store, Timeouts, router};

/// The moment that tokens are judged at.
pub(super) const NOW_S: i64 = 1_800_000_000;

/// One stored series: the time of its first value, seconds per value, the values.
type Stored = (i64, i64, Vec<f64>);

/// A store that does as it is told.
#[derive(Debug, Default)]
pub(super) struct Fake {
    /// By `cluster/host/path/metric`.
    pub(super) series: BTreeMap<String, Stored>,
    /// What a write is answered with; without it, every line is good.
    pub(super) report: Option<WriteReport>,
    /// Whether it is loading.
    pub(super) loading: bool,
    /// How long a write takes.
    pub(super) write_takes: Duration,
    /// How long one of more than 256 KiB takes.
    pub(super) long_write_takes: Duration,
    /// How many of those are taken now, and how many there were at once.
    pub(super) long_writes: Mutex<(usize, usize)>,
    /// How long it takes to read the metric `slow`.
    pub(super) slow_takes: Duration,
    /// Bodies that were written, with their cluster; without those of many megabytes.
    pub(super) written: Mutex<Vec<(Vec<u8>, Option<String>)>>,
    /// How many selections were read.
    pub(super) reads: AtomicUsize,
    /// How often the hosts of a cluster were listed.
    pub(super) listings: AtomicUsize,
    /// Selectors that were freed.
    pub(super) freed: Mutex<Vec<(i64, Vec<Vec<String>>)>>,
}

impl Fake {
    /// With the series that the expected answers of the tests are about.
    pub(super) fn with_series() -> Self {
        let cpu_load =
            [34.875, 38.75, 44.25, 44.375, 47.625, 50.75, 50.75, 55.0, 57.625, 60.25, 57.0, 59.125];
        let mut fake = Self::default();
        fake.add("alpha/a01//cpu_load", 1_700_000_000, 60, &cpu_load);
        fake.add("alpha/a01//gaps", 1_700_000_000, 60, &[1.0, f64::NAN, -0.0004, f64::NAN]);
        fake.add("alpha/a01//empty", 1_700_000_000, 60, &[f64::NAN, f64::NAN]);
        for (id, value) in [("0", 1.5), ("1", 2.5)] {
            fake.add(&format!("alpha/a01/hwthread{id}/cpu_user"), 1_700_000_000, 60, &[value]);
            for sub in ["0", "1"] {
                fake.add(&format!("alpha/a01/hwthread{id}:sensor{sub}/temp"), 1_700_000_000, 60, &[value]);
            }
        }
        fake.add("alpha/a01/(hwthread0|hwthread1)/cpu_user", 1_700_000_000, 60, &[2.0]);
        fake.add("beta/b01//cpu_load", 1_700_000_000, 60, &[0.0, 1.0]);
        fake.add("beta/b02//cpu_load", 1_700_000_000, 60, &[0.0, 2.0]);
        fake
    }

    fn hosts_of(&self, cluster: &str) -> Result<Vec<String>, ReadError> {
        if self.loading {
            return Err(ReadError::Loading);
        }
        let mut hosts: Vec<String> = self
            .series
            .keys()
            .filter_map(|key| key.strip_prefix(cluster)?.strip_prefix('/')?.split('/').next())
            .map(str::to_owned)
            .collect();
        hosts.dedup();
        Ok(hosts)
    }

    pub(super) fn add(&mut self, key: &str, start: i64, frequency_s: i64, values: &[f64]) {
        self.series.insert(key.to_owned(), (start, frequency_s, values.to_vec()));
    }
}

fn path_text(path: &[PathElement]) -> String {
    let element = |element: &PathElement| match element {
        PathElement::Exact(name) => name.to_string(),
        PathElement::Group(names) => format!("({})", names.join("|")),
        PathElement::Any => "*".to_owned(),
    };
    path.iter().map(element).collect::<Vec<_>>().join(":")
}

impl Store for Fake {
    fn write(&self, body: &[u8], default_cluster: Option<&str>) -> WriteReport {
        std::thread::sleep(self.write_takes);
        if body.len() > 256 << 10 {
            let count = |change: fn(&mut (usize, usize))| change(&mut self.long_writes.lock().unwrap());
            count(|(now, most)| (*now, *most) = (*now + 1, (*now + 1).max(*most)));
            std::thread::sleep(self.long_write_takes);
            count(|(now, _)| *now -= 1);
        }
        assert!(body != b"panic", "told to panic");
        if body.len() <= 4 << 20 {
            self.written.lock().unwrap().push((body.to_vec(), default_cluster.map(str::to_owned)));
        }
        let good = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count() as u64;
        let all_good = WriteReport {
            good,
            bad: 0,
            skipped: 0,
            refused: 0,
            first_bad: None,
            durability: Durability::Kept,
            stopped_behind: None,
        };
        self.report.clone().unwrap_or(all_good)
    }

    fn read_next(&self, request: &ReadRequest<'_>, _: &mut LastHosts) -> Result<Option<Series>, ReadError> {
        if self.loading {
            return Err(ReadError::Loading);
        }
        if request.from > request.to {
            return Err(ReadError::InvalidRange);
        }
        if request.metric.is_empty() || request.metric.starts_with("no_such") {
            return Err(ReadError::UnknownMetric(request.metric.to_owned()));
        }
        self.reads.fetch_add(1, Ordering::SeqCst);
        if request.metric == "slow" {
            std::thread::sleep(self.slow_takes);
        }
        let key =
            format!("{}/{}/{}/{}", request.cluster, request.host, path_text(&request.path), request.metric);
        let Some((start, frequency_s, values)) = self.series.get(&key) else { return Ok(None) };
        let end = start + frequency_s * values.len() as i64;
        let from = request.from.max(*start);
        let steps = (request.to.min(end) - from + frequency_s - 1).div_euclid(*frequency_s).max(0);
        if steps as usize > request.points_max {
            return Err(ReadError::TooManyPoints { points: steps as u64, points_max: request.points_max });
        }
        let first = ((from - start) / frequency_s) as usize;
        let values: Vec<f64> = values.iter().skip(first).take(steps as usize).copied().collect();
        let points_read = values.len();
        Ok(Some(Series {
            values,
            from,
            to: from + steps * frequency_s,
            resolution_s: *frequency_s,
            points_read,
            cells_read: points_read as u64,
        }))
    }

    fn host_count(&self, cluster: &str) -> Result<usize, ReadError> {
        self.hosts_of(cluster).map(|hosts| hosts.len())
    }

    fn hosts(&self, cluster: &str) -> Result<Vec<String>, ReadError> {
        self.listings.fetch_add(1, Ordering::SeqCst);
        self.hosts_of(cluster)
    }

    fn free(&self, to: i64, selectors: &[Vec<String>]) -> Result<Freed, FreeError> {
        if self.loading {
            return Err(FreeError::Loading);
        }
        self.freed.lock().unwrap().push((to, selectors.to_vec()));
        Ok(Freed {
            count: selectors.len() as u64,
            durability: self.report.as_ref().map_or(Durability::Kept, |report| report.durability),
        })
    }

    fn debug_json(&self, selector: Option<&str>) -> Result<Vec<u8>, DebugError> {
        match selector {
            _ if self.loading => Err(DebugError::Loading),
            None | Some("alpha:a01") => Ok(b"{\"data\":{}}\n".to_vec()),
            Some(other) => Err(DebugError::NotFound(other.to_owned())),
        }
    }

    fn health(
        &self,
        _: &str,
        nodes: &[String],
        metrics: &[String],
    ) -> Result<Vec<(String, HealthAnswer)>, ReadError> {
        if self.loading {
            return Err(ReadError::Loading);
        }
        let answer = |node: &String| {
            let found = node != "no-such-host";
            let state = if found { HealthState::Partial } else { HealthState::Failed };
            let missing = if found { metrics.to_vec() } else { Vec::new() };
            (node.clone(), HealthAnswer { found, state, degraded: Vec::new(), missing })
        };
        Ok(nodes.iter().map(answer).collect())
    }

    fn status(&self) -> serde_json::Result<serde_json::Value> {
        Ok(serde_json::json!({"lines": {"good": 7}}))
    }

    fn memory(&self) -> serde_json::Result<serde_json::Value> {
        Ok(serde_json::json!({"head-bytes": 11}))
    }

    fn ready(&self) -> bool {
        !self.loading
    }
}

/// How the server in front of a [`Fake`] is set up.
pub(super) struct Setup {
    pub(super) key: Option<[u8; 32]>,
    pub(super) limits: Limits,
    pub(super) timeouts: Timeouts,
    pub(super) connections_max: usize,
    pub(super) dev: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            key: None,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            connections_max: 1000,
            dev: false,
        }
    }
}

/// A running server; it is stopped when dropped.
pub(super) struct Server {
    pub(super) addr: SocketAddr,
    pub(super) store: Arc<Fake>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<Served>>,
}

impl Server {
    pub(super) fn start(fake: Fake) -> Self {
        Self::start_with(fake, Setup::default())
    }

    pub(super) fn start_with(fake: Fake, setup: Setup) -> Self {
        let store = Arc::new(fake);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (told, addr) = mpsc::channel();
        let backend: Arc<dyn Store> = Arc::<Fake>::clone(&store);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                told.send(listener.local_addr().unwrap()).unwrap();
                let auth = Auth::new(setup.key, true);
                let clock = Arc::new(ManualClock::at(NOW_S));
                let app = Arc::new(App::new(backend, auth, setup.limits, setup.timeouts, clock));
                let router = router(Arc::clone(&app), setup.dev);
                serve(listener, router, app, setup.connections_max, async {
                    // A test that ends without stopping the server stops it by dropping the sender.
                    drop(stopped.await);
                })
                .await
            })
        });
        let addr = addr.recv().unwrap();
        Self { addr, store, stop: Some(stop), thread: Some(thread) }
    }

    /// Tells the server to stop and does not wait for it.
    pub(super) fn tell_to_stop(&mut self) {
        self.stop = None;
    }

    /// Waits for the end of a server that was told to stop.
    pub(super) fn join(&mut self) -> Served {
        self.stop = None;
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop = None;
    }
}
