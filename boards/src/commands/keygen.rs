//! `boards keygen`.

use super::sign::{read_ring, write_toml};
use anyhow::{Context, anyhow};
use edge_runtime::process::files::check_outputs;
use edge_runtime::process::{Failure, output};
use slots::keys::SecretKey;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// What people call the key, such as the name of who signs
    name: String,
    /// Where the secret key is written; keep it off every device, and a copy in a safe
    #[arg(long, value_name = "FILE")]
    secret: PathBuf,
    /// The file of public keys that it is added to; made where there is none
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// Name of a key in that file that is not taken any more from now on
    #[arg(long, value_name = "NAME")]
    revoke: Option<String>,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let is_plain = !args.name.is_empty() && args.name.len() <= 64 && !args.name.contains(char::is_control);
    if !is_plain {
        return Err(Failure::usage(anyhow!("a key's name has 1 to 64 characters, on one line")));
    }
    check_outputs(&[&args.secret, &args.keys], &[]).map_err(Failure::usage)?;
    let mut ring = if args.keys.exists() { read_ring(&args.keys)? } else { Default::default() };
    if ring.keys.iter().any(|key| key.name == args.name) {
        return Err(Failure::usage(anyhow!(
            "{} has a key `{}` already: give another name",
            args.keys.display(),
            args.name
        )));
    }
    if let Some(name) = &args.revoke {
        let at = ring.keys.iter().position(|key| key.name == *name);
        let at = at.ok_or_else(|| Failure::usage(anyhow!("{} has no key `{name}`", args.keys.display())))?;
        let revoked = ring.keys.remove(at);
        ring.revoked.push(revoked.public);
    }
    let mut random = [0; 32];
    let got = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).context("random numbers")?;
    if got != random.len() {
        return Err(Failure::work(anyhow!("the system gave {got} random bytes of {}", random.len())));
    }
    let secret = SecretKey::of_random(&args.name, random);
    ring.keys.push(secret.public().map_err(Failure::work)?);
    let newer = ring.version.checked_add(1);
    ring.version = newer.ok_or_else(|| Failure::usage(anyhow!("{}: its version cannot rise", args.keys.display())))?;
    let text = toml::to_string(&secret).context("the key")?;
    // An existing secret is never written over.
    let mut file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&args.secret)
        .with_context(|| format!("{} cannot be made", args.secret.display()))?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.with_context(|| format!("{} cannot be written", args.secret.display()))?;
    if let Err(e) = write_toml(&args.keys, &ring) {
        // A secret that no ring knows is good for nothing, and would be in the way of the next try.
        let _ = std::fs::remove_file(&args.secret);
        return Err(e);
    }
    output::line(format!(
        "wrote {} (keep it secret) and {} (version {}, {} keys, {} revoked)",
        args.secret.display(),
        args.keys.display(),
        ring.version,
        ring.keys.len(),
        ring.revoked.len()
    ))
}
