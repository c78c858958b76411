//! Studies: variants of a recipe, each trained with several seeds on the same images, and what helps by a figure that
//! is named before the first run.
//!
//! `plan.rs` is the file of a study and the recipes that follow from it, `figures.rs` what one run says, `table.rs`
//! means and spreads over the seeds,
//! `begun.rs` what a study said before its first run.

mod begun;
mod figures;
mod plan;
mod table;

pub use begun::{BegunError, Held, begin, look};
pub use figures::{Criterion, Figures, Subsets};
pub use plan::{Plan, PlannedRun, StudyError, Variant};
pub use table::{Outcome, RunOutcome, Spread, Table, VariantRow};
