//! Networks run.
//!
//! [`crate::lower`] turns QDQ ONNX into the integer network, [`arena`] gives every activation its place in one buffer,
//! and [`IntegerPlan`] prepares each layer by its [operator](crate::operators). tract plans the order and drives the
//! layers (`tract.rs`), one after the other over the arena; it also runs float networks and [float
//! islands](crate::operators::Float) as they are ([`FloatPlan`]). Inner loops, and the threads that share them:
//! [`kernels`].

pub mod arena;
mod compute;
mod float;
mod integer;
mod layer;
mod tract;

pub use arena::View;
pub use compute::Compute;
pub use float::{FloatPlan, floats, quietly};
pub use integer::IntegerPlan;
pub use kernels;
pub use layer::{Activation, Layer};

use tract_onnx::prelude::TractError;

/// Why the engine refuses a network.
#[derive(Debug, thiserror::Error)]
#[error("the engine cannot run this network: {0}")]
pub struct EngineError(pub String);

impl From<TractError> for EngineError {
    fn from(e: TractError) -> EngineError {
        // The innermost cause names the operator; what surrounds it repeats the graph.
        EngineError(e.root_cause().to_string())
    }
}
