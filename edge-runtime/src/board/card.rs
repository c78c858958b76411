//! What a card for a board holds, and how the board is emulated.

use super::Display;
use serde::{Deserialize, Serialize};

/// How a card is made for a board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Device trees: paths below the kernel package's folder of them.
    pub device_trees: Vec<String>,
    /// Files of the firmware package.
    pub firmware: Vec<String>,
    /// Lines of `config.txt` besides those that name kernel and initramfs.
    pub config: Vec<String>,
    /// What the kernel is told.
    pub command_line: String,
    /// Kernel modules in the order in which they are loaded, each with its parameters; what they depend on comes by
    /// itself.
    pub modules: Vec<String>,
    /// The display that the card is made for, where it is not the board's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<Display>,
    /// What does not work with it, in a sentence.
    pub limits: String,
    /// How it is emulated.
    pub emulation: Emulation,
}

/// A machine of QEMU on which a board's card starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emulation {
    /// QEMU's machine.
    pub machine: String,
    /// QEMU's processor, where the machine lets one choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Whether the machine takes the card's own device tree.
    pub takes_device_tree: bool,
    /// How the card is attached: QEMU's arguments, with `{card}` for its file.
    pub card: Vec<String>,
    /// Devices besides card and stick.
    pub devices: Vec<String>,
    /// Whether its watchdog waits as the hardware's does. QEMU's of the Raspberry Pi restarts the machine at once.
    #[serde(default)]
    pub has_watchdog: bool,
    /// Console for the kernel.
    pub console: String,
    /// Modules that are loaded before the board's, because the machine's hardware is another one.
    #[serde(default)]
    pub modules: Vec<String>,
    /// The display there.
    pub display: Display,
}
