//! The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac};

use crate::serve::sql::passwords::{Verifier, mac};

/// Between the client's first and its final message.
pub(super) struct Exchange {
    verifier: Verifier,
    /// What a client that binds no channel repeats.
    header: String,
    client_first_bare: String,
    server_first: String,
    nonce: String,
}

/// A message that does not follow the protocol, or a proof that does not fit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Malformed(&'static str),
    WrongPassword,
}

impl Exchange {
    /// Reads the client's first message; what to answer is in [`Exchange::challenge`].
    pub fn begin(client_first: &[u8], verifier: Verifier, nonce: &str) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(client_first).map_err(|_| Refusal::Malformed("it is not UTF-8"))?;
        let mut parts = text.splitn(3, ',');
        let (flag, identity, bare) = (parts.next(), parts.next(), parts.next());
        let (Some(flag @ ("n" | "y")), Some(""), Some(bare)) = (flag, identity, bare) else {
            return Err(Refusal::Malformed("the header asks for a channel binding or another identity"));
        };
        let theirs = bare.split(',').find_map(|part| part.strip_prefix("r=")).filter(|nonce| !nonce.is_empty());
        let theirs = theirs.ok_or(Refusal::Malformed("it holds no nonce"))?;
        let nonce = format!("{theirs}{nonce}");
        let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(&verifier.salt), verifier.iterations);
        let header = STANDARD.encode(format!("{flag},,"));
        Ok(Self { verifier, header, client_first_bare: bare.to_owned(), server_first, nonce })
    }

    pub fn challenge(&self) -> &str {
        &self.server_first
    }

    /// Checks the client's proof; gives the server's own.
    pub fn finish(&self, client_final: &[u8]) -> Result<String, Refusal> {
        let text = std::str::from_utf8(client_final).map_err(|_| Refusal::Malformed("it is not UTF-8"))?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(Refusal::Malformed("it holds no proof"))?;
        let mut parts = without_proof.split(',');
        if parts.next().and_then(|part| part.strip_prefix("c=")) != Some(&self.header) {
            return Err(Refusal::Malformed("the channel binding is another one than before"));
        }
        if parts.next().and_then(|part| part.strip_prefix("r=")) != Some(&self.nonce) {
            return Err(Refusal::Malformed("the nonce is another one than before"));
        }
        let proof = STANDARD.decode(proof).map_err(|_| Refusal::Malformed("the proof is not base64"))?;
        let spoken = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        let signature = mac(&self.verifier.stored_key, spoken.as_bytes());
        if proof.len() != signature.len() {
            return Err(Refusal::WrongPassword);
        }
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let found = digest::digest(&digest::SHA256, &client_key);
        // Compared as keyed hashes, how long it takes says nothing of the key.
        let key = hmac::Key::new(hmac::HMAC_SHA256, &signature);
        let expected = hmac::sign(&key, &self.verifier.stored_key);
        hmac::verify(&key, found.as_ref(), expected.as_ref()).map_err(|_| Refusal::WrongPassword)?;
        Ok(format!("v={}", STANDARD.encode(mac(&self.verifier.server_key, spoken.as_bytes()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::sql::{Passwords, PostgresSettings};

    /// The example of RFC 7677.
    fn example() -> Exchange {
        let nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let file = tempfile::NamedTempFile::new().unwrap();
        let verifier = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                        wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        std::fs::write(file.path(), format!("user:{verifier}")).unwrap();
        let settings = PostgresSettings { password_file: file.path().to_owned(), ..Default::default() };
        let verifier = Passwords::load(&settings).unwrap().of("user").unwrap().clone();
        Exchange::begin(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", verifier, nonce).unwrap()
    }

    const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

    #[test]
    fn the_example_of_the_standard_is_admitted() {
        let exchange = example();
        assert_eq!(
            exchange.challenge(),
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let proof = format!("{FINAL},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        assert_eq!(exchange.finish(proof.as_bytes()).unwrap(), "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_proof_of_another_password_or_another_talk_is_refused() {
        let exchange = example();
        let wrong = format!("{FINAL},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVA=");
        assert_eq!(exchange.finish(wrong.as_bytes()), Err(Refusal::WrongPassword));
        for bad in [
            "c=biws,r=other,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            &format!("{},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", FINAL.replace("biws", "eSws")),
            FINAL,
        ] {
            assert!(matches!(exchange.finish(bad.as_bytes()), Err(Refusal::Malformed(_))), "{bad}");
        }
        let none = Verifier::of_nobody("user", b"secret");
        assert!(Exchange::begin(b"p=tls-server-end-point,,n=,r=x", none, "y").is_err());
    }
}
