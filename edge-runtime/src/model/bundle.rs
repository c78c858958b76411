//! The device bundle, `model.hilum`: contract and integer network bound by one digest. `docs/bundle-format.md`
//! specifies the bytes.

use super::calibration::Calibration;
use super::contract::{Activation, Contract, ContractError};
use crate::domain::Domain;
use crate::lower::{LowerError, LoweredModel, lower};
use crate::network::{Network, NetworkError};
use crate::onnx::pb;
use crate::operators::Op;
use crate::process::files::{hex, sha256};
use serde::{Deserialize, Serialize};
use slots::keys::{KeyError, Purpose, SecretKey, verify};

/// The first eight bytes. The carriage return and line feed are there to be hurt by a text-mode transfer.
pub const MAGIC: [u8; 8] = *b"HILUM\0\r\n";
/// The newest format version, with labels in groups; version 5, without those, with calibration and domain; version 4,
/// without them, version 3, without independent findings, and version 2, without float islands either, are read too.
/// Version 1 had no dilation and fewer operators.
pub const VERSION: u16 = 6;
/// Bytes before the payload.
pub const HEADER: usize = 48;

/// The flag of bundles with a signature behind the payload.
const SIGNED: u16 = 1;
/// Bytes of a signature: the public key (32) and what Ed25519 (RFC 8032) makes of the header (64).
const SIGNATURE: usize = 96;

/// What a bundle holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    /// What the model promises.
    pub contract: Contract,
    /// The network.
    pub network: Network,
}

/// What bundles have behind the network from version 5 on.
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct Extension {
    calibration: Calibration,
    domain: Domain,
}

/// Why a bundle is refused.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Wrong magic.
    #[error("not a Hilum bundle")]
    NotABundle,
    /// From another time.
    #[error(
        "bundle format {0} is not known here (format {VERSION} is): update edge-runtime, or quantise the model again"
    )]
    Version(u16),
    /// Flags that mean something to another version.
    #[error("bundle flags {0:#06x} are not known here: update edge-runtime, or quantise the model again")]
    Flags(u16),
    /// Wrong length.
    #[error("the bundle is cut or has bytes added ({found} bytes where {expected} are declared): copy it again")]
    Length {
        /// Bytes there are.
        found: usize,
        /// Bytes there should be.
        expected: usize,
    },
    /// A bit flipped.
    #[error("the bundle is damaged: its digest does not match its content; copy it again")]
    Digest,
    /// The signature is not that of the header.
    #[error("the bundle is signed, and its signature is wrong: it was changed or damaged; get it again")]
    Signature,
    /// Right digest, wrong content.
    #[error("the bundle cannot be read ({0}); quantise the model again")]
    Content(String),
    /// The contract contradicts itself.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// The network is not sound.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

impl Bundle {
    /// The QDQ model `model`, which `contract` is of. A shift of the image goes into the mean of its pixels.
    pub fn of_qdq(mut contract: Contract, model: &pb::ModelProto) -> Result<Bundle, LowerError> {
        let LoweredModel { network, shift } = lower(model)?;
        let input = &mut contract.input;
        input.mean.iter_mut().zip(&input.std).for_each(|(mean, deviation)| *mean += shift * deviation);
        Ok(Bundle { contract, network })
    }

    /// The bundle's bytes and the digest that names them, hexadecimal.
    pub fn encode(&self) -> (Vec<u8>, String) {
        let mut payload = postcard::to_stdvec(self).expect("plain data always serialises");
        let extension = self.extension();
        if self.version() >= 5 {
            payload.extend(postcard::to_stdvec(&extension).expect("plain data always serialises"));
        }
        let digest = sha256(&payload);
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        bytes.extend(MAGIC);
        bytes.extend(self.version().to_le_bytes());
        bytes.extend(0u16.to_le_bytes());
        bytes.extend((payload.len() as u32).to_le_bytes());
        bytes.extend(digest);
        bytes.extend(payload);
        (bytes, hex(&digest))
    }

    /// The oldest version that has what the bundle holds, so that devices in the field read what they can run.
    fn version(&self) -> u16 {
        if self.contract.activation == Activation::GroupedSoftmax {
            return 6;
        }
        if self.extension() != Extension::default() {
            return 5;
        }
        let has_islands = self.network.nodes.iter().any(|n| matches!(n.op, Op::Float(_)));
        match self.contract.activation {
            Activation::Independent => 4,
            _ if has_islands => 3,
            _ => 2,
        }
    }

    fn extension(&self) -> Extension {
        Extension { calibration: self.contract.calibration.clone(), domain: self.contract.domain.clone() }
    }

    /// Checks and reads a bundle; also gives its digest. Nothing of the payload is believed before the digest and, of a
    /// signed bundle, the signature matches. Whose signature it is, [`signer`] says.
    pub fn decode(bytes: &[u8]) -> Result<(Bundle, String), BundleError> {
        let Parts { version, payload, digest, .. } = Parts::of(bytes)?;
        let content = |e: postcard::Error| BundleError::Content(e.to_string());
        let (mut bundle, mut rest): (Bundle, &[u8]) = postcard::take_from_bytes(payload).map_err(content)?;
        if version >= 5 {
            let extension: Extension;
            (extension, rest) = postcard::take_from_bytes(rest).map_err(content)?;
            bundle.contract.calibration = extension.calibration;
            bundle.contract.domain = extension.domain;
        }
        if !rest.is_empty() {
            return Err(BundleError::Content("bytes are left over".into()));
        }
        bundle.contract.check()?;
        bundle.network.check()?;
        if bundle.version() != version {
            return Err(BundleError::Content(
                "what it holds belongs to another format version than it declares".into(),
            ));
        }
        Ok((bundle, hex(&digest)))
    }
}

/// Signs `bundle`, the bytes of one without a signature, with `key`. The digest stays as it is.
pub fn sign(bundle: &mut Vec<u8>, key: &SecretKey) -> Result<(), KeyError> {
    bundle[10..12].copy_from_slice(&SIGNED.to_le_bytes());
    let signature = key.sign(Purpose::Model, &bundle[..HEADER])?;
    bundle.extend(key.public()?.bytes()?);
    bundle.extend(signature);
    Ok(())
}

/// The public key that the bundle `bytes` is signed with, 64 hexadecimal digits; `None` for one without a signature.
pub fn signer(bytes: &[u8]) -> Result<Option<String>, BundleError> {
    Ok(Parts::of(bytes)?.signer)
}

/// As [`signer`], of bytes that [`Bundle::decode`] has read: the digest of megabytes is not computed a second time.
pub(super) fn signer_of_decoded(bytes: &[u8]) -> Option<String> {
    let is_signed = bytes.get(10..12)? == SIGNED.to_le_bytes();
    let (_, signature) = bytes.split_last_chunk::<SIGNATURE>().filter(|_| is_signed)?;
    Some(hex(&signature[..32]))
}

/// A bundle whose digest and signature match.
struct Parts<'a> {
    version: u16,
    payload: &'a [u8],
    digest: [u8; 32],
    signer: Option<String>,
}

impl Parts<'_> {
    fn of(bytes: &[u8]) -> Result<Parts<'_>, BundleError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(BundleError::NotABundle);
        }
        let Some((header, rest)) = bytes.split_at_checked(HEADER) else {
            return Err(BundleError::Length { found: bytes.len(), expected: HEADER });
        };
        let word = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        if !(2..=VERSION).contains(&word(8)) {
            return Err(BundleError::Version(word(8)));
        }
        if word(10) & !SIGNED != 0 {
            return Err(BundleError::Flags(word(10)));
        }
        let is_signed = word(10) == SIGNED;
        let declared = u32::from_le_bytes([header[12], header[13], header[14], header[15]]) as usize;
        let behind = if is_signed { SIGNATURE } else { 0 };
        if rest.len() != declared.saturating_add(behind) {
            let expected = HEADER.saturating_add(declared).saturating_add(behind);
            return Err(BundleError::Length { found: bytes.len(), expected });
        }
        let (payload, signature) = rest.split_at(declared);
        let signature = is_signed.then_some(signature);
        let digest = sha256(payload);
        if digest != header[16..48] {
            return Err(BundleError::Digest);
        }
        let signer = signature.map(|signature| signed_by(header, signature)).transpose()?;
        Ok(Parts { version: word(8), payload, digest, signer })
    }
}

/// The key that `signature` is of, if it belongs to `header`.
fn signed_by(header: &[u8], signature: &[u8]) -> Result<String, BundleError> {
    let parts = signature.split_first_chunk::<32>();
    let (public, signature) = parts.ok_or(BundleError::Signature)?;
    let signature: &[u8; 64] = signature.try_into().map_err(|_| BundleError::Signature)?;
    verify(Purpose::Model, public, header, signature).map_err(|_| BundleError::Signature)?;
    Ok(hex(public))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::contract::tests::example;
    use crate::network::{Node, Value, Weights};
    use crate::operators::{Float, Logits};

    pub(crate) fn tiny() -> Bundle {
        let node = |name: &str, op, output| Node { name: name.into(), op, inputs: vec![0], output, low: 0, high: 255 };
        let weights = Weights { codes: vec![1; 512], scales: vec![0.01; 2], bias: vec![0, 5] };
        let network = Network {
            values: vec![Value { shape: [16, 16, 1], scale: 1.0 / 128.0, zero_point: 128 }],
            nodes: vec![node("logits", Logits { weights }.into(), None)],
            map: None,
        };
        Bundle { contract: example(), network }
    }

    #[test]
    fn a_bundle_round_trips() {
        let (bytes, digest) = tiny().encode();
        let (back, read) = Bundle::decode(&bytes).unwrap();
        assert_eq!((back, read), (tiny(), digest));
    }

    #[test]
    fn a_bundle_asks_for_the_oldest_version_that_can_say_it() {
        let mut b = tiny();
        assert_eq!(b.encode().0[8], 2);
        b.network.nodes[0].op = Float { model: vec![1, 2, 3] }.into();
        let (mut bytes, digest) = b.encode();
        assert_eq!((bytes[8], Bundle::decode(&bytes).unwrap()), (3, (b, digest)));
        bytes[8] = 2;
        assert!(matches!(Bundle::decode(&bytes), Err(BundleError::Content(_))));
        let mut b = tiny();
        b.contract.activation = Activation::Independent;
        let (bytes, digest) = b.encode();
        assert_eq!((bytes[8], Bundle::decode(&bytes).unwrap()), (4, (b, digest)));
        let mut b = tiny();
        b.contract.activation = Activation::GroupedSoftmax;
        let (bytes, digest) = b.encode();
        assert_eq!((bytes[8], Bundle::decode(&bytes).unwrap()), (6, (b, digest)));
    }

    /// With all that version 5 has.
    fn calibrated() -> Bundle {
        let mut b = tiny();
        b.contract.calibration.temperature = 1.5;
        b.contract.calibration.uncertain = Some([0.4, 0.6]);
        b.contract.domain.ages = Some([1.0, 5.0]);
        b
    }

    #[test]
    fn calibration_and_domain_travel_behind_the_network() {
        let (mut bytes, digest) = calibrated().encode();
        assert_eq!((bytes[8], Bundle::decode(&bytes).unwrap()), (5, (calibrated(), digest)));
        bytes[8] = 4;
        assert!(matches!(Bundle::decode(&bytes), Err(BundleError::Content(_))));
        let mut bad = calibrated();
        bad.contract.domain.ages = Some([5.0, 1.0]);
        assert!(matches!(Bundle::decode(&bad.encode().0), Err(BundleError::Contract(_))));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (bytes, _) = calibrated().encode();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(Bundle::decode(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let (bytes, _) = calibrated().encode();
        assert!((0..bytes.len()).all(|n| Bundle::decode(&bytes[..n]).is_err()));
    }

    fn signed() -> (Vec<u8>, SecretKey) {
        let key = SecretKey::of_random("clinic", [7; 32]);
        let mut bytes = calibrated().encode().0;
        sign(&mut bytes, &key).unwrap();
        (bytes, key)
    }

    #[test]
    fn a_signed_bundle_is_the_same_model_and_says_whose_it_is() {
        let (bytes, key) = signed();
        let (plain, digest) = calibrated().encode();
        assert_eq!(Bundle::decode(&bytes).unwrap(), (calibrated(), digest));
        assert_eq!(signer(&bytes).unwrap(), Some(key.public().unwrap().public));
        assert_eq!(signer(&plain).unwrap(), None);
        assert_eq!([&bytes, &plain].map(|b| signer_of_decoded(b)), [&bytes, &plain].map(|b| signer(b).unwrap()));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_signed_bundle_is_noticed() {
        let (bytes, _) = signed();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(Bundle::decode(&bad).is_err(), "byte {at}");
            assert!(Bundle::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
        let mut bare = bytes.clone();
        bare[10] = 0;
        assert!(matches!(Bundle::decode(&bare), Err(BundleError::Length { .. })));
    }

    #[test]
    fn a_signature_is_of_one_bundle_alone() {
        let (mut bytes, _) = signed();
        let signature = bytes.split_off(bytes.len() - SIGNATURE);
        let mut other = tiny().encode().0;
        other[10] = 1;
        other.extend(signature);
        assert!(matches!(Bundle::decode(&other), Err(BundleError::Signature)));
    }

    #[test]
    fn an_unsound_network_is_refused_even_with_a_right_digest() {
        let mut b = tiny();
        b.network.nodes[0].inputs = vec![7];
        assert!(matches!(Bundle::decode(&b.encode().0), Err(BundleError::Network(_))));
    }
}
