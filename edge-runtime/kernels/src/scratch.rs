//! Buffers that outlive a step, so that steady state does not allocate them: one stack of each type a thread.

use std::cell::RefCell;
use std::thread::LocalKey;

/// A type that has a stack of buffers.
pub trait Scratch: Sized + 'static {
    /// This thread's buffers that nobody uses now.
    fn stack() -> &'static LocalKey<RefCell<Vec<Vec<Self>>>>;
}

macro_rules! scratch {
    ($ty:ty) => {
        impl Scratch for $ty {
            fn stack() -> &'static LocalKey<RefCell<Vec<Vec<$ty>>>> {
                thread_local!(static STACK: RefCell<Vec<Vec<$ty>>> = const { RefCell::new(Vec::new()) });
                &STACK
            }
        }
    };
}
scratch!(u8);
scratch!(i8);
scratch!(i16);
scratch!(i32);
scratch!(usize);

/// Lends a buffer of at least `len` items, with whatever was left in it.
pub fn with<T: Scratch + Copy + Default, R>(len: usize, work: impl FnOnce(&mut [T]) -> R) -> R {
    let mut buffer = T::stack().with_borrow_mut(|s| s.pop().unwrap_or_default());
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
    let result = work(&mut buffer[..len]);
    T::stack().with_borrow_mut(|s| s.push(buffer));
    result
}
