//! Threads that share the loops of one inference.
//!
//! An operator of a small network takes some thirty microseconds, so a thread that must be woken for each, or a queue
//! that costs some microseconds an operator, eats what a second thread brings. Here the threads of a team stay awake
//! for the length of an inference and take the parts of each loop from one atomic ticket.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long threads stay awake after an inference, in case the next one follows at once. A round number.
const AWAKE_AFTER: Duration = Duration::from_micros(200);

/// Looks at the ticket before a thread lets others run. A round number.
const SPINS_BEFORE_YIELD: u32 = 1000;

/// More do not share an inference.
pub const MOST_THREADS: usize = 64;

thread_local! {
    /// The team that this thread's inference has now; null where it has none.
    static LEADING: Cell<*const Shared> = const { Cell::new(std::ptr::null()) };
}

/// The system gives no thread.
#[derive(Debug)]
pub struct SpawnError {
    /// Threads that were asked for.
    pub threads: usize,
    /// What the system said.
    pub source: std::io::Error,
}

impl std::fmt::Display for SpawnError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} threads cannot be started ({}): ask for fewer", self.threads, self.source)
    }
}

impl std::error::Error for SpawnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Threads that share inferences, one inference at a time. Cheap to clone; the threads end with the last clone.
#[derive(Clone, Default)]
pub struct Team {
    /// None where the calling thread works alone.
    threads: Option<Arc<Threads>>,
}

/// The threads of a team besides the one that leads; they end when this is dropped.
struct Threads {
    shared: Arc<Shared>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.shared.wake(true);
    }
}

impl Team {
    /// A team of `threads`, the calling one among them: 1 to [`MOST_THREADS`].
    pub fn new(threads: usize) -> Result<Team, SpawnError> {
        let threads = threads.clamp(1, MOST_THREADS);
        if threads == 1 {
            return Ok(Team::default());
        }
        let team = Threads { shared: Arc::new(Shared::new(threads)) };
        for number in 1..threads {
            // One half takes parts from the beginning, the other from the end, so that a thread finds in its caches
            // what it wrote in the loop before.
            let from_end = number >= threads.div_ceil(2);
            let shared = team.shared.clone();
            let work = move || shared.work(from_end);
            let spawned = std::thread::Builder::new().name("inference".into()).spawn(work);
            spawned.map_err(|source| SpawnError { threads, source })?;
        }
        Ok(Team { threads: Some(Arc::new(team)) })
    }

    /// Threads, the leading one among them.
    pub fn threads(&self) -> usize {
        self.threads.as_ref().map_or(1, |t| t.shared.threads)
    }

    /// Runs `work`, in which [`Team::each_part`] shares its parts, unless another inference has the team just now.
    pub fn lead<R>(&self, work: impl FnOnce() -> R) -> R {
        let shared = self.threads.as_ref().map(|t| &*t.shared);
        // An inference inside another leads nothing; its loops are shared if it is of the same team.
        let free = |s: &&Shared| LEADING.get().is_null() && !s.busy.swap(true, Ordering::Acquire);
        match shared.filter(free) {
            Some(shared) => shared.lead(work),
            None => work(),
        }
    }

    /// Calls `body(first, lines, codes)` for parts of `out`, whose lines have `line` codes, the last maybe fewer: on
    /// all threads inside [`Team::lead`], else for all of it at once. Parts have a multiple of `step` lines, but for
    /// one. A panic in a part is passed on when all parts are done.
    ///
    /// # Panics
    /// If `line` or `step` is 0.
    pub fn each_part(&self, out: &mut [u8], line: usize, step: usize, body: impl Fn(usize, usize, &mut [u8]) + Sync) {
        let len = out.len();
        let lines = len.div_ceil(line);
        let shared = self.threads.as_ref().map(|t| &*t.shared);
        let leading = |s: &&Shared| std::ptr::eq(LEADING.get(), *s) && lines > step;
        let Some(shared) = shared.filter(leading) else { return body(0, lines, out) };
        /// A pointer that may go to other threads.
        struct Start(*mut u8);
        // SAFETY: each thread makes slices of its own parts alone.
        unsafe impl Sync for Start {}
        let start = Start(out.as_mut_ptr());
        let parts = Parts::new(lines, step, shared.threads);
        shared.run(parts.count(), &|i| {
            let start = &start;
            let part = parts.get(i);
            if part.is_empty() {
                return;
            }
            let codes = part.start * line..len.min(part.end * line);
            // SAFETY: part `i` lies inside `out`, which is borrowed until all parts are done, touches no other part,
            // and is given to one thread once.
            let out = unsafe { std::slice::from_raw_parts_mut(start.0.add(codes.start), codes.len()) };
            body(part.start, part.len(), out);
        });
    }
}

/// How lines are parted: one large part a thread, and between them, if there are many lines, small ones for who is done
/// first.
struct Parts {
    /// Lines in a large part; their number, at the beginning and at the end, is that of the threads.
    large: usize,
    /// Large parts at the beginning.
    before: usize,
    /// Lines in a small part.
    small: usize,
    /// Lines before the large parts of the end.
    middle: usize,
    /// All lines. Those that are no whole step belong to the last part: by themselves they would cost their own pass
    /// over the weights.
    lines: usize,
    threads: usize,
}

impl Parts {
    /// Parts of `lines`, multiples of `step` but for one, for `threads`.
    fn new(lines: usize, step: usize, threads: usize) -> Parts {
        let steps = lines / step;
        let before = threads.div_ceil(2);
        // Of many steps three quarters are dealt out, of few as many as are the same for all.
        let large = match steps / threads {
            few @ 0..16 => few,
            _ => steps * 3 / (4 * threads),
        };
        let middle = (steps - (threads - before) * large) * step;
        Parts { large: large * step, before, small: (steps / (8 * threads)).max(1) * step, middle, lines, threads }
    }

    /// Small parts.
    fn between(&self) -> usize {
        (self.middle - self.before * self.large).div_ceil(self.small)
    }

    fn count(&self) -> usize {
        self.threads + self.between()
    }

    /// Part `i`.
    fn get(&self, i: usize) -> Range<usize> {
        let edge = |i: usize| match i.checked_sub(self.before) {
            _ if i == self.count() => self.lines,
            None => i * self.large,
            Some(s) if s <= self.between() => (self.before * self.large + s * self.small).min(self.middle),
            Some(s) => self.middle + (s - self.between()) * self.large,
        };
        edge(i)..edge(i + 1)
    }
}

/// A loop's body, which gets the number of a part.
type Body<'a> = dyn Fn(usize) + Sync + 'a;

/// What the threads of a team have in common: the loop that they share now.
struct Shared {
    threads: usize,
    /// An inference has the team.
    busy: AtomicBool,
    /// What is left of the loop; see [`Ticket`].
    ticket: AtomicU64,
    /// Parts that are done.
    done: AtomicUsize,
    /// The loop's body. Written while no part is out; read by who has taken a part, until it counts as done.
    body: UnsafeCell<*const Body<'static>>,
    /// What the first part that panicked threw.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// True while an inference runs.
    running: AtomicBool,
    /// As `running`, for threads that sleep.
    awake: Mutex<bool>,
    waking: Condvar,
    /// The team is no more: its threads end.
    stopped: AtomicBool,
}

// SAFETY: `body` is the only part that is not `Sync` by itself. The leader writes it before it publishes a ticket
// (release) and not again until all parts of that ticket are done; others read it between taking a part (acquire) and
// reporting it done (release).
unsafe impl Sync for Shared {}
// SAFETY: what `body` points to is `Sync`, and outlives its use as above.
unsafe impl Send for Shared {}

/// `[number of the loop: 32 bits][first part that is left: 16][one past the last: 16]`. The number tells a loop from
/// the one before.
#[derive(Clone, Copy)]
struct Ticket(u64);

impl Ticket {
    /// That of the next loop.
    fn following(self, parts: u16) -> Ticket {
        Ticket(((self.0 >> 32) + 1) << 32 | u64::from(parts))
    }

    /// A part from the beginning or the end, and what is left then.
    fn take(self, end: bool) -> Option<(usize, Ticket)> {
        let first = (self.0 >> 16) as u16;
        let last = self.0 as u16;
        match (first < last, end) {
            (false, _) => None,
            (true, false) => Some((first.into(), Ticket(self.0 + (1 << 16)))),
            (true, true) => Some((usize::from(last) - 1, Ticket(self.0 - 1))),
        }
    }
}

impl Shared {
    fn new(threads: usize) -> Shared {
        Shared {
            threads,
            busy: AtomicBool::new(false),
            ticket: AtomicU64::new(0),
            done: AtomicUsize::new(0),
            body: UnsafeCell::new(&|_| ()),
            panic: Mutex::new(None),
            running: AtomicBool::new(false),
            awake: Mutex::new(false),
            waking: Condvar::new(),
            stopped: AtomicBool::new(false),
        }
    }

    /// [`Team::lead`] of the thread that has set `busy`.
    fn lead<R>(&self, work: impl FnOnce() -> R) -> R {
        /// Lets the team go, also when `work` panics.
        struct Finally<'a>(&'a Shared);
        impl Drop for Finally<'_> {
            fn drop(&mut self) {
                self.0.wake(false);
                LEADING.set(std::ptr::null());
                self.0.busy.store(false, Ordering::Release);
            }
        }
        let _finally = Finally(self);
        LEADING.set(self);
        self.wake(true);
        work()
    }

    /// Says whether an inference runs, and wakes the threads if one does.
    fn wake(&self, running: bool) {
        self.running.store(running, Ordering::Release);
        *self.awake.lock().unwrap_or_else(PoisonError::into_inner) = running;
        if running {
            self.waking.notify_all();
        }
    }

    /// What the other threads do until the team is no more, from the beginning or the end of each loop.
    fn work(&self, from_end: bool) {
        loop {
            let mut awake = self.awake.lock().unwrap_or_else(PoisonError::into_inner);
            while !*awake {
                awake = self.waking.wait(awake).unwrap_or_else(PoisonError::into_inner);
            }
            drop(awake);
            let mut spins = 0;
            let mut ended = None;
            loop {
                if self.stopped.load(Ordering::Acquire) {
                    return;
                }
                if self.take(from_end) {
                    spins = 0;
                    continue;
                }
                if self.running.load(Ordering::Acquire) {
                    ended = None;
                } else if ended.get_or_insert_with(Instant::now).elapsed() > AWAKE_AFTER {
                    break;
                }
                pause(&mut spins);
            }
        }
    }

    /// Calls `body` with `0 .. parts`, on all threads that are awake; this one must have the team.
    fn run(&self, parts: usize, body: &Body<'_>) {
        debug_assert!(parts <= usize::from(u16::MAX), "at most nine parts a thread, and MOST_THREADS");
        let ticket = Ticket(self.ticket.load(Ordering::Relaxed)).following(parts as u16);
        self.done.store(0, Ordering::Relaxed);
        // SAFETY: no part is out, so nobody reads it. The lifetime is cut off: `body` is called by who has taken a part
        // alone, and this function does not return or unwind before all parts are taken and done.
        unsafe { *self.body.get() = std::mem::transmute::<*const Body<'_>, *const Body<'static>>(body) };
        self.ticket.store(ticket.0, Ordering::Release);
        // A loop inside a part must not be published over this one: its thread does it alone.
        LEADING.set(std::ptr::null());
        while self.take(false) {}
        LEADING.set(self);
        let mut spins = 0;
        while self.done.load(Ordering::Acquire) < parts {
            pause(&mut spins);
        }
        if let Some(panic) = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take() {
            resume_unwind(panic);
        }
    }

    /// Takes a part and does it; false if none is left. Never unwinds.
    fn take(&self, end: bool) -> bool {
        let mut seen = self.ticket.load(Ordering::Acquire);
        let part = loop {
            let Some((part, left)) = Ticket(seen).take(end) else { return false };
            match self.ticket.compare_exchange_weak(seen, left.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break part,
                Err(now) => seen = now,
            }
        };
        // SAFETY: a part of this loop is ours and not done, so `run` has written the body, does not write another, and
        // has not returned.
        let body = unsafe { &**self.body.get() };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(part))) {
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
        }
        self.done.fetch_add(1, Ordering::Release);
        true
    }
}

/// Waits a moment; after [`SPINS_BEFORE_YIELD`] of them, lets other threads run.
fn pause(spins: &mut u32) {
    *spins += 1;
    match *spins < SPINS_BEFORE_YIELD {
        true => std::hint::spin_loop(),
        false => std::thread::yield_now(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three threads, whatever the machine has.
    fn team() -> Team {
        Team::new(3).unwrap()
    }

    /// Each line gets its number, and each code counts who wrote it.
    fn numbered(team: &Team, len: usize, line: usize, step: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        team.each_part(&mut out, line, step, |first, lines, out| {
            assert_eq!(out.len().div_ceil(line), lines);
            let numbered = out.chunks_mut(line).zip(first..);
            numbered.for_each(|(out, i)| out.iter_mut().for_each(|o| *o = o.wrapping_add((i as u8).wrapping_add(1))));
        });
        out
    }

    #[test]
    fn parts_tile_all_lines_evenly() {
        for threads in 1..6 {
            for step in [1, 2, 6, 12] {
                for lines in 0..700 {
                    let parts = Parts::new(lines, step, threads);
                    let all: Vec<_> = (0..parts.count()).map(|i| parts.get(i)).collect();
                    assert_eq!((all[0].start, all[all.len() - 1].end), (0, lines));
                    assert!(all.windows(2).all(|w| w[0].end == w[1].start), "{lines} {step} {threads}: {all:?}");
                    assert!(
                        all.iter().filter(|p| p.len() % step != 0).count() <= 1,
                        "{lines} {step} {threads}: {all:?}"
                    );
                    // The longest part is what a thread cannot give away.
                    let longest = all.iter().map(Range::len).max().unwrap_or(0);
                    assert!(longest <= lines.div_ceil(step * threads) * step, "{lines} {step} {threads}: {all:?}");
                    assert!(all.len() <= 9 * threads, "{lines} {step} {threads}: {}", all.len());
                }
            }
        }
    }

    #[test]
    fn every_part_is_done_once() {
        let team = team();
        std::thread::scope(|s| {
            // Several inferences at a time; one of them has the team, the others do without.
            for _ in 0..3 {
                s.spawn(|| {
                    for round in 1..300 {
                        team.lead(|| {
                            for (len, line, step) in
                                [(1, 1, 1), (10, 3, 1), (1000, 7, 2), (64, 64, 1), (0, 5, 3), (900, 1, round)]
                            {
                                let want: Vec<u8> = (0..len).map(|i| ((i / line) as u8).wrapping_add(1)).collect();
                                assert_eq!(numbered(&team, len, line, step), want);
                            }
                        });
                    }
                });
            }
        });
    }

    /// Threads that do the parts of a loop: those of nine that wait for each other.
    fn sharing(team: &Team) -> usize {
        let seen = Mutex::new(std::collections::HashSet::new());
        let start = Instant::now();
        team.each_part(&mut [0; 9], 1, 1, |_, _, _| {
            seen.lock().unwrap().insert(std::thread::current().id());
            while seen.lock().unwrap().len() < 2 && start.elapsed() < Duration::from_millis(50) {
                std::thread::yield_now();
            }
        });
        seen.into_inner().unwrap().len()
    }

    #[test]
    fn threads_are_shared_inside_an_inference_alone() {
        let team = team();
        assert_eq!((team.threads(), sharing(&team)), (3, 1));
        let start = Instant::now();
        while team.lead(|| sharing(&team)) == 1 {
            assert!(start.elapsed() < Duration::from_secs(60), "no other thread ever took a part");
        }
        assert_eq!(sharing(&team), 1);
        // Another team's threads are not this one's to share.
        let other = Team::new(2).unwrap();
        assert_eq!(other.lead(|| sharing(&team)), 1);
    }

    #[test]
    fn a_loop_inside_a_part_is_done_by_its_thread() {
        let team = team();
        let mut outer = vec![0; 600];
        team.lead(|| {
            team.each_part(&mut outer, 1, 1, |first, _, out| {
                let inner = team.lead(|| numbered(&team, 40, 1, 1));
                let sum = inner.iter().map(|i| u32::from(*i)).sum::<u32>() as u8;
                out.iter_mut().zip(first..).for_each(|(o, i)| *o = sum.wrapping_add(i as u8));
            });
        });
        let sum = (1..=40u32).sum::<u32>() as u8;
        let want: Vec<u8> = (0..600).map(|i| sum.wrapping_add(i as u8)).collect();
        assert_eq!(outer, want);
    }

    #[test]
    fn one_thread_needs_no_other() {
        let alone = Team::new(1).unwrap();
        assert_eq!((alone.threads(), alone.lead(|| numbered(&alone, 4, 2, 1))), (1, vec![1, 1, 2, 2]));
    }

    #[test]
    fn threads_end_with_the_last_clone() {
        let team = team();
        let shared = Arc::downgrade(&team.threads.as_ref().unwrap().shared);
        drop(team.clone());
        assert_eq!(team.lead(|| numbered(&team, 4, 2, 1)), [1, 1, 2, 2]);
        drop(team);
        let start = Instant::now();
        while shared.upgrade().is_some() {
            assert!(start.elapsed() < Duration::from_secs(60), "a thread lives on");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_panic_is_passed_on_and_frees_the_team() {
        let team = team();
        for _ in 0..20 {
            let panicked = std::thread::scope(|s| {
                let inference = s.spawn(|| {
                    team.lead(|| {
                        team.each_part(&mut [0; 9], 1, 1, |first, lines, _| {
                            assert!(!(first..first + lines).contains(&4), "on purpose")
                        })
                    })
                });
                inference.join()
            });
            let panic = panicked.unwrap_err();
            assert!(panic.downcast_ref::<&str>().is_some_and(|t| *t == "on purpose"));
            assert_eq!(team.lead(|| numbered(&team, 4, 2, 1)), [1, 1, 2, 2]);
        }
    }
}
