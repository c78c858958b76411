//! Kernel modules, in the order that the card names.

use crate::say;
use std::ffi::CString;
use std::fs::File;
use std::path::Path;

const FOLDER: &str = "/lib/modules";
/// `MODULE_INIT_COMPRESSED_FILE` of `finit_module(2)`: the kernel unpacks it.
const COMPRESSED: i32 = 4;

/// Loads the modules of the card, and those of the emulated machine before them. One that is not loaded is said, and
/// is no reason to stop: it may be of hardware that is not there.
pub fn load(is_emulated: bool) {
    if is_emulated {
        load_list("emulated");
    }
    load_list("order");
}

fn load_list(name: &str) {
    let list = std::fs::read_to_string(Path::new(FOLDER).join(name)).unwrap_or_default();
    for line in list.lines() {
        let (file, parameters) = line.split_once(' ').unwrap_or((line, ""));
        if let Err(e) = load_one(file, parameters)
            && e.kind() != std::io::ErrorKind::AlreadyExists
        {
            say!("module {file} is not loaded: {e}");
        }
    }
}

fn load_one(file: &str, parameters: &str) -> std::io::Result<()> {
    let module = File::open(Path::new(FOLDER).join(file))?;
    let parameters = CString::new(parameters).map_err(std::io::Error::other)?;
    Ok(rustix::system::finit_module(&module, &parameters, COMPRESSED)?)
}
