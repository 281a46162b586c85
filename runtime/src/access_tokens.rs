//! Access tokens: short-lived EdDSA JWTs, signed by one process and verified by every other without asking anybody.
//!
//! The algorithm is pinned: a token's own `alg` is compared, never obeyed (`none`, and a public key used as an HMAC secret, are
//! refused by that). The key is chosen by `kid` among those configured.

use crate::{SharedClock, SharedEntropy};
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Debug};

/// Who issues and for whom: both claims are this name.
pub const ISSUER: &str = "hubbub";

/// How far the clocks of issuer and verifier may differ, in seconds.
pub const LEEWAY_S: u64 = 30;

/// The longest token that is looked at, in bytes. Ours have about 350.
pub const TOKEN_BYTES_MAX: usize = 2_048;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Claims {
    /// Whom it stands for.
    pub sub: String,
    /// The sign-in it follows from.
    pub sid: String,
    /// [`ISSUER`].
    pub iss: String,
    /// [`ISSUER`].
    pub aud: String,
    /// Until when, in seconds since the Unix epoch.
    pub exp: u64,
    /// Since when, in seconds since the Unix epoch.
    pub iat: u64,
}

/// A key that others verify with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct PublicKey {
    /// Names it in the header of tokens.
    pub kid: String,
    /// The Ed25519 point, base64url: `x` of its JWK.
    pub x: String,
}

/// Why a token is refused. The holder is told no more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No token of ours: its form, algorithm, key, signature, issuer or audience is wrong.
    #[error("the access token is not one of this server")]
    Foreign,
    /// It was one.
    #[error("the access token has expired")]
    Expired,
}

/// A secret or public key that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("no usable Ed25519 key: {0}")]
pub struct KeyError(String);

/// The secret key of the process that issues tokens.
pub struct Signer {
    key: EncodingKey,
    public: PublicKey,
    clock: SharedClock,
}

/// PKCS #8 v1 of an Ed25519 key, up to its 32 secret bytes (RFC 8410).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A new secret key as PKCS #8 DER, for [`Signer::from_pkcs8`]. Whoever keeps it keeps it from others.
pub fn generate_pkcs8(entropy: &SharedEntropy) -> Vec<u8> {
    let mut der = PKCS8_PREFIX.to_vec();
    der.extend_from_slice(&entropy.next_u128().to_be_bytes());
    der.extend_from_slice(&entropy.next_u128().to_be_bytes());
    der
}

impl Signer {
    /// Takes a key made by [`generate_pkcs8`].
    pub fn from_pkcs8(der: &[u8], clock: SharedClock) -> Result<Self, KeyError> {
        if der.len() != PKCS8_PREFIX.len() + 32 || !der.starts_with(&PKCS8_PREFIX) {
            return Err(KeyError("not the PKCS #8 form of 48 bytes".into()));
        }
        let key = EncodingKey::from_ed_der(der);
        let jwk = Jwk::from_encoding_key(&key, Algorithm::EdDSA).map_err(|error| KeyError(error.to_string()))?;
        let AlgorithmParameters::OctetKeyPair(pair) = &jwk.algorithm else {
            return Err(KeyError("not an octet key pair".into()));
        };
        // The start of the public point names the key well enough: a kid only chooses among a few.
        let public = PublicKey { kid: pair.x.chars().take(12).collect(), x: pair.x.clone() };
        Ok(Self { key, public, clock })
    }

    /// The other half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A token for somebody that follows from a sign-in, good for `seconds`.
    pub fn issue(&self, sub: String, sid: String, seconds: u64) -> Result<String, KeyError> {
        let iat = self.clock.now_ms() / 1_000;
        let claims = Claims { sub, sid, iss: ISSUER.into(), aud: ISSUER.into(), exp: iat + seconds, iat };
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.public.kid.clone());
        jsonwebtoken::encode(&header, &claims, &self.key).map_err(|error| KeyError(error.to_string()))
    }
}

impl Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("kid", &self.public.kid).finish_non_exhaustive()
    }
}

/// Verifies tokens, without IO: about 60 µs of one core.
pub struct Verifier {
    keys: Vec<(PublicKey, DecodingKey)>,
    validation: Validation,
    clock: SharedClock,
}

impl Verifier {
    /// Trusts these keys and no others.
    pub fn new(keys: &[PublicKey], clock: SharedClock) -> Result<Self, KeyError> {
        let read = |key: &PublicKey| match DecodingKey::from_ed_components(&key.x) {
            Ok(decoding) => Ok((key.clone(), decoding)),
            Err(error) => Err(KeyError(error.to_string())),
        };
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Times are compared below, with the clock that a simulation owns.
        validation.validate_exp = false;
        Ok(Self { keys: keys.iter().map(read).collect::<Result<_, _>>()?, validation, clock })
    }

    /// The keys it trusts.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.keys.iter().map(|(public, _)| public)
    }

    /// What a good token says.
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Foreign);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Foreign)?;
        if header.alg != Algorithm::EdDSA {
            return Err(TokenError::Foreign);
        }
        let kid = header.kid.ok_or(TokenError::Foreign)?;
        let (_, key) = self.keys.iter().find(|(public, _)| public.kid == kid).ok_or(TokenError::Foreign)?;
        let claims =
            jsonwebtoken::decode::<Claims>(token, key, &self.validation).map_err(|_| TokenError::Foreign)?.claims;
        let now = self.clock.now_ms() / 1_000;
        if claims.exp.saturating_add(LEEWAY_S) < now {
            return Err(TokenError::Expired);
        }
        if claims.iat > now.saturating_add(LEEWAY_S) {
            return Err(TokenError::Foreign);
        }
        Ok(claims)
    }
}

impl Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("keys", &self.keys().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{Clock, Entropy};
    use std::sync::Arc;

    #[derive(Debug)]
    struct At(u64);

    impl Clock for At {
        fn now_ms(&self) -> u64 {
            self.0 * 1_000
        }
    }

    const NOW: u64 = 1_700_000_000;

    fn signer(seed: u64, now: u64) -> Signer {
        Signer::from_pkcs8(&generate_pkcs8(&Entropy::from_seed(seed)), Arc::new(At(now))).unwrap()
    }

    fn verifier(signer: &Signer, now: u64) -> Verifier {
        Verifier::new(std::slice::from_ref(signer.public()), Arc::new(At(now))).unwrap()
    }

    /// A token with any header and a signature over it by any key.
    fn forged(algorithm: Algorithm, kid: Option<&str>, key: &EncodingKey, change: impl FnOnce(&mut Claims)) -> String {
        let mut claims = Claims {
            sub: "u".into(),
            sid: "s".into(),
            iss: ISSUER.into(),
            aud: ISSUER.into(),
            exp: NOW + 60,
            iat: NOW,
        };
        change(&mut claims);
        let mut header = Header::new(algorithm);
        header.kid = kid.map(str::to_owned);
        jsonwebtoken::encode(&header, &claims, key).unwrap()
    }

    #[test]
    fn an_issued_token_says_who_it_stands_for() {
        let signer = signer(1, NOW);
        let token = signer.issue("person".into(), "device".into(), 60).unwrap();
        let claims = verifier(&signer, NOW + 10).verify(&token).unwrap();
        assert_eq!((claims.sub.as_str(), claims.sid.as_str()), ("person", "device"));
        assert!(token.len() < TOKEN_BYTES_MAX / 2, "{} bytes", token.len());
    }

    #[test]
    fn a_token_expires_after_its_time_and_the_leeway() {
        let signer = signer(1, NOW);
        let token = signer.issue("person".into(), "device".into(), 60).unwrap();
        assert!(verifier(&signer, NOW + 60 + LEEWAY_S).verify(&token).is_ok());
        assert_eq!(verifier(&signer, NOW + 61 + LEEWAY_S).verify(&token), Err(TokenError::Expired));
    }

    #[test]
    fn a_token_from_the_future_beyond_the_leeway_is_refused() {
        let signer = signer(1, NOW + LEEWAY_S + 1);
        let token = signer.issue("person".into(), "device".into(), 60).unwrap();
        assert_eq!(verifier(&signer, NOW).verify(&token), Err(TokenError::Foreign));
    }

    #[test]
    fn what_is_not_signed_by_a_trusted_key_with_the_pinned_algorithm_is_refused() {
        let own = signer(1, NOW);
        let other = signer(2, NOW);
        let kid = own.public().kid.as_str();
        let ours = || EncodingKey::from_ed_der(&generate_pkcs8(&Entropy::from_seed(1)));
        let theirs = || EncodingKey::from_ed_der(&generate_pkcs8(&Entropy::from_seed(2)));
        let good = forged(Algorithm::EdDSA, Some(kid), &ours(), |_| {});
        let (head, rest) = good.split_once('.').unwrap();
        let (body, signature) = rest.split_once('.').unwrap();
        // {"alg":"none","typ":"JWT"}
        let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
        let cases = [
            ("alg none without a signature", format!("{none}.{body}.")),
            ("alg none with a signature", format!("{none}.{body}.{signature}")),
            (
                "the public key as an HMAC secret",
                forged(Algorithm::HS256, Some(kid), &EncodingKey::from_secret(own.public().x.as_bytes()), |_| {}),
            ),
            ("another key under our kid", forged(Algorithm::EdDSA, Some(kid), &theirs(), |_| {})),
            ("another key under its own kid", forged(Algorithm::EdDSA, Some(&other.public().kid), &theirs(), |_| {})),
            ("no kid", forged(Algorithm::EdDSA, None, &ours(), |_| {})),
            ("another issuer", forged(Algorithm::EdDSA, Some(kid), &ours(), |claims| claims.iss = "evil".into())),
            ("another audience", forged(Algorithm::EdDSA, Some(kid), &ours(), |claims| claims.aud = "evil".into())),
            ("a cut signature", format!("{head}.{body}.{}", &signature[..signature.len() - 4])),
            ("another body", format!("{head}.{}.{signature}", &body[..body.len() - 4])),
            ("nothing", String::new()),
            ("dots", "..".into()),
            ("no base64", "§.§.§".into()),
            ("too long", good.clone() + &"a".repeat(TOKEN_BYTES_MAX)),
        ];
        let verifier = verifier(&own, NOW);
        assert!(verifier.verify(&good).is_ok());
        for (what, token) in cases {
            assert_eq!(verifier.verify(&token), Err(TokenError::Foreign), "{what}");
        }
    }

    #[test]
    fn a_damaged_secret_key_is_refused() {
        let mut der = generate_pkcs8(&Entropy::from_seed(1));
        der.pop();
        assert!(Signer::from_pkcs8(&der, Arc::new(At(NOW))).is_err());
    }
}
