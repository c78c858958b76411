//! The stages of a scan, spelt out once: budgets, measured latencies and reports take them from here.

use serde::{Deserialize, Serialize};
use std::ops::{Index, IndexMut};
use std::time::Instant;

macro_rules! stages {
    ($($(#[$doc:meta])* $variant:ident => $field:ident,)*) => {
        /// A stage of a scan, in the order in which they run.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Stage {
            $($(#[$doc])* $variant,)*
        }

        /// Milliseconds for each stage: a board's budget, or what a scan took. A stage that did not run took 0.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct StageTimes {
            $($(#[$doc])* pub $field: f64,)*
        }

        impl Stage {
            /// All stages, in order.
            pub const ALL: &[Stage] = &[$(Stage::$variant,)*];

            /// The name in board files and reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Stage::$variant => stringify!($field),)*
                }
            }
        }

        impl Index<Stage> for StageTimes {
            type Output = f64;

            fn index(&self, stage: Stage) -> &f64 {
                match stage {
                    $(Stage::$variant => &self.$field,)*
                }
            }
        }

        impl IndexMut<Stage> for StageTimes {
            fn index_mut(&mut self, stage: Stage) -> &mut f64 {
                match stage {
                    $(Stage::$variant => &mut self.$field,)*
                }
            }
        }
    };
}

stages! {
    /// File to memory.
    Read => read,
    /// Bytes to pixels.
    Decode => decode,
    /// Pixels to the network's size.
    Preprocess => preprocess,
    /// The network.
    Infer => infer,
    /// The class activation map over the radiograph.
    Explain => explain,
    /// The display's picture.
    Render => render,
}

impl StageTimes {
    /// Each stage with its milliseconds, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Stage, f64)> + '_ {
        Stage::ALL.iter().map(|stage| (*stage, self[*stage]))
    }

    /// All stages together.
    pub fn total(&self) -> f64 {
        self.iter().map(|(_, ms)| ms).sum()
    }

    /// Runs `work` and adds what it took to `stage`.
    pub fn time<R>(&mut self, stage: Stage, work: impl FnOnce() -> R) -> R {
        let clock = Instant::now();
        let result = work();
        self[stage] += clock.elapsed().as_secs_f64() * 1e3;
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_named_as_their_fields() {
        let mut times = StageTimes::default();
        for (i, stage) in Stage::ALL.iter().enumerate() {
            times[*stage] = i as f64;
        }
        let json = serde_json::to_value(times).unwrap();
        for (stage, ms) in times.iter() {
            assert_eq!(json[stage.name()], ms);
        }
        assert_eq!(times.total(), 15.0);
    }
}
