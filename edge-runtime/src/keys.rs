//! Files of keys: a secret one to sign with, and the public ones that are believed. What a signature is, `slots::keys`
//! says.

use crate::process::files::{check_outputs, write_atomically};
use crate::process::{Failure, output};
use anyhow::{Context, anyhow};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::Serialize;
use serde::de::DeserializeOwned;
pub use slots::keys::{KeyError, KeyRing, PublicKey, SecretKey};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The command line of `keygen`, which every program that signs has.
#[derive(Debug, clap::Args)]
pub struct Keygen {
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

impl Keygen {
    /// Makes the key and says so. An existing secret is never written over.
    pub fn run(&self) -> Result<(), Failure> {
        let ring_file = self.keys.display();
        let is_plain = !self.name.is_empty() && self.name.len() <= 64 && !self.name.contains(char::is_control);
        if !is_plain {
            return Err(Failure::usage(anyhow!("a key's name has 1 to 64 characters, on one line")));
        }
        check_outputs(&[&self.secret, &self.keys], &[]).map_err(Failure::usage)?;
        // Held until the ring is written: of two that are made at once, neither must lose its key.
        let _lock = locked(folder_of(&self.keys))?;
        let mut ring = if self.keys.exists() { read_ring(&self.keys)? } else { KeyRing::default() };
        if ring.keys.iter().any(|key| key.name == self.name) {
            let reason = anyhow!("{ring_file} has a key `{}` already: give another name", self.name);
            return Err(Failure::usage(reason));
        }
        if let Some(name) = &self.revoke {
            let at = ring.keys.iter().position(|key| key.name == *name);
            let at = at.ok_or_else(|| Failure::usage(anyhow!("{ring_file} has no key `{name}`")))?;
            let revoked = ring.keys.remove(at);
            ring.revoked.push(revoked.public);
        }
        let secret = SecretKey::of_random(&self.name, random()?);
        ring.keys.push(secret.public().map_err(Failure::work)?);
        let newer = ring.version.checked_add(1);
        ring.version = newer.ok_or_else(|| Failure::usage(anyhow!("{ring_file}: its version cannot rise")))?;
        write_secret(&self.secret, &secret)?;
        if let Err(e) = write_toml(&self.keys, &ring) {
            // A secret that no ring knows is good for nothing, and would be in the way of the next try.
            let _ = std::fs::remove_file(&self.secret);
            return Err(e);
        }
        output::line(format!(
            "wrote {} (keep it secret) and {ring_file} (version {}, {} keys, {} revoked)",
            self.secret.display(),
            ring.version,
            ring.keys.len(),
            ring.revoked.len()
        ))
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `folder`, which no other program locks until it is dropped.
fn locked(folder: &Path) -> Result<std::fs::File, Failure> {
    let file = std::fs::File::open(folder).with_context(|| format!("{} cannot be opened", folder.display()))?;
    file.lock().with_context(|| format!("{} cannot be locked", folder.display()))?;
    Ok(file)
}

fn random() -> Result<[u8; 32], Failure> {
    let mut random = [0; 32];
    let got = getrandom(&mut random, GetRandomFlags::empty()).context("random numbers")?;
    if got != random.len() {
        return Err(Failure::work(anyhow!("the system gave {got} random bytes of {}", random.len())));
    }
    Ok(random)
}

fn write_secret(path: &Path, secret: &SecretKey) -> Result<(), Failure> {
    let text = toml::to_string(secret).context("the key")?;
    let options = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path);
    let mut file = options.with_context(|| format!("{} cannot be made", path.display()))?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    Ok(written.with_context(|| format!("{} cannot be written", path.display()))?)
}

/// The public keys in `path`.
pub fn read_ring(path: &Path) -> Result<KeyRing, Failure> {
    let ring: KeyRing = read_toml(path, "no file of public keys: one of `keygen --keys` is")?;
    ring.validate().map_err(|e| Failure::usage(anyhow!("{}: {e}", path.display())))?;
    Ok(ring)
}

/// The secret key in `path`.
pub fn read_secret(path: &Path) -> Result<SecretKey, Failure> {
    let secret: SecretKey = read_toml(path, "no secret key: a file of `keygen --secret` is one")?;
    secret.public().map_err(|e| Failure::usage(anyhow!("{}: {e}", path.display())))?;
    Ok(secret)
}

/// What stands in a file of TOML; if it does not, the file is `otherwise`. What else stands there may be secret, and is
/// not said.
fn read_toml<T: DeserializeOwned>(path: &Path, otherwise: &str) -> Result<T, Failure> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    toml::from_str(&text).map_err(|_| Failure::usage(anyhow!("{} is {otherwise}", path.display())))
}

fn write_toml(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    let text = toml::to_string(value).context("TOML")?;
    write_atomically(path, text.as_bytes()).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(())
}
