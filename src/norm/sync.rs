//! Synchronised batch norm: workers normalise by the statistics of all their batches.

use std::cmp;
use std::collections::HashMap;
use std::fmt::{self, Debug, Display, Formatter};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, Thread, ThreadId};
use std::time::{Duration, Instant};

use super::op::{Exchange, Meeting};
use crate::scope;

/// Workers that train one model together, each on a batch of its own. Within [`run`](Self::run), every batch norm layer
/// normalises by the statistics of all workers' batches.
///
/// So `n` workers with `b` rows each compute what one worker would with `n * b` rows: outputs, gradients and running
/// statistics, whatever each worker's share, even an empty one. Without a group, each worker normalises by its own
/// batch, which is small and noisy on many devices.
///
/// A worker is a thread. It has a [`fork`](burn::module::Module::fork) of the model, such as Burn's learner makes under
/// `MultiDevice`. Without a fork the workers share parameters, and Burn computes their backward passes one after the
/// other, so they cannot meet.
///
/// ```
/// use std::thread;
///
/// use burn::module::Module;
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_kindling::norm::{BatchNormConfig, SyncGroup};
///
/// let device = Device::flex().autodiff();
/// let norm = BatchNormConfig::new(4).init(&device);
/// let batches = [6, 2].map(|rows| Tensor::<2>::random([rows, 4], Distribution::Default, &device));
/// let all = Tensor::cat(batches.to_vec(), 0);
///
/// let group = SyncGroup::new(2);
/// let outputs: Vec<_> = thread::scope(|threads| {
///     let workers = batches.map(|batch| {
///         let (group, norm) = (&group, norm.clone().fork(&device));
///         threads.spawn(move || group.run(|| norm.forward(batch)))
///     });
///     workers.map(|worker| worker.join().unwrap()).into()
/// });
///
/// assert!(norm.forward(all).all_close(Tensor::cat(outputs, 0), None, Some(1e-6)));
/// ```
///
/// # What a step must contain
///
/// The forward *and* the backward pass, in one [`run`](Self::run): the backward pass meets at each layer too. With
/// Burn's learner, wrap the body of `TrainStep::step`. All workers must call the same layers in the same order.
///
/// Each worker gets the gradients of gamma and beta for its own batch. Average the gradients over the workers, as for
/// all parameters.
///
/// # Running statistics
///
/// They are updated once a step, by the moments of all batches together: forks that share them update them once, and
/// workers with their own compute the same values to the bit.
///
/// # No worker waits forever
///
/// If a worker panics, ends its step without reaching a layer where others wait, or does not reach it within the
/// [timeout](Self::with_timeout), the others panic with a message that says who did not reach which layer. A worker
/// that has no more batches calls [`leave`](Self::leave).
///
/// A group that is not `run` changes nothing. Models trained at the same time need a group each.
///
/// # Cost
///
/// Each layer exchanges `2 * channels` numbers forward and `3 * channels` backward, by way of the host. On a GPU, that
/// waits for the device at every layer. On a CPU backend, the statistics and the normalisation are two operations
/// instead of one, and the backward pass reads the input once more.
///
/// The exchange uses no collective operation of the devices. So it cannot cross with those that Burn's distributed
/// strategy issues for gradients from a thread of its own, in an order that differs from device to device.
///
/// # Threads
///
/// As with [`Mode::run`](super::Mode::run), layers must be called on the thread of the step; on a rayon worker, the
/// step runs on a new thread. Workers wait for each other, so they need a thread each: jobs of a pool with fewer
/// threads than workers end in the timeout.
#[derive(Clone)]
pub struct SyncGroup(Kind);

#[derive(Clone)]
enum Kind {
    Threads(Arc<Shared>),
    Elsewhere(Arc<dyn Exchange>),
}

/// What the threads of a group share.
struct Shared {
    timeout: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Workers that have not left.
    workers: usize,
    /// The steps under way, oldest first.
    steps: Vec<Step>,
}

/// One step of all workers.
struct Step {
    number: u64,
    /// The workers that take part: those of the group when the step began, less those that left since.
    expected: usize,
    entered: Vec<Thread>,
    /// How many of `entered` have ended their step.
    ended: usize,
    /// Why the step failed.
    failure: Option<String>,
    places: HashMap<Place, Gathering>,
}

/// Where workers meet: a layer, by its place among a worker's calls, in one of its passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    call: usize,
    pass: Pass,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Pass {
    Forward,
    Backward,
}

/// What the workers brought to one place so far.
#[derive(Default)]
struct Gathering {
    came: Vec<ThreadId>,
    brought: Vec<Vec<f64>>,
    /// What all have brought, in the order for all.
    all: Option<Vec<Vec<f64>>>,
    /// How many workers have taken it.
    taken: usize,
}

impl SyncGroup {
    /// Makes a group of `workers` threads, with a timeout of 60 seconds.
    ///
    /// # Panics
    ///
    /// Panics if `workers` is 0.
    pub fn new(workers: usize) -> Self {
        Self::threads(workers, Duration::from_secs(60))
    }

    /// Makes a group of workers that are not threads of one process: `exchange` carries the numbers. An example is in
    /// the documentation of [`Exchange`].
    pub fn over(exchange: Arc<dyn Exchange>) -> Self {
        Self(Kind::Elsewhere(exchange))
    }

    fn threads(workers: usize, timeout: Duration) -> Self {
        assert!(workers > 0, "a group needs at least one worker, found 0");
        let state = State {
            workers,
            steps: Vec::new(),
        };
        Self(Kind::Threads(Arc::new(Shared {
            timeout,
            state: Mutex::new(state),
            changed: Condvar::new(),
        })))
    }

    /// Returns a new group of as many threads, which wait at most this long for one another at a layer. A group
    /// [over](Self::over) an exchange has no timeout of its own.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        match &self.0 {
            Kind::Threads(shared) => Self::threads(shared.lock().workers, timeout),
            Kind::Elsewhere(_) => self,
        }
    }

    /// Calls `step`, one training step of one worker: its forward and its backward pass.
    ///
    /// # Panics
    ///
    /// Panics if `step` panics, if a worker does not come to a layer, or if the workers' steps differ.
    pub fn run<T: Send>(&self, step: impl FnOnce() -> T + Send) -> T {
        let current = match &self.0 {
            Kind::Threads(shared) => Current::Member(Arc::new(shared.enter())),
            Kind::Elsewhere(exchange) => Current::Elsewhere(exchange.clone()),
        };
        scope::run(Arc::new(current), step)
    }

    /// Tells the other threads that this one takes part in no further step.
    ///
    /// # Panics
    ///
    /// Panics if all workers have left.
    pub fn leave(&self) {
        let Kind::Threads(shared) = &self.0 else {
            return;
        };
        let mut state = shared.lock();
        assert!(
            state.workers > 0,
            "synchronised batch norm: all workers have left the group"
        );
        state.workers -= 1;
        let this = thread::current().id();
        for step in &mut state.steps {
            if !step.entered.iter().any(|worker| worker.id() == this) {
                step.expected -= 1;
                step.complete_places();
                step.fail_if_anyone_waits_in_vain();
            }
        }
        state.steps.retain(|step| step.ended < step.expected);
        drop(state);
        shared.changed.notify_all();
    }
}

impl Debug for SyncGroup {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Threads(shared) => f
                .debug_struct("SyncGroup")
                .field("workers", &shared.lock().workers)
                .field("timeout", &shared.timeout)
                .finish(),
            Kind::Elsewhere(exchange) => f.debug_tuple("SyncGroup").field(exchange).finish(),
        }
    }
}

/// The context of a step.
enum Current {
    Member(Arc<Member>),
    Elsewhere(Arc<dyn Exchange>),
}

/// A meeting of the workers at a layer.
pub(super) struct Met {
    pub(super) meeting: Meeting,
    /// Identifies the meeting, if workers may share running statistics.
    pub(super) occasion: Option<Occasion>,
}

/// The number of a step, of all groups' steps, and that of a call in it.
pub(super) type Occasion = (u64, usize);

/// The meeting of the workers at the layer that the caller is about to compute, if it is within [`SyncGroup::run`].
pub(super) fn next_meeting() -> Option<Met> {
    Some(match &*scope::innermost::<Current>()? {
        Current::Member(member) => member.clone().next_meeting(),
        Current::Elsewhere(exchange) => Met {
            meeting: Meeting {
                forward: exchange.clone(),
                backward: exchange.clone(),
            },
            occasion: None,
        },
    })
}

/// Whether the caller is within [`SyncGroup::run`].
pub(super) fn is_in_a_group() -> bool {
    scope::innermost::<Current>().is_some()
}

/// One worker in one step. Dropping it ends the step.
struct Member {
    group: Arc<Shared>,
    step: u64,
    thread: Thread,
    /// The layers called so far.
    calls: AtomicUsize,
}

impl Member {
    fn next_meeting(self: Arc<Self>) -> Met {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let occasion = Some((self.step, call));
        let visit = |pass| -> Arc<dyn Exchange> {
            Arc::new(Visit {
                // A graph that outlives the step must not keep the worker in it.
                member: Arc::downgrade(&self),
                place: Place { call, pass },
            })
        };
        let meeting = Meeting {
            forward: visit(Pass::Forward),
            backward: visit(Pass::Backward),
        };
        Met { meeting, occasion }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.group.lock();
        let Some(at) = state.steps.iter().position(|it| it.number == self.step) else {
            return;
        };
        let step = &mut state.steps[at];
        step.ended += 1;
        if thread::panicking() {
            let name = name(&self.thread);
            step.fail(format!("{name} panicked in this step"));
        }
        step.fail_if_anyone_waits_in_vain();
        if step.ended == step.expected {
            state.steps.remove(at);
        }
        drop(state);
        self.group.changed.notify_all();
    }
}

/// One worker's way to one place.
#[derive(Debug)]
struct Visit {
    member: Weak<Member>,
    place: Place,
}

impl Exchange for Visit {
    fn gather(&self, numbers: Vec<f64>) -> Vec<Vec<f64>> {
        let member = self.member.upgrade().unwrap_or_else(|| {
            panic!(
                "the backward pass of a synchronised batch norm ran after its step had ended; call `backward` within \
                 `SyncGroup::run`"
            )
        });
        match member.group.gather(&member, self.place, numbers) {
            Ok(all) => all,
            Err(failure) => panic!("synchronised batch norm: {failure}"),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No invariant is broken by a panic: nothing panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters the oldest step in which this thread is not, or begins one.
    fn enter(self: &Arc<Self>) -> Member {
        let thread = thread::current();
        let mut state = self.lock();
        assert!(
            state.workers > 0,
            "synchronised batch norm: all workers have left the group"
        );
        let open = state.steps.iter_mut().find(|step| {
            let is_in = step.entered.iter().any(|other| other.id() == thread.id());
            step.entered.len() < step.expected && !is_in
        });
        let number = match open {
            Some(step) => {
                step.entered.push(thread.clone());
                step.number
            }
            None => {
                let step = Step::new(state.workers, thread.clone());
                let number = step.number;
                state.steps.push(step);
                number
            }
        };
        Member {
            group: self.clone(),
            step: number,
            thread,
            calls: AtomicUsize::new(0),
        }
    }

    /// Brings a worker's numbers to a place, and waits for those of the others.
    fn gather(
        &self,
        member: &Member,
        place: Place,
        numbers: Vec<f64>,
    ) -> Result<Vec<Vec<f64>>, String> {
        let deadline = Instant::now() + self.timeout;
        let mut state = self.lock();
        state
            .step(member)?
            .come(place, member.thread.id(), numbers)?;
        self.changed.notify_all();
        loop {
            let step = state.step(member)?;
            if let Some(all) = step.take(place) {
                return Ok(all);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let failure = format!("{} within {:?}", step.absent(place), self.timeout);
                step.fail(failure.clone());
                self.changed.notify_all();
                return Err(failure);
            }
            state = match self.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

impl State {
    /// The worker's step, unless it has failed.
    fn step(&mut self, member: &Member) -> Result<&mut Step, String> {
        let steps = &mut self.steps;
        let step = steps.iter_mut().find(|step| step.number == member.step);
        let step = step.expect("a step lasts until all its workers have ended");
        match &step.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(step),
        }
    }
}

impl Step {
    fn new(expected: usize, first: Thread) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            expected,
            entered: vec![first],
            ended: 0,
            failure: None,
            places: HashMap::new(),
        }
    }

    /// Records the first failure, which all workers of the step report.
    fn fail(&mut self, failure: String) {
        self.failure.get_or_insert(failure);
    }

    /// Adds a worker's numbers to those brought to a place.
    fn come(&mut self, place: Place, worker: ThreadId, numbers: Vec<f64>) -> Result<(), String> {
        let channels = place.channels(&numbers);
        let gathering = self.places.entry(place).or_default();
        if let Some(other) = gathering.brought.first()
            && other.len() != numbers.len()
        {
            let other = place.channels(other);
            let failure = format!(
                "the workers called different layers: {place} has {} channels for one of them, {} for another",
                channels.min(other),
                channels.max(other)
            );
            self.fail(failure.clone());
            return Err(failure);
        }
        gathering.came.push(worker);
        gathering.brought.push(numbers);
        self.complete_places();
        self.fail_if_anyone_waits_in_vain();
        Ok(())
    }

    /// Completes the places to which all workers have come.
    fn complete_places(&mut self) {
        for gathering in self.places.values_mut() {
            if gathering.came.len() == self.expected && gathering.all.is_none() {
                let mut all = std::mem::take(&mut gathering.brought);
                // The order of what was brought, and not that of who came, so that sums are the same from run to run.
                all.sort_by(|a, b| {
                    let pairs = a.iter().zip(b).map(|(a, b)| a.total_cmp(b));
                    pairs.fold(cmp::Ordering::Equal, cmp::Ordering::then)
                });
                gathering.all = Some(all);
            }
        }
    }

    /// What was brought to a place, if all have come.
    fn take(&mut self, place: Place) -> Option<Vec<Vec<f64>>> {
        let gathering = self.places.get_mut(&place)?;
        let all = gathering.all.clone()?;
        gathering.taken += 1;
        if gathering.taken == self.expected {
            self.places.remove(&place);
        }
        Some(all)
    }

    /// Fails if a worker waits for one that has ended its step, or all wait at different places.
    fn fail_if_anyone_waits_in_vain(&mut self) {
        let waiting = || self.places.iter().filter(|(_, it)| it.all.is_none());
        let waiters: usize = waiting().map(|(_, gathering)| gathering.came.len()).sum();
        let Some((&place, _)) = waiting().min_by_key(|(place, _)| place.order()) else {
            return;
        };
        if waiters + self.ended >= self.expected {
            let failure = match self.ended {
                0 => "and neither will: each waits at another layer, so their order differs",
                _ => "and a worker has ended its step without it",
            };
            self.fail(format!("{}, {failure}", self.absent(place)));
        }
    }

    /// Who did not come to a place.
    fn absent(&self, place: Place) -> String {
        let gathering = &self.places[&place];
        let came = &gathering.came;
        let absent = self.entered.iter().filter(|it| !came.contains(&it.id()));
        let mut absent: Vec<_> = absent.map(name).collect();
        let outside = self.expected.saturating_sub(self.entered.len());
        if outside > 0 {
            absent.push(format!("{outside} that did not begin the step"));
        }
        format!(
            "{} of {} workers came to {place} ({} channels), but not {}",
            came.len(),
            self.expected,
            place.channels(&gathering.brought[0]),
            absent.join(", ")
        )
    }
}

impl Place {
    /// Forward in the order of calls, then backward against it.
    fn order(self) -> (bool, usize) {
        match self.pass {
            Pass::Forward => (false, self.call),
            Pass::Backward => (true, usize::MAX - self.call),
        }
    }

    /// The number of channels of a layer at which these numbers were brought.
    fn channels(self, numbers: &[f64]) -> usize {
        match self.pass {
            Pass::Forward => numbers.len() / 2,
            Pass::Backward => numbers.len() / 3,
        }
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let pass = match self.pass {
            Pass::Forward => "forward",
            Pass::Backward => "backward",
        };
        write!(f, "the {pass} pass of batch norm call {}", self.call + 1)
    }
}

fn name(thread: &Thread) -> String {
    match thread.name() {
        Some(name) => format!("worker `{name}`"),
        None => format!("worker {:?}", thread.id()),
    }
}
