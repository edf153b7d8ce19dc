//! The proofs, and what cannot be made into one.

use ferrotunnel_common::Token;

use super::*;

fn key(token: &str) -> ClientKey {
    ClientKey::derive(&Token::new(token).unwrap()).unwrap()
}

const NONCES: Nonces = Nonces { server: [1; 32], client: [2; 32] };
const BINDING: Binding = Binding::Exporter([3; 32]);
const NAMED: &str = "ft1_04106105_000g40r40m30e209185gr38e1w8124gk2gahc5rr34d1p70x3rfg1nwfttr";

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

/// The vectors of PROTOCOL.md, read from there.
#[test]
fn proofs_are_those_of_the_protocol_text() {
    let text = include_str!("../../../ferrotunnel-protocol/PROTOCOL.md");
    let vectors = text.split("Test vectors,").nth(1).unwrap().split("```").nth(1).unwrap();
    let vectors: Vec<&str> = vectors.split("\n\n").collect();
    assert_eq!(vectors.len(), 2);
    let sequence = |from: u8| std::array::from_fn(|at| from + at as u8);
    let nonces = Nonces { server: sequence(0), client: sequence(32) };
    for (token, vectors) in ["swordfish", NAMED].into_iter().zip(vectors) {
        // A value is the last word of its line; one that is longer goes on in the next line.
        let words: Vec<&str> = vectors.split_whitespace().collect();
        let after = |label: &str, count: usize| {
            let label: Vec<&str> = label.split(' ').collect();
            let at = words.windows(label.len()).position(|seen| seen == label).unwrap();
            words[at + label.len()..][..count].concat()
        };
        assert_eq!(after("token", 1), token);
        let (key, verifier) = (key(token), key(token).verifier());
        let bound = Binding::Exporter([0xbb; 32]);
        for (binding, label) in [
            (Binding::Plaintext, "empty binding, client"),
            (bound, "binding of 32 bytes 0xbb, client"),
        ] {
            assert_eq!(key.proof(&binding, &nonces).to_vec(), hex(&after(label, 2)));
        }
        let servers: Vec<Vec<u8>> = words
            .windows(2)
            .filter(|seen| seen[0] == "server" && seen[1] != "key")
            .map(|seen| hex(seen[1]))
            .collect();
        assert_eq!(
            servers,
            [
                verifier.server_proof(&Binding::Plaintext, &nonces).to_vec(),
                verifier.server_proof(&bound, &nonces).to_vec()
            ]
        );
        if token == NAMED {
            assert_eq!(after("verifier", 2), verifier.to_string());
        }
    }
}

#[test]
fn a_client_s_proof_holds_for_its_token_connection_and_nonces_only() {
    let proof = key("secret").proof(&BINDING, &NONCES);
    let verifier = key("secret").verifier();
    assert!(verifier.is_client_proof(&proof, &BINDING, &NONCES));
    assert!(!key("other").verifier().is_client_proof(&proof, &BINDING, &NONCES));
    assert!(!verifier.is_client_proof(&proof, &Binding::Exporter([4; 32]), &NONCES));
    assert!(!verifier.is_client_proof(&proof, &Binding::Plaintext, &NONCES));
    let swapped = Nonces { server: NONCES.client, client: NONCES.server };
    assert!(!verifier.is_client_proof(&proof, &BINDING, &swapped));
    assert!(!verifier.is_client_proof(&proof[..63], &BINDING, &NONCES));
}

#[test]
fn a_server_s_proof_holds_for_its_token_connection_and_nonces_only() {
    let proof = key("secret").verifier().server_proof(&BINDING, &NONCES);
    assert!(key("secret").is_server_proof(&proof, &BINDING, &NONCES));
    assert!(!key("other").is_server_proof(&proof, &BINDING, &NONCES));
    assert!(!key("secret").is_server_proof(&proof, &Binding::Exporter([4; 32]), &NONCES));
    assert!(!key("secret").is_server_proof(&proof, &Binding::Plaintext, &NONCES));
    let swapped = Nonces { server: NONCES.client, client: NONCES.server };
    assert!(!key("secret").is_server_proof(&proof, &BINDING, &swapped));
    assert!(!key("secret").is_server_proof(&proof[..31], &BINDING, &NONCES));
}

/// Whoever has read all that a server keeps has 64 bytes of key. None of what can be done with them by
/// the means of this crate is a client's proof: as a secret, as a seed, or as a proof of the server.
#[test]
fn nothing_in_a_verifier_makes_a_client_s_proof() {
    let verifier = Verifier::of(&Token::new(NAMED).unwrap()).unwrap();
    let stolen = verifier.to_string();
    let (_, keys) = stolen.strip_prefix("ftv1:").unwrap().split_once(':').unwrap();
    let (public, server_key) = keys.split_once(':').unwrap();
    let id: [u8; 5] = ferrotunnel_common::base32::decode(verifier.token_id()).unwrap();
    for key in [public, &server_key[..52]] {
        let key: [u8; 32] = ferrotunnel_common::base32::decode(key).unwrap();
        let as_secret = ClientKey::derive(&Token::named(id, key)).unwrap();
        let proof = as_secret.proof(&BINDING, &NONCES);
        assert!(!verifier.is_client_proof(&proof, &BINDING, &NONCES));
        let as_seed = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&key).unwrap();
        let proof = as_seed.sign(&message(CLIENT, &BINDING, &NONCES));
        assert!(!verifier.is_client_proof(proof.as_ref(), &BINDING, &NONCES));
    }
    let as_server = verifier.server_proof(&BINDING, &NONCES);
    let twice = [as_server, as_server].concat();
    assert!(!verifier.is_client_proof(&twice, &BINDING, &NONCES));
}

#[test]
fn a_secret_under_another_id_is_another_token() {
    let (one, other) = (Token::named([1; 5], [7; 32]), Token::named([2; 5], [7; 32]));
    let proof = ClientKey::derive(&one).unwrap().proof(&BINDING, &NONCES);
    assert!(!Verifier::of(&other).unwrap().is_client_proof(&proof, &BINDING, &NONCES));
}

#[test]
fn a_verifier_is_one_line_and_says_what_is_wrong_with_it() {
    let (_, verifier) = issue_token().unwrap();
    let text = verifier.to_string();
    assert!(text.starts_with("ftv1:") && text.split_whitespace().count() == 1, "{text}");
    assert_eq!(text.parse(), Ok(verifier.clone()));
    assert_eq!(format!(" {text}\n").parse(), Ok(verifier));
    let error = |text: &str| text.parse::<Verifier>().unwrap_err();
    assert_eq!(error(NAMED), VerifierError::Token);
    assert_eq!(error("ftv2:a:b:c"), VerifierError::Prefix);
    assert_eq!(error("ftv1:a:b"), VerifierError::Fields);
    assert_eq!(error(&format!("{text}:")), VerifierError::Fields);
    let mut fields: Vec<&str> = text.split(':').collect();
    assert_eq!(error(&fields.join(":").replacen(fields[1], "x", 1)), VerifierError::Field("id"));
    fields[2] = "abc";
    assert_eq!(error(&fields.join(":")), VerifierError::Field("public key"));
    assert_eq!(error(&text[..text.len() - 1]), VerifierError::Field("server key"));
    // Each single character counts.
    for at in "ftv1:".len()..text.len() {
        let wrong = if text[at..].starts_with('7') { "8" } else { "7" };
        let changed = format!("{}{wrong}{}", &text[..at], &text[at + 1..]);
        assert!(changed.parse::<Verifier>().is_err(), "{changed}");
    }
}

#[test]
fn debug_shows_no_key() {
    let (_, verifier) = issue_token().unwrap();
    let shown = format!("{verifier:?}");
    assert!(shown.contains(verifier.token_id()));
    for field in verifier.to_string().split(':').skip(2) {
        assert!(!shown.contains(field), "{shown}");
    }
}
