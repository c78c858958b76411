//! `boards keygen`.

use super::sign::{read_ring, write_toml};
use anyhow::{Context, anyhow};
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
    ring.version += 1;
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
    write_toml(&args.keys, &ring)?;
    output::line(format!(
        "wrote {} (keep it secret) and {} (version {}, {} keys, {} revoked)",
        args.secret.display(),
        args.keys.display(),
        ring.version,
        ring.keys.len(),
        ring.revoked.len()
    ))
}
