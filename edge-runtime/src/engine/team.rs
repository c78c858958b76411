//! Threads that stay awake for the length of an inference.
//!
//! An operator of a small network takes some thirty microseconds; waking a thread for each makes two no faster than one. So the
//! threads of the pool are called once for each inference and look for work until it is done.

use rayon::Yield;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long an inference waits for the others before it does without. A round number.
const PATIENCE: Duration = Duration::from_micros(300);

/// True while a team works. There is one at a time: two that wait for each other's threads would never end.
static TEAM: AtomicBool = AtomicBool::new(false);

/// Sets a flag when it goes out of scope, also by a panic.
struct Finally<'a>(&'a AtomicBool, bool);

impl Drop for Finally<'_> {
    fn drop(&mut self) {
        self.0.store(self.1, Ordering::Release);
    }
}

thread_local! {
    /// True on the thread that [`lead`] made part of the pool.
    static LEADS: Cell<bool> = const { Cell::new(false) };
}

/// Makes the calling thread one of `threads` that share an inference. Once in a program, before the first inference.
pub fn lead(threads: usize) -> Result<(), rayon::ThreadPoolBuildError> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build_global()?;
    LEADS.set(true);
    Ok(())
}

/// Runs `before`, while the other threads of the pool wake up, then `work` on what it gave, while they look for parts. On a
/// thread of the pool, as when many images are read at once, the others have work of their own and are left alone.
pub fn awake<T, R: Send>(before: impl FnOnce() -> T + Send, work: impl FnOnce(T) -> R + Send) -> R {
    let threads = rayon::current_num_threads();
    if threads == 1 {
        return work(before());
    }
    let busy = rayon::current_thread_index().is_some() && !LEADS.get();
    if busy || TEAM.swap(true, Ordering::Acquire) {
        return rayon::scope(|_| work(before()));
    }
    let _free = Finally(&TEAM, false);
    let (done, here) = (&AtomicBool::new(false), &AtomicUsize::new(1));
    rayon::scope(|scope| {
        let first = rayon::current_thread_index();
        scope.spawn_broadcast(move |_, thread| {
            if Some(thread.index()) == first {
                return;
            }
            here.fetch_add(1, Ordering::Release);
            while !done.load(Ordering::Acquire) {
                if rayon::yield_now() != Some(Yield::Executed) {
                    std::thread::yield_now();
                }
            }
        });
        let done = Finally(done, true);
        let ready = before();
        // A thread that took a part of an operator before it came here could wait for us inside that part, and we for it.
        // So nothing starts before all are here; who is late is not waited for and finds the work done.
        let start = Instant::now();
        while here.load(Ordering::Acquire) < threads {
            if start.elapsed() > PATIENCE {
                drop(done);
                return work(ready);
            }
            std::hint::spin_loop();
        }
        work(ready)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    fn sum(_: ()) -> u64 {
        (0..1000u32).into_par_iter().with_min_len(10).map(u64::from).sum()
    }

    #[test]
    fn teams_end_from_outside_from_inside_and_at_once() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        // Inside the pool.
        pool.install(|| (0..200).into_par_iter().for_each(|_| assert_eq!(awake(|| (), sum), 499_500)));
        // From several threads outside; only one of them gets the team.
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| (0..200).for_each(|_| assert_eq!(awake(|| (), sum), 499_500)));
            }
        });
        // Another test may have the team for a moment.
        let start = Instant::now();
        while TEAM.load(Ordering::Acquire) {
            assert!(start.elapsed() < Duration::from_secs(60), "the team was never freed");
        }
    }

    #[test]
    fn a_panic_frees_the_team() {
        std::thread::spawn(|| awake(|| panic!("on purpose"), |()| ())).join().unwrap_err();
        assert_eq!(awake(|| (), sum), 499_500);
    }
}
