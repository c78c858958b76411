//! On what networks run.

use kernels::Kernel;
use kernels::team::Team;

/// The kernel and the threads of a program's inferences. Chosen once, and passed to every model that is loaded.
#[derive(Clone)]
pub struct Compute {
    /// The inner loops.
    pub kernel: &'static Kernel,
    /// The threads that share an inference.
    pub team: Team,
}

/// The best kernel of this processor, on one thread.
impl Default for Compute {
    fn default() -> Compute {
        Compute { kernel: kernels::best(), team: Team::default() }
    }
}
