//! How hot the processor is, how fast it runs, and whether something slows it down, as far as Linux tells (the kernel's
//! `Documentation/ABI/testing/sysfs-class-thermal`, `sysfs-devices-system-cpu` and `hwmon/raspberrypi-hwmon`).

use serde::Serialize;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// Degrees Celsius from which boards slow their processors down (Raspberry Pi 3 and 4: 80 °C).
const HOT: f64 = 80.0;

/// What the processor is at a moment; what the kernel does not tell is `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProcessorState {
    /// Degrees Celsius of the hottest zone.
    pub temperature_c: Option<f64>,
    /// The slowest core's clock, MHz.
    pub clock_mhz: Option<f64>,
    /// The highest clock that the processor has, MHz.
    pub clock_limit_mhz: Option<f64>,
    /// What slows it down.
    pub slowed_by: Vec<Slowed>,
}

/// A reason for which a processor does not run at its highest clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Slowed {
    /// It is too hot.
    Heat,
    /// Its supply is too weak (Raspberry Pi).
    LowVoltage,
    /// The system allows it a lower clock than it has.
    ClockLimit,
}

impl Slowed {
    /// What it is, and what to do.
    pub fn sentence(self) -> &'static str {
        match self {
            Slowed::Heat => "heat slows the processor down: give it air",
            Slowed::LowVoltage => "the supply's voltage is too low: use the board's own supply",
            Slowed::ClockLimit => "the system keeps the processor below its clock: look at its power settings",
        }
    }
}

impl ProcessorState {
    /// The processor of this machine, now.
    pub fn now() -> ProcessorState {
        ProcessorState::read(Path::new("/sys"))
    }

    /// What the file tree at `sys` says.
    fn read(sys: &Path) -> ProcessorState {
        let thermal = folders(&sys.join("class/thermal"));
        let temperature_c =
            thermal.iter().filter_map(|zone| number(&zone.join("temp"))).map(|t| t / 1000.0).reduce(f64::max);
        let clocks: Vec<Clock> =
            folders(&sys.join("devices/system/cpu/cpufreq")).iter().map(|policy| Clock::read(policy)).collect();
        let is_cooled = thermal.iter().any(|device| is_slowing(device));
        let is_voltage_low = folders(&sys.join("class/hwmon")).iter().any(|device| has_low_voltage(device));
        let reasons = [
            (is_cooled || temperature_c.is_some_and(|t| t >= HOT), Slowed::Heat),
            (is_voltage_low, Slowed::LowVoltage),
            (!is_cooled && clocks.iter().any(Clock::is_limited), Slowed::ClockLimit),
        ];
        ProcessorState {
            temperature_c,
            clock_mhz: clocks.iter().filter_map(|clock| clock.now).reduce(f64::min),
            clock_limit_mhz: clocks.iter().filter_map(|clock| clock.highest).reduce(f64::max),
            slowed_by: reasons.into_iter().filter(|(is_so, _)| *is_so).map(|(_, reason)| reason).collect(),
        }
    }

    /// In words: what is known, and what slows it down.
    pub fn in_words(&self) -> String {
        let mut known = Vec::new();
        known.extend(self.temperature_c.map(|t| format!("{t:.0} °C")));
        known.extend(match (self.clock_mhz, self.clock_limit_mhz) {
            (Some(now), Some(limit)) => Some(format!("{now:.0} of {limit:.0} MHz")),
            (Some(now), None) => Some(format!("{now:.0} MHz")),
            (None, _) => None,
        });
        if known.is_empty() {
            known.push("the kernel tells neither temperature nor clock".to_owned());
        }
        known.extend(self.slowed_by.iter().map(|reason| reason.sentence().to_owned()));
        known.join("; ")
    }
}

/// The clock of some cores, MHz.
struct Clock {
    now: Option<f64>,
    /// What the system allows.
    allowed: Option<f64>,
    /// What the hardware has.
    highest: Option<f64>,
}

impl Clock {
    fn read(policy: &Path) -> Clock {
        let mhz = |name| number(&policy.join(name)).map(|khz| khz / 1000.0);
        Clock { now: mhz("scaling_cur_freq"), allowed: mhz("scaling_max_freq"), highest: mhz("cpuinfo_max_freq") }
    }

    fn is_limited(&self) -> bool {
        self.allowed.zip(self.highest).is_some_and(|(allowed, highest)| allowed < highest)
    }
}

/// True if the cooling device at `path` keeps a processor below its clock.
fn is_slowing(path: &Path) -> bool {
    let kind = read_to_string(path.join("type")).unwrap_or_default();
    // Named by the drivers: cpufreq-cpu0 and cpu-idle (device tree), Processor (ACPI).
    let slows = ["cpufreq", "cpu-idle", "Processor"].iter().any(|name| kind.contains(name));
    slows && number(&path.join("cur_state")).is_some_and(|state| state > 0.0)
}

/// True if the firmware of a Raspberry Pi says that the supply is too weak.
fn has_low_voltage(device: &Path) -> bool {
    let is_pi = read_to_string(device.join("name")).is_ok_and(|name| name.trim() == "rpi_volt");
    is_pi && number(&device.join("in0_lcrit_alarm")).is_some_and(|alarm| alarm > 0.0)
}

/// What stands in `folder`, in order; links are followed.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn number(path: &Path) -> Option<f64> {
    read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sys(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn a_cool_board_is_slowed_by_nothing() {
        let sys = sys(&[
            ("class/thermal/thermal_zone0/temp", "41200\n"),
            ("class/thermal/cooling_device0/type", "cpufreq-cpu0\n"),
            ("class/thermal/cooling_device0/cur_state", "0\n"),
            ("class/hwmon/hwmon1/name", "rpi_volt\n"),
            ("class/hwmon/hwmon1/in0_lcrit_alarm", "0\n"),
            ("devices/system/cpu/cpufreq/policy0/scaling_cur_freq", "600000\n"),
            ("devices/system/cpu/cpufreq/policy0/scaling_max_freq", "1800000\n"),
            ("devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq", "1800000\n"),
        ]);
        let state = ProcessorState::read(sys.path());
        assert_eq!(state.slowed_by, []);
        assert_eq!(state.in_words(), "41 °C; 600 of 1800 MHz");
    }

    #[test]
    fn the_hottest_zone_counts() {
        let sys = sys(&[
            ("class/thermal/thermal_zone0/temp", "41200\n"),
            ("class/thermal/thermal_zone1/temp", "83100\n"),
            ("class/thermal/thermal_zone2/temp", "x"),
        ]);
        let state = ProcessorState::read(sys.path());
        assert_eq!(state.temperature_c, Some(83.1));
        assert_eq!(state.slowed_by, [Slowed::Heat]);
    }

    #[test]
    fn a_cooling_processor_a_weak_supply_and_a_kept_clock_are_told_apart() {
        let cooled = sys(&[
            ("class/thermal/cooling_device0/type", "cpufreq-cpu0\n"),
            ("class/thermal/cooling_device0/cur_state", "2\n"),
            ("devices/system/cpu/cpufreq/policy0/scaling_max_freq", "1000000\n"),
            ("devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq", "1800000\n"),
        ]);
        assert_eq!(ProcessorState::read(cooled.path()).slowed_by, [Slowed::Heat]);
        let fan = sys(&[
            ("class/thermal/cooling_device0/type", "pwm-fan\n"),
            ("class/thermal/cooling_device0/cur_state", "3\n"),
            ("devices/system/cpu/cpufreq/policy0/scaling_max_freq", "1000000\n"),
            ("devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq", "1800000\n"),
        ]);
        assert_eq!(ProcessorState::read(fan.path()).slowed_by, [Slowed::ClockLimit]);
        let weak = sys(&[("class/hwmon/hwmon0/name", "rpi_volt"), ("class/hwmon/hwmon0/in0_lcrit_alarm", "1")]);
        assert_eq!(ProcessorState::read(weak.path()).slowed_by, [Slowed::LowVoltage]);
    }

    #[test]
    fn a_kernel_that_tells_nothing_is_said() {
        let state = ProcessorState::read(Path::new("/nowhere"));
        assert_eq!(state.slowed_by, []);
        assert_eq!(state.in_words(), "the kernel tells neither temperature nor clock");
    }
}
