//! Threads that share the loops of one inference.
//!
//! An operator of a small network takes some thirty microseconds, so a thread that must be woken for each, or a queue that costs
//! some microseconds an operator, eats what a second thread brings. Here the threads of a team stay awake for the length of an
//! inference and take the parts of each loop from one atomic ticket.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long threads stay awake after an inference, in case the next one follows at once. A round number.
const LINGER: Duration = Duration::from_micros(200);

/// Looks at the ticket before a thread lets others run. A round number.
const PATIENCE: u32 = 1000;

/// More do not share an inference.
const MOST_THREADS: usize = 64;

/// The program's team; none until [`lead`].
static TEAM: OnceLock<Team> = OnceLock::new();

thread_local! {
    /// True while this thread's inference has the team.
    static IN_CHARGE: Cell<bool> = const { Cell::new(false) };
}

/// Why there is no team.
#[derive(Debug)]
pub enum LeadError {
    /// The program has a team already.
    Twice,
    /// The system gives no thread.
    Spawn(std::io::Error),
}

impl std::fmt::Display for LeadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LeadError::Twice => write!(f, "the program has a team of threads already"),
            LeadError::Spawn(e) => write!(f, "no thread can be started ({e})"),
        }
    }
}

impl std::error::Error for LeadError {}

/// Lets `threads` threads, the calling one among them, share each inference from now on. Once in a program.
pub fn lead(threads: usize) -> Result<(), LeadError> {
    let mut first = false;
    let team = TEAM.get_or_init(|| {
        first = true;
        Team::new(threads.clamp(1, MOST_THREADS))
    });
    if !first {
        return Err(LeadError::Twice);
    }
    for number in 1..team.threads {
        // They live as long as the program. One half takes parts from the beginning, the other from the end, so that a thread finds
        // in its caches what it wrote in the loop before.
        let work = move || team.work(number >= team.threads.div_ceil(2));
        std::thread::Builder::new().name("inference".into()).spawn(work).map_err(LeadError::Spawn)?;
    }
    Ok(())
}

/// Runs `work`, in which [`each_part`] shares its parts with the team, unless another inference has the team just now.
pub fn awake<R>(work: impl FnOnce() -> R) -> R {
    match TEAM.get().filter(|t| t.threads > 1 && !t.busy.swap(true, Ordering::Acquire)) {
        Some(team) => team.awake(work),
        None => work(),
    }
}

/// Calls `body(first, lines, codes)` for parts of `out`, whose lines have `line` codes, the last maybe fewer: on all threads of the
/// team inside [`awake`], else for all of it at once. Parts have a multiple of `step` lines, but for one. A panic in a part is passed on when
/// all parts are done.
///
/// # Panics
/// If `line` or `step` is 0.
pub fn each_part(out: &mut [u8], line: usize, step: usize, body: impl Fn(usize, usize, &mut [u8]) + Sync) {
    let (len, lines) = (out.len(), out.len().div_ceil(line));
    let team = TEAM.get().filter(|_| IN_CHARGE.get() && lines > step);
    let Some(team) = team else { return body(0, lines, out) };
    /// A pointer that may go to other threads.
    struct Start(*mut u8);
    // SAFETY: each thread makes slices of its own parts alone.
    unsafe impl Sync for Start {}
    let (start, parts) = (Start(out.as_mut_ptr()), Parts::new(lines, step, team.threads));
    team.run(parts.count(), &|i| {
        let (start, part) = (&start, parts.get(i));
        if part.is_empty() {
            return;
        }
        let codes = part.start * line..len.min(part.end * line);
        // SAFETY: part `i` lies inside `out`, which is borrowed until all parts are done, touches no other part, and is given to one
        // thread once.
        let out = unsafe { std::slice::from_raw_parts_mut(start.0.add(codes.start), codes.len()) };
        body(part.start, part.len(), out);
    });
}

/// How lines are parted: one large part a thread, and between them, if there are many lines, small ones for who is done first.
struct Parts {
    /// Lines in a large part; their number, at the beginning and at the end, is that of the threads.
    large: usize,
    /// Large parts at the beginning.
    before: usize,
    /// Lines in a small part.
    small: usize,
    /// Lines before the large parts of the end.
    middle: usize,
    /// All lines. Those that are no whole step belong to the last part: by themselves they would cost their own pass over the
    /// weights.
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

/// Threads and the loop that they share now.
struct Team {
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
    thrown: Mutex<Option<Box<dyn Any + Send>>>,
    /// True while an inference runs.
    running: AtomicBool,
    /// As `running`, for threads that sleep.
    wanted: Mutex<bool>,
    waking: Condvar,
}

// SAFETY: `body` is the only part that is not `Sync` by itself. The leader writes it before it publishes a ticket (release) and not
// again until all parts of that ticket are done; others read it between taking a part (acquire) and reporting it done (release).
unsafe impl Sync for Team {}
// SAFETY: what `body` points to is `Sync`, and outlives its use as above.
unsafe impl Send for Team {}

/// `[number of the loop: 32 bits][first part that is left: 16][one past the last: 16]`. The number tells a loop from the one before.
#[derive(Clone, Copy)]
struct Ticket(u64);

impl Ticket {
    /// That of the next loop.
    fn following(self, parts: u16) -> Ticket {
        Ticket(((self.0 >> 32) + 1) << 32 | u64::from(parts))
    }

    /// A part from the beginning or the end, and what is left then.
    fn take(self, end: bool) -> Option<(usize, Ticket)> {
        let (first, last) = ((self.0 >> 16) as u16, self.0 as u16);
        match (first < last, end) {
            (false, _) => None,
            (true, false) => Some((first.into(), Ticket(self.0 + (1 << 16)))),
            (true, true) => Some((usize::from(last) - 1, Ticket(self.0 - 1))),
        }
    }
}

impl Team {
    fn new(threads: usize) -> Team {
        Team {
            threads,
            busy: AtomicBool::new(false),
            ticket: AtomicU64::new(0),
            done: AtomicUsize::new(0),
            body: UnsafeCell::new(&|_| ()),
            thrown: Mutex::new(None),
            running: AtomicBool::new(false),
            wanted: Mutex::new(false),
            waking: Condvar::new(),
        }
    }

    /// [`awake`] of the thread that has set `busy`.
    fn awake<R>(&self, work: impl FnOnce() -> R) -> R {
        /// Lets the team go, also when `work` panics.
        struct Finally<'a>(&'a Team);
        impl Drop for Finally<'_> {
            fn drop(&mut self) {
                self.0.want(false);
                IN_CHARGE.set(false);
                self.0.busy.store(false, Ordering::Release);
            }
        }
        let _finally = Finally(self);
        IN_CHARGE.set(true);
        self.want(true);
        work()
    }

    fn want(&self, running: bool) {
        self.running.store(running, Ordering::Release);
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = running;
        if running {
            self.waking.notify_all();
        }
    }

    /// What the other threads do for ever, from the beginning or the end of each loop.
    fn work(&self, end: bool) {
        loop {
            let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            while !*wanted {
                wanted = self.waking.wait(wanted).unwrap_or_else(PoisonError::into_inner);
            }
            drop(wanted);
            let (mut looks, mut ended) = (0, None);
            loop {
                if self.take(end) {
                    looks = 0;
                    continue;
                }
                if self.running.load(Ordering::Acquire) {
                    ended = None;
                } else if ended.get_or_insert_with(Instant::now).elapsed() > LINGER {
                    break;
                }
                pause(&mut looks);
            }
        }
    }

    /// Calls `body` with `0 .. parts`, on all threads that are awake; this one must have the team.
    fn run(&self, parts: usize, body: &Body<'_>) {
        debug_assert!(parts <= usize::from(u16::MAX), "at most nine parts a thread, and MOST_THREADS");
        let ticket = Ticket(self.ticket.load(Ordering::Relaxed)).following(parts as u16);
        self.done.store(0, Ordering::Relaxed);
        // SAFETY: no part is out, so nobody reads it. The lifetime is cut off: `body` is called by who has taken a part alone, and
        // this function does not return or unwind before all parts are taken and done.
        unsafe { *self.body.get() = std::mem::transmute::<*const Body<'_>, *const Body<'static>>(body) };
        self.ticket.store(ticket.0, Ordering::Release);
        while self.take(false) {}
        let mut looks = 0;
        while self.done.load(Ordering::Acquire) < parts {
            pause(&mut looks);
        }
        if let Some(thrown) = self.thrown.lock().unwrap_or_else(PoisonError::into_inner).take() {
            resume_unwind(thrown);
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
        // SAFETY: a part of this loop is ours and not done, so `run` has written the body, does not write another, and has not returned.
        let body = unsafe { &**self.body.get() };
        if let Err(thrown) = catch_unwind(AssertUnwindSafe(|| body(part))) {
            self.thrown.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(thrown);
        }
        self.done.fetch_add(1, Ordering::Release);
        true
    }
}

/// Waits a moment; after [`PATIENCE`] of them, lets other threads run.
fn pause(looks: &mut u32) {
    *looks += 1;
    match *looks < PATIENCE {
        true => std::hint::spin_loop(),
        false => std::thread::yield_now(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The program's team, of three threads whatever the machine has.
    fn led() {
        let _ = lead(3);
    }

    /// Threads that share the loops of this thread now.
    fn threads() -> usize {
        TEAM.get().filter(|_| IN_CHARGE.get()).map_or(1, |team| team.threads)
    }

    /// Each line gets its number, and each code counts who wrote it.
    fn numbered(len: usize, line: usize, step: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        each_part(&mut out, line, step, |first, lines, out| {
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
        led();
        std::thread::scope(|s| {
            // Several inferences at a time; one of them has the team, the others do without.
            for _ in 0..3 {
                s.spawn(|| {
                    for round in 1..300 {
                        awake(|| {
                            for (len, line, step) in
                                [(1, 1, 1), (10, 3, 1), (1000, 7, 2), (64, 64, 1), (0, 5, 3), (900, 1, round)]
                            {
                                let want: Vec<u8> = (0..len).map(|i| ((i / line) as u8).wrapping_add(1)).collect();
                                assert_eq!(numbered(len, line, step), want);
                            }
                        });
                    }
                });
            }
        });
    }

    #[test]
    fn threads_are_shared_inside_an_inference_alone() {
        led();
        assert_eq!(threads(), 1);
        // Another test may have the team for a moment.
        let start = Instant::now();
        while awake(threads) == 1 {
            assert!(start.elapsed() < Duration::from_secs(60), "the team was never free");
            std::thread::yield_now();
        }
        assert_eq!(threads(), 1);
        assert!(matches!(lead(2), Err(LeadError::Twice)));
    }

    #[test]
    fn a_panic_is_passed_on_and_frees_the_team() {
        led();
        for _ in 0..20 {
            let panicked = std::thread::spawn(|| {
                awake(|| {
                    each_part(&mut [0; 9], 1, 1, |first, lines, _| {
                        assert!(!(first..first + lines).contains(&4), "on purpose")
                    })
                });
            });
            let thrown = panicked.join().unwrap_err();
            assert!(thrown.downcast_ref::<&str>().is_some_and(|t| *t == "on purpose"));
            assert_eq!(awake(|| numbered(4, 2, 1)), [1, 1, 2, 2]);
        }
    }
}
