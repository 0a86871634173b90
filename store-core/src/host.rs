//! [`Host`]: the unit of locking.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::Timestamp;
use crate::block::BlockState;
use crate::buffer::{Buffer, Context};
use crate::floor::{Floor, FloorState, Floors};
use crate::grid::TIMES;
use crate::head::HEAD_ROWS_MAX;
use crate::metric::MetricId;
use crate::record::RawSample;
use crate::row::{ROW_CELLS_MAX, Row, RowView, Rows};
use crate::shape::{COLUMNS_MAX, NewColumn, Shape};
use crate::stamp::Stamp;
use crate::store::Store;
use crate::witness::Witness;

/// A host of a cluster and all that is known of it.
#[derive(Debug)]
pub struct Host {
    number: u32,
    cluster: Box<str>,
    name: Box<str>,
    first_head_rows: u32,
    /// Guards everything below the host. Taken after the host table's lock and before the log's; never two at once.
    /// See [`shape_bytes`](Host::shape_bytes).
    shape_bytes: AtomicUsize,
    state: Mutex<HostState>,
    loaded: Condvar,
}

/// Samples of one message that wait until their host is loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Deferred {
    /// Of their record.
    pub stamp: Stamp,
    /// The samples; `None` if they are in the log alone.
    pub samples: Option<Vec<RawSample>>,
}

/// What a host's mutex guards.
#[derive(Debug)]
pub struct HostState {
    shape: Arc<Shape>,
    buffers: Vec<Buffer>,
    floors: Floors,
    /// Samples that arrived before the host was loaded, with their stamps; `None` once it is.
    pending: Option<Vec<Deferred>>,
    witness: Witness,
    /// Set when the host was taken out of the table: whoever still holds it must look it up again.
    gone: bool,
}

/// A sample whose series is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Column of the host.
    pub column: u32,
    /// When it was measured.
    pub time: Timestamp,
    /// Its value; not NaN.
    pub value: f32,
}

/// The most buffers that one host is given: phases of its frequencies. A series of one more phase joins a buffer of
/// its frequency, in whose slots its samples are then found less than a step away.
pub const BUFFERS_MAX: usize = 1024;

/// A series that is to be found or registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The levels below the host.
    pub path: &'a [Box<str>],
    /// The metric.
    pub metric: MetricId,
    /// Its configured frequency.
    pub frequency_s: u32,
    /// Time of the first sample: a new series joins the buffer of its phase.
    pub time: Timestamp,
}

/// How samples are placed.
#[derive(Debug, Clone, Copy)]
pub struct Placing {
    /// Samples before this time are refused.
    pub oldest: Timestamp,
    /// A new anchor keeps the phase of the first one: for files that cannot say another.
    pub fixed_phase: bool,
}

/// What became of the samples of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Placed {
    /// Samples that go into rows.
    pub good: u64,
    /// Samples older than the retention, or beyond all [`TIMES`].
    pub too_old: u64,
    /// Samples below a floor.
    pub freed: u64,
}

impl Host {
    pub(crate) fn new(number: u32, cluster: &str, name: &str, shape: Arc<Shape>, loading: bool) -> Self {
        let hash = crc32fast::hash(format!("{cluster}\0{name}").as_bytes());
        let mut state = HostState::new(shape);
        state.pending = loading.then(Vec::new);
        Self {
            number,
            cluster: cluster.into(),
            name: name.into(),
            first_head_rows: 17 + hash % (HEAD_ROWS_MAX - 16),
            shape_bytes: AtomicUsize::new(0),
            state: Mutex::new(state),
            loaded: Condvar::new(),
        }
    }

    /// Number of the host in its store; dense, never given out again in one process.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The host's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes the host's mutex.
    pub fn lock(&self) -> MutexGuard<'_, HostState> {
        // A panic under the mutex is a mistake of ours; who writes to files asks `is_poisoned` first.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a panic under the mutex may have left the host half-changed: a block may be gone that no file holds. What it
    /// shows may be incomplete, so nothing of it is to be saved, and the log is needed for it.
    pub fn is_poisoned(&self) -> bool {
        self.state.is_poisoned()
    }

    /// Whether somebody has the host's mutex at this moment.
    pub fn is_locked(&self) -> bool {
        matches!(self.state.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Takes the host's mutex once the host is loaded; `None` if that takes longer than `patience`.
    pub fn lock_loaded(&self, patience: Duration) -> Option<MutexGuard<'_, HostState>> {
        let mut state = self.lock();
        let mut until = None;
        while state.is_loading() {
            let now = Instant::now();
            let left = until.get_or_insert(now + patience).checked_duration_since(now)?;
            state = self.loaded.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(state)
    }

    /// Length of the encoding of the host's shape in bytes, as it was noted last: known without the mutex.
    pub fn shape_bytes(&self) -> usize {
        self.shape_bytes.load(Ordering::Relaxed)
    }

    /// Notes how long the encoding of the host's shape is.
    pub fn note_shape(&self, state: &HostState) {
        self.shape_bytes.store(state.shape.encoded_bytes(), Ordering::Relaxed);
    }

    /// Wakes everyone who waits for the host to be loaded.
    pub fn notify_loaded(&self) {
        self.note_shape(&self.lock());
        self.loaded.notify_all();
    }

    /// Applies rows in memory; `stamp` is that of their record. Rows of buffers or columns that the host does not
    /// have, or whose slot is none of their anchor, are left out: no record of ours says such.
    pub fn apply<'a>(
        &self,
        state: &mut HostState,
        rows: impl IntoIterator<Item = RowView<'a>>,
        stamp: Stamp,
        now: Timestamp,
    ) {
        let shape = Arc::clone(&state.shape);
        let context = Context { shape: &shape, first_head_rows: self.first_head_rows, now };
        let mut late: Vec<Row> = Vec::new();
        for row in rows {
            if let Some(buffer) = state.buffers.get_mut(usize::from(row.buffer))
                && is_sound(row, &shape)
                && !buffer.apply(row, stamp, &context)
            {
                late.push(row.to_row());
            }
        }
        // Per buffer, in the order in which they came.
        late.sort_by_key(|row| row.buffer);
        for group in late.chunk_by(|a, b| a.buffer == b.buffer) {
            state.buffers[usize::from(group[0].buffer)].apply_late(group, stamp, &context);
        }
    }

    /// Gives every block that is not saved the stamp of this moment: see [`Buffer::stamp_anew`].
    pub fn stamp_anew(&self, state: &mut HostState, stamp: Stamp, now: Timestamp) {
        let shape = Arc::clone(&state.shape);
        let context = Context { shape: &shape, first_head_rows: self.first_head_rows, now };
        for buffer in &mut state.buffers {
            buffer.stamp_anew(stamp, &context);
        }
    }
}

fn is_sound(row: RowView<'_>, shape: &Shape) -> bool {
    let buffer = &shape.buffers()[usize::from(row.buffer)];
    (1..=buffer.columns.len()).contains(&row.cells.span())
        && TIMES.contains(&row.anchor)
        && TIMES.contains(&row.slot)
        && (row.slot - row.anchor) % i64::from(buffer.frequency_s) == 0
}

impl HostState {
    /// A host that is loaded and of which nothing is known.
    ///
    /// # Panics
    /// If `shape` has buffers.
    pub fn new(shape: Arc<Shape>) -> Self {
        assert!(shape.buffers().is_empty(), "a host begins with an empty shape");
        Self {
            shape,
            buffers: Vec::new(),
            floors: Floors::default(),
            pending: None,
            witness: Witness::default(),
            gone: false,
        }
    }

    /// Takes over what was read from files and from the log, while this state still waits for it.
    pub fn adopt(&mut self, loaded: Self) {
        (self.shape, self.buffers, self.floors) = (loaded.shape, loaded.buffers, loaded.floors);
    }

    /// The levels and columns.
    pub fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }

    /// The buffers, by their numbers.
    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    /// The buffers, to be sealed, saved and freed.
    pub fn buffers_mut(&mut self) -> &mut [Buffer] {
        &mut self.buffers
    }

    /// What was freed.
    pub fn floors(&self) -> &Floors {
        &self.floors
    }

    /// What was freed, to be raised, saved and forgotten.
    pub fn floors_mut(&mut self) -> &mut Floors {
        &mut self.floors
    }

    /// What the host's live samples said of the time.
    pub fn witness(&self) -> &Witness {
        &self.witness
    }

    /// The same, to be told of more.
    pub fn witness_mut(&mut self) -> &mut Witness {
        &mut self.witness
    }

    /// Whether the host's files and log rows are still to be read.
    pub fn is_loading(&self) -> bool {
        self.pending.is_some()
    }

    /// Keeps samples until the host is loaded.
    ///
    /// # Panics
    /// If the host is loaded.
    pub fn defer(&mut self, stamp: Stamp, samples: Vec<RawSample>) {
        self.pending.as_mut().expect("the host is loading").push(Deferred { stamp, samples: Some(samples) });
    }

    /// Ends the loading and hands out what arrived meanwhile, in the order of stamps.
    pub fn finish_loading(&mut self) -> Vec<Deferred> {
        self.pending.take().unwrap_or_default()
    }

    /// What arrived before the host was loaded, in the order in which it came.
    pub fn deferred(&self) -> &[Deferred] {
        self.pending.as_deref().unwrap_or_default()
    }

    /// Forgets the samples of the first `count` messages that wait: their records are durable in the log, and are read
    /// there.
    pub fn leave_to_log(&mut self, count: usize) {
        for deferred in self.pending.iter_mut().flatten().take(count) {
            deferred.samples = None;
        }
    }

    /// Gives some deferred samples whose stamp lies before `bound` the stamp of a new record: those of one message.
    /// Then those that came behind them, so that they stay in the order in which they came. Whether there were any.
    pub fn restamp_deferred(&mut self, bound: Stamp, visit: impl FnOnce(&[RawSample]) -> Stamp) -> bool {
        let mut least = bound;
        for Deferred { stamp, samples } in self.pending.iter_mut().flatten() {
            // What was left to the log is durable there.
            let Some(samples) = samples else { continue };
            if *stamp < least {
                *stamp = visit(samples);
                return true;
            }
            least = *stamp;
        }
        false
    }

    /// Whether the host was taken out of the table.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Notes that the host is out of the table.
    pub fn mark_gone(&mut self) {
        self.gone = true;
    }

    /// Whether nothing is left: no rows, no floors, nothing waiting.
    pub fn is_empty(&self) -> bool {
        self.pending.is_none()
            && self.floors.is_empty()
            && self.buffers.iter().all(|buffer| buffer.blocks().is_empty() && buffer.heads().next().is_none())
    }

    /// Whether there is a sample that is not freed. A host without one is none: a restart may not even find it.
    pub fn has_samples(&self) -> bool {
        let mut columns = (0..).zip(self.shape.columns());
        columns.any(|(number, column)| {
            let buffer = &self.buffers[usize::from(column.buffer)];
            crate::query::last_sample(buffer, column.index, self.floors.of(number)).is_some()
        })
    }

    /// Takes a shape that extends the present one, with empty buffers behind those that are there.
    ///
    /// # Panics
    /// If `shape` does not extend the present one.
    pub fn set_shape(&mut self, shape: Arc<Shape>) {
        assert!(shape.extends(&self.shape), "a shape grows and is never renumbered");
        self.shape = shape;
        self.add_buffers();
    }

    /// Makes the buffers that the shape has got.
    fn add_buffers(&mut self) {
        // Mostly there is one, and a fleet of small hosts consists of little else.
        self.buffers.reserve_exact(self.shape.buffers().len().saturating_sub(self.buffers.len()));
        for (number, buffer) in self.shape.buffers().iter().enumerate().skip(self.buffers.len()) {
            self.buffers.push(Buffer::new(number as u16, buffer.frequency_s));
        }
    }

    /// The column of a series at its configured frequency.
    pub fn column(&self, path: &[Box<str>], metric: MetricId, frequency_s: u32) -> Option<u32> {
        let level = self.shape.root().descend(path.iter().map(|name| &**name))?;
        level.columns(metric).iter().rev().copied().find(|&column| {
            let buffer = self.shape.columns()[column as usize].buffer;
            self.shape.buffers()[usize::from(buffer)].frequency_s == frequency_s
        })
    }

    /// The columns of series, in their order; those that are new are registered, all at once, but no more than
    /// `room`. `None` where there is no room, or where a name or a path is longer than a shape can hold. The caller
    /// counts the series.
    ///
    /// The room is [that of the store](Store::series_room) for series that senders bring. What was acknowledged
    /// already needs none: a store that starts must not leave out what it has taken.
    pub fn register(&mut self, store: &Store, wanted: &[Wanted<'_>], room: usize) -> Vec<Option<u32>> {
        let catalog = store.catalog();
        let first_new = self.shape.columns().len();
        let room = room.min(COLUMNS_MAX.saturating_sub(first_new));
        let mut added: Vec<NewColumn<'_>> = Vec::new();
        let mut phases = Phases { buffers: &self.buffers, new: Vec::new() };
        let mut seen = hashbrown::HashMap::new();
        let mut columns = Vec::with_capacity(wanted.len());
        for series in wanted {
            if let Some(column) = self.column(series.path, series.metric, series.frequency_s) {
                columns.push(Some(column));
                continue;
            }
            let key = (series.path, series.metric, series.frequency_s);
            let column = *seen.entry(key).or_insert_with(|| {
                let fits =
                    added.len() < room && Shape::can_name(series.path, &catalog.of(series.metric).name);
                let buffer = if fits { phases.buffer_for(series)? } else { return None };
                added.push(NewColumn { path: series.path.into(), metric: series.metric, buffer });
                u32::try_from(first_new + added.len() - 1).ok()
            });
            columns.push(column);
        }
        if !added.is_empty() {
            let frequencies: Vec<u32> = phases.new.iter().map(|(frequency_s, _)| *frequency_s).collect();
            store.extend_shape(&mut self.shape, &frequencies, &added);
            self.add_buffers();
        }
        columns
    }

    /// Sorts samples into rows: decides slots and anchors, refuses what is too old or freed.
    pub fn place(&mut self, samples: &[Sample], placing: Placing, rows: &mut Rows) -> Placed {
        let mut placed = Placed::default();
        let columns = self.shape.columns();
        let mut rest = samples;
        // Mostly all samples of a batch are of one moment.
        while let Some(first) = rest.first() {
            let Some(column) = columns.get(first.column as usize) else {
                rest = &rest[1..];
                continue;
            };
            let number = column.buffer;
            let of_moment = |sample: &&Sample| {
                let column = columns.get(sample.column as usize);
                sample.time == first.time && column.is_some_and(|column| column.buffer == number)
            };
            let (moment, behind) = rest.split_at(rest.iter().take_while(of_moment).count());
            rest = behind;
            if first.time < placing.oldest || !TIMES.contains(&first.time) {
                placed.too_old += moment.len() as u64;
                continue;
            }
            let buffer = &mut self.buffers[usize::from(number)];
            let (anchor, slot) = buffer.place(first.time, placing.fixed_phase);
            let floors = &self.floors;
            let kept = |sample: &Sample| floors.is_empty() || slot >= floors.of(sample.column);
            let good =
                if floors.is_empty() { moment.len() } else { moment.iter().filter(|s| kept(s)).count() };
            placed.good += good as u64;
            placed.freed += (moment.len() - good) as u64;
            if good == 0 {
                continue;
            }
            buffer.note_anchor(anchor);
            for part in moment.chunks(ROW_CELLS_MAX) {
                let row = rows.row(number, anchor, slot);
                let kept = part.iter().filter(|sample| kept(sample));
                row.cells.extend(kept.map(|sample| (columns[sample.column as usize].index, sample.value)));
            }
        }
        placed
    }

    /// Floors that a request to free everything before `to` would raise on these columns, and how many blocks and
    /// heads hold samples that they hide.
    pub fn to_free(&self, columns: &[u32], to: Timestamp) -> (Vec<(u32, Timestamp)>, u64) {
        let mut floors = Vec::new();
        let mut hidden = 0;
        for &number in columns {
            let column = &self.shape.columns()[number as usize];
            let buffer = &self.buffers[usize::from(column.buffer)];
            let floor = self.floors.of(number);
            let Some(newest) = crate::query::last_sample(buffer, column.index, floor) else { continue };
            let before = to.min(newest.saturating_add(1));
            let count = crate::query::pieces_with_samples(buffer, column.index, floor, before);
            if count > 0 {
                floors.push((number, before));
                hidden += count;
            }
        }
        (floors, hidden)
    }

    /// The newest record that floors of these columns wait for: those that no file says. What a request to free hides
    /// already stays hidden only if that record is in the log.
    pub fn floors_from(&self, columns: &[u32]) -> Option<Stamp> {
        if self.floors.is_empty() {
            return None;
        }
        let mut columns = columns.to_vec();
        columns.sort_unstable();
        let unsaved = self.floors.iter().filter(|floor| !floor.is_saved());
        unsaved.filter(|floor| columns.binary_search(&floor.column).is_ok()).map(|floor| floor.at).max()
    }

    /// Whether files hold all that there is: no heads, every block saved, no floor hides what a file still holds.
    pub fn is_saved(&self) -> bool {
        self.blocks_are_saved()
            && self.pending.is_none()
            && self.floors.unapplied().is_empty()
            && self.buffers.iter().all(|buffer| buffer.heads().next().is_none())
    }

    /// Raises floors; `at` is the stamp of the record that says so.
    pub fn raise_floors(&mut self, floors: &[(u32, Timestamp)], at: Stamp) {
        for &(column, before) in floors {
            self.floors.raise(Floor::new(column, before, at, FloorState::Logged));
        }
    }

    /// Drops blocks and heads that end before `time`, and forgets floors that hide nothing any more: no sample below
    /// them is left, and none before `time` is to be accepted again. Returns how many blocks and heads went.
    pub fn drop_before(&mut self, time: Timestamp) -> usize {
        let dropped = self.buffers.iter_mut().map(|buffer| buffer.drop_before(time)).sum();
        let (shape, buffers) = (&self.shape, &self.buffers);
        self.floors.retain(|floor| {
            let buffer = shape.columns().get(floor.column as usize).map(|column| usize::from(column.buffer));
            let oldest = buffer.and_then(|number| buffers.get(number)?.oldest_slot());
            floor.before > time || oldest.is_some_and(|oldest| oldest < floor.before)
        });
        dropped
    }

    /// Bytes on the heap besides the cells of heads and the bytes of blocks.
    pub fn fixed_bytes(&self) -> usize {
        self.buffers.capacity() * size_of::<Buffer>()
            + self.buffers.iter().map(Buffer::fixed_bytes).sum::<usize>()
            + self.floors.heap_bytes()
    }

    /// Whether no block needs the log.
    pub fn blocks_are_durable(&self) -> bool {
        let mut blocks = self.buffers.iter().flat_map(Buffer::blocks);
        blocks.all(|held| !matches!(held.state, BlockState::Unsaved { .. }))
    }

    /// Whether every block is in a synced block file.
    pub fn blocks_are_saved(&self) -> bool {
        let mut blocks = self.buffers.iter().flat_map(Buffer::blocks);
        blocks.all(|held| held.state == BlockState::Saved)
    }

    /// The log is needed from here on for this host: the least stamp over heads, unsaved blocks, unsaved floors
    /// and what waits for the host to be loaded.
    pub fn safe(&self) -> Stamp {
        let buffers = self.buffers.iter().map(Buffer::safe);
        let pending = self.deferred().iter().map(|deferred| deferred.stamp);
        buffers.chain(pending).chain([self.floors.safe()]).min().unwrap_or(Stamp::MAX)
    }
}

/// The buffers of a host, and those that it is about to get.
struct Phases<'a> {
    buffers: &'a [Buffer],
    /// Frequency, and the moment that sets the phase.
    new: Vec<(u32, Timestamp)>,
}

impl Phases<'_> {
    /// The buffer of a new series: that of its phase, a new one, or where there are too many, any of its frequency.
    fn buffer_for(&mut self, series: &Wanted<'_>) -> Option<u16> {
        let (frequency_s, step) = (series.frequency_s, i64::from(series.frequency_s));
        let old = |buffer: &Buffer| buffer.frequency_s() == frequency_s && buffer.is_in_phase(series.time);
        let new = |&(other_s, time): &(u32, Timestamp)| {
            other_s == frequency_s && series.time.saturating_sub(time) % step == 0
        };
        let known = self.buffers.len();
        let joined = self.buffers.iter().position(old);
        let joined = joined.or_else(|| Some(known + self.new.iter().position(new)?));
        let next = known + self.new.len();
        let joined = joined.or_else(|| {
            let old = self.buffers.iter().map(Buffer::frequency_s);
            let mut all = old.chain(self.new.iter().map(|(other_s, _)| *other_s));
            all.position(|other_s| other_s == frequency_s).filter(|_| next >= BUFFERS_MAX)
        });
        // A shape counts its buffers in 16 bits; so many frequencies are no measurement.
        let place = u16::try_from(joined.unwrap_or(next)).ok().filter(|place| *place < u16::MAX)?;
        if joined.is_none() {
            self.new.push((frequency_s, series.time));
        }
        Some(place)
    }
}
