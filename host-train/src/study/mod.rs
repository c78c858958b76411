//! Studies: variants of a recipe, each trained with several seeds on the same images, and what helps by a figure that
//! is named before the first run.
//!
//! `plan.rs` is the file of a study and the recipes that follow from it, `begun.rs` what it said before its first run,
//! `runs.rs` trains them, `figures.rs` what one run says, `table.rs` means and spreads over the seeds.

mod begun;
mod figures;
mod plan;
mod runs;
mod table;

pub use begun::{Access, BegunError, Held, begin};
pub use figures::{Criterion, Figures, Subsets};
pub use plan::{Plan, PlannedRun, StudyError, Variant};
pub use runs::{Given, Runs};
pub use table::{Outcome, RunOutcome, Spread, Table, VariantRow};
