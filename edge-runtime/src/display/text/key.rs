//! Every string that a screen can show, by the key that it has in `strings/*.toml`.

use super::prepared::Role;

macro_rules! keys {
    ($($role:ident { $($variant:ident => $name:literal,)* })*) => {
        /// A string of the screens. Its English words are in `strings/en.toml`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the keys are documented by their English strings")]
        pub enum Key {
            $($($variant,)*)*
        }

        impl Key {
            /// All keys, in the order of the prepared files.
            pub const ALL: &[Key] = &[$($(Key::$variant,)*)*];

            /// The key in `strings/*.toml`.
            pub fn name(self) -> &'static str {
                match self {
                    $($(Key::$variant => $name,)*)*
                }
            }

            /// Whether it is set as a headline or as text.
            pub fn role(self) -> Role {
                match self {
                    $($(Key::$variant)|* => Role::$role,)*
                }
            }
        }
    };
}

keys! {
    Headline {
    Starting => "starting",
    Ready => "ready",
    Receiving => "receiving",
    Scanning => "scanning",
    Suspected => "suspected",
    NoSign => "no-sign",
    Uncertain => "uncertain",
    NotRead => "not-read",
    Findings => "findings",
    About => "about",
    Menu => "menu",
    Language => "language",
    SelfTest => "self-test",
    Problem => "problem",
    Off => "off",
    }
    Body {
    Name => "name",
    Disclaimer => "disclaimer",
    NotADiagnosis => "not-a-diagnosis",
    Statement => "statement",
    PneumoniaSuspected => "pneumonia-suspected",
    PneumoniaNoSign => "pneumonia-no-sign",
    ClinicianDecides => "clinician-decides",
    StillPossible => "still-possible",
    AskReader => "ask-reader",
    Probability => "probability",
    OperatingPoint => "operating-point",
    Latency => "latency",
    OverBudget => "over-budget",
    ScannedBefore => "scanned-before",
    OtherModelBefore => "other-model-before",
    Inverted => "inverted",
    NotAChest => "not-a-chest",
    Lateral => "lateral",
    Rotated => "rotated",
    UnderExposed => "under-exposed",
    OverExposed => "over-exposed",
    TooSmall => "too-small",
    AgeOutsideTraining => "age-outside-training",
    OutsideTraining => "outside-training",
    Unreadable => "unreadable",
    Damaged => "damaged",
    Empty => "empty",
    NoImage => "no-image",
    Unsupported => "unsupported",
    TooLarge => "too-large",
    NoStructure => "no-structure",
    BeyondLimits => "beyond-limits",
    EngineFailed => "engine-failed",
    Unsuitable => "unsuitable",
    StickRemoved => "stick-removed",
        StickUnreadable => "stick-unreadable",
    CopyAgain => "copy-again",
    ExportAgain => "export-again",
    ExportSmaller => "export-smaller",
    CheckExport => "check-export",
    RunSelfTest => "run-self-test",
    ScanFrontal => "scan-frontal",
    InsertAgain => "insert-again",
    Insert => "insert",
    Kept => "kept",
    OpeningFindings => "opening-findings",
    LoadingModel => "loading-model",
    Checking => "checking",
    InstallingUpdate => "installing-update",
    Reading => "reading",
    Decoding => "decoding",
    Preparing => "preparing",
    Analysing => "analysing",
    Mapping => "mapping",
    Finishing => "finishing",
    Of => "of",
    KeepStick => "keep-stick",
    NoFindings => "no-findings",
    Version => "version",
    Model => "model",
    Licence => "licence",
    Display => "display",
    Disk => "disk",
    Clock => "clock",
    Temperature => "temperature",
    Buttons => "buttons",
    AllPassed => "all-passed",
    CheckFailed => "check-failed",
    DiskFull => "disk-full",
    DiskReadOnly => "disk-read-only",
    FindingsDamaged => "findings-damaged",
    ModelRefused => "model-refused",
    ClockUnset => "clock-unset",
    UpdateRefused => "update-refused",
    UpdateFailed => "update-failed",
    ExportFindings => "export-findings",
    CallEngineer => "call-engineer",
    Back => "back",
    Next => "next",
    Map => "map",
    Image => "image",
    Select => "select",
    Yes => "yes",
    No => "no",
    MenuFindings => "menu-findings",
    MenuLanguage => "menu-language",
    MenuSelfTest => "menu-self-test",
    MenuAbout => "menu-about",
    MenuOff => "menu-off",
    MenuButton => "menu-button",
    }
}
