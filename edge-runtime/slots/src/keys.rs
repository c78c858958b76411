//! Keys that updates and models are signed with. A device holds public keys alone.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

/// What is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The manifest of an update.
    Update,
    /// The header of a model's bundle, which holds the digest of the rest.
    Model,
}

impl Purpose {
    /// What stands before every signed text, so that no signature of one kind is one of another.
    fn context(self) -> &'static [u8] {
        match self {
            Purpose::Update => b"hilum update 1\0",
            Purpose::Model => b"hilum model 1\0",
        }
    }

    fn message(self, text: &[u8]) -> Vec<u8> {
        [self.context(), text].concat()
    }
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicKey {
    /// What people call it.
    pub name: String,
    /// Ed25519 (RFC 8032), 64 hexadecimal digits.
    pub public: String,
}

impl PublicKey {
    /// Its 32 bytes.
    pub fn bytes(&self) -> Result<[u8; 32], KeyError> {
        unhex(&self.public).ok_or_else(|| KeyError::Malformed(self.name.clone()))
    }
}

/// The keys that a device believes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRing {
    /// Of two rings the one with the higher version counts.
    pub version: u32,
    /// Keys whose updates are taken.
    pub keys: Vec<PublicKey>,
    /// Public keys that were taken once, and are not any more.
    #[serde(default)]
    pub revoked: Vec<String>,
}

/// A secret key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretKey {
    /// What people call it.
    pub name: String,
    /// 64 hexadecimal digits.
    pub secret: String,
}

/// Why a key or a signature is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No key.
    #[error("key `{0}` is none: 64 hexadecimal digits are one")]
    Malformed(String),
    /// Nobody knows the key.
    #[error("it is signed with a key that this device does not know: ask whoever gave you the file")]
    Unknown,
    /// A ring without a key.
    #[error("it holds no key: nothing could be checked with it")]
    NoKey,
    /// The key is revoked.
    #[error("it is signed with a key that was revoked: ask for a newer file")]
    Revoked,
    /// The signature does not belong to the file.
    #[error("its signature is wrong: the file was changed or damaged; get it again")]
    Wrong,
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Checks `signature`, made with the public key `public`, of `text`. Whose key it is, a [`KeyRing`] says.
pub fn verify(purpose: Purpose, public: &[u8; 32], text: &[u8], signature: &[u8; 64]) -> Result<(), KeyError> {
    let key = VerifyingKey::from_bytes(public).map_err(|_| KeyError::Wrong)?;
    let signature = Signature::from_bytes(signature);
    // Strict: of one text there is one signature (RFC 8032, 8.4).
    key.verify_strict(&purpose.message(text), &signature).map_err(|_| KeyError::Wrong)
}

impl SecretKey {
    /// A key of `bytes`, which must come from the system's source of random numbers.
    pub fn of_random(name: &str, bytes: [u8; 32]) -> SecretKey {
        SecretKey { name: name.to_owned(), secret: hex(&bytes) }
    }

    fn signing(&self) -> Result<SigningKey, KeyError> {
        let bytes = unhex(&self.secret).ok_or_else(|| KeyError::Malformed(self.name.clone()))?;
        Ok(SigningKey::from_bytes(&bytes))
    }

    /// What devices get of it.
    pub fn public(&self) -> Result<PublicKey, KeyError> {
        let public = hex(self.signing()?.verifying_key().as_bytes());
        Ok(PublicKey { name: self.name.clone(), public })
    }

    /// The signature of `text`.
    pub fn sign(&self, purpose: Purpose, text: &[u8]) -> Result<[u8; 64], KeyError> {
        Ok(self.signing()?.sign(&purpose.message(text)).to_bytes())
    }
}

impl KeyRing {
    /// The key of this ring that has `public`, 64 hexadecimal digits.
    pub fn known(&self, public: &str) -> Result<&PublicKey, KeyError> {
        if self.revoked.iter().any(|revoked| revoked.eq_ignore_ascii_case(public)) {
            return Err(KeyError::Revoked);
        }
        self.keys.iter().find(|key| key.public.eq_ignore_ascii_case(public)).ok_or(KeyError::Unknown)
    }

    /// Checks `signature`, made with the public key `public`, of `text`.
    pub fn check(
        &self,
        purpose: Purpose,
        public: &str,
        text: &[u8],
        signature: &[u8; 64],
    ) -> Result<&PublicKey, KeyError> {
        let known = self.known(public)?;
        verify(purpose, &known.bytes()?, text, signature)?;
        Ok(known)
    }

    /// Refuses a ring with a malformed key, also among those that are revoked, or with none.
    pub fn validate(&self) -> Result<(), KeyError> {
        if self.keys.is_empty() {
            return Err(KeyError::NoKey);
        }
        if let Some(key) = self.keys.iter().find(|key| unhex(&key.public).is_none()) {
            return Err(KeyError::Malformed(key.name.clone()));
        }
        // One that is not found again would be taken.
        match self.revoked.iter().find(|key| unhex(key).is_none()) {
            Some(key) => Err(KeyError::Malformed(key.clone())),
            None => Ok(()),
        }
    }

    /// This ring or `other`, whichever is newer.
    pub fn newer(self, other: KeyRing) -> KeyRing {
        if other.version > self.version { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_of_known_keys_are_taken_and_no_others() {
        let secret = SecretKey::of_random("a", [7; 32]);
        let other = SecretKey::of_random("b", [8; 32]).public().unwrap();
        let public = secret.public().unwrap();
        let signature = secret.sign(Purpose::Update, b"text").unwrap();
        let ring = |keys: &[&PublicKey], revoked: &[&PublicKey]| KeyRing {
            version: 1,
            keys: keys.iter().map(|k| (*k).clone()).collect(),
            revoked: revoked.iter().map(|k| k.public.clone()).collect(),
        };
        let known = ring(&[&other, &public], &[]);
        assert_eq!(known.check(Purpose::Update, &public.public, b"text", &signature).unwrap().name, "a");
        assert_eq!(known.check(Purpose::Update, &public.public, b"tex!", &signature), Err(KeyError::Wrong));
        assert_eq!(known.check(Purpose::Update, &other.public, b"text", &signature), Err(KeyError::Wrong));
        assert_eq!(
            ring(&[&other], &[]).check(Purpose::Update, &public.public, b"text", &signature),
            Err(KeyError::Unknown)
        );
        let revoked = ring(&[&public], &[&public]);
        assert_eq!(revoked.check(Purpose::Update, &public.public, b"text", &signature), Err(KeyError::Revoked));
        // An update's signature is no model's.
        assert_eq!(known.check(Purpose::Model, &public.public, b"text", &signature), Err(KeyError::Wrong));
        assert!(SecretKey { name: "c".into(), secret: "zz".into() }.public().is_err());
        assert!(
            KeyRing { keys: vec![PublicKey { name: "d".into(), public: "é".repeat(32) }], ..known }.validate().is_err()
        );
    }

    /// RFC 8032, 7.1, test 1: the public key of a secret one.
    #[test]
    fn keys_are_those_of_the_standard() {
        let secret = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let key = SecretKey { name: "rfc".into(), secret: secret.into() };
        assert_eq!(key.public().unwrap().public, public);
    }
}
