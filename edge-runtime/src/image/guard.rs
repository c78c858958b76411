//! DICOM files are decoded in a process of their own, limited in memory and time: their form is rich, parsers of it
//! have been broken in many ways, and a broken one must not take the device with it.
//!
//! The process is this program again. It gets the file as its standard input and writes what came of it to its standard
//! output; both are files in memory, so neither side waits for the other.

use super::{Format, Radiograph, RadiographError};

/// Decodes `bytes`; a DICOM file where it can do no harm, if [`crate::process::main`] runs this program on Linux.
pub fn decode(bytes: &[u8]) -> Result<Radiograph, RadiographError> {
    match Format::detect(bytes) {
        #[cfg(target_os = "linux")]
        Some(Format::Dicom) if linux::is_available() => linux::decode(bytes),
        _ => Radiograph::decode(bytes),
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn serve() -> Option<u8> {
    None
}

#[cfg(target_os = "linux")]
pub(crate) use linux::serve;

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use crate::finding::Cause;
    use crate::image::{Acquisition, GreyPlane, Origin};
    use rustix::fs::{MemfdFlags, memfd_create};
    use rustix::process::{Resource, Rlimit, setrlimit};
    use serde::{Deserialize, Serialize};
    use std::fs::File;
    use std::io::{Read, Seek, Write};
    use std::process::{Command, Stdio};
    use std::sync::OnceLock;

    /// The one argument by which the program is asked to decode.
    const ARGUMENT: &str = "--decode-apart";
    /// Address space of the process (bytes): the largest file, what it inflates to, and its planes.
    const MEMORY: u64 = 1 << 30;
    /// Processor time (seconds): a hundred times what the largest detector takes.
    const SECONDS: u64 = 20;
    /// This program, whatever became of its file.
    const PROGRAM: &str = "/proc/self/exe";

    /// True once [`serve`] has been asked: then this program knows [`ARGUMENT`].
    static SERVES: OnceLock<()> = OnceLock::new();

    /// What comes before the pixels of the plane.
    #[derive(Serialize, Deserialize)]
    enum Answer {
        Radiograph { width: u32, height: u32, origin: Origin, acquisition: Acquisition },
        Refusal { cause: Cause, sentence: String },
    }

    pub(super) fn is_available() -> bool {
        SERVES.get().is_some()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Radiograph, RadiographError> {
        let (output, ended_well) = run(bytes).map_err(RadiographError::NoProcess)?;
        let lost = RadiographError::BeyondLimits { mebibytes: MEMORY >> 20, seconds: SECONDS };
        if !ended_well {
            return Err(lost);
        }
        match postcard::take_from_bytes::<Answer>(&output) {
            Ok((Answer::Radiograph { width, height, origin, acquisition }, pixels))
                if pixels.len() as u64 == u64::from(width) * u64::from(height) =>
            {
                let plane = GreyPlane { width, height, pixels: pixels.to_vec() };
                Ok(Radiograph { plane, origin, acquisition })
            }
            Ok((Answer::Refusal { cause, sentence }, [])) => Err(RadiographError::Apart { cause, sentence }),
            _ => Err(lost),
        }
    }

    /// What the process writes for `bytes`, and whether it ended well.
    fn run(bytes: &[u8]) -> std::io::Result<(Vec<u8>, bool)> {
        let file = |name: &str| memfd_create(name, MemfdFlags::CLOEXEC).map(File::from);
        let mut input = file("dicom")?;
        let mut output = file("radiograph")?;
        input.write_all(bytes)?;
        input.rewind()?;
        let mut command = Command::new(PROGRAM);
        command.arg(ARGUMENT).env_clear().stdin(input).stdout(output.try_clone()?).stderr(Stdio::null());
        let status = command.status()?;
        let mut written = Vec::new();
        output.rewind()?;
        output.read_to_end(&mut written)?;
        Ok((written, status.success()))
    }

    /// Decodes standard input to standard output, if this program was started for that; gives its exit code.
    pub(crate) fn serve() -> Option<u8> {
        let _ = SERVES.set(());
        let mut arguments = std::env::args_os().skip(1);
        if arguments.next().is_none_or(|a| a != ARGUMENT) || arguments.next().is_some() {
            return None;
        }
        Some(u8::from(answer().is_err()))
    }

    fn answer() -> std::io::Result<()> {
        let limited = |resource, amount| setrlimit(resource, Rlimit { current: Some(amount), maximum: Some(amount) });
        limited(Resource::As, MEMORY)?;
        limited(Resource::Cpu, SECONDS)?;
        limited(Resource::Core, 0)?;
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes)?;
        let (answer, pixels) = match Radiograph::decode(&bytes) {
            Ok(Radiograph { plane, origin, acquisition }) => {
                let GreyPlane { width, height, pixels } = plane;
                (Answer::Radiograph { width, height, origin, acquisition }, pixels)
            }
            Err(e) => (Answer::Refusal { cause: e.cause(), sentence: e.to_string() }, vec![]),
        };
        let head = postcard::to_stdvec(&answer).map_err(std::io::Error::other)?;
        let mut out = std::io::stdout().lock();
        out.write_all(&head)?;
        out.write_all(&pixels)?;
        out.flush()
    }
}
