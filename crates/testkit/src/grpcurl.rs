//! grpcurl: a gRPC client that knows nothing of our schema but what the server tells it by reflection.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;

use crate::client::clients_directory;
use crate::process::{Finished, finish};
use crate::skip::skip;

/// grpcurl on one server.
#[derive(Debug, Clone, Copy)]
pub struct Grpcurl {
    server: SocketAddr,
}

impl Grpcurl {
    /// The installed program, or a recorded skip of the test.
    pub fn find(server: SocketAddr, test: &str) -> Option<Self> {
        if clients_directory().join("grpcurl").exists() {
            return Some(Self { server });
        }
        skip(test, "no grpcurl: run scripts/install-test-clients");
        None
    }

    /// Names of the services, by reflection.
    pub fn services(&self) -> Vec<String> {
        let listed = self.run(&[&self.server.to_string(), "list"], &[]).expect_success();
        listed.lines().map(str::to_owned).collect()
    }

    /// Calls a method with a request in JSON; returns the answer in JSON, with fields at their default value spelled out.
    ///
    /// # Panics
    /// When the call fails.
    pub fn call(&self, method: &str, request: &Value) -> Value {
        let answer = self.try_call(method, request).expect_success();
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{answer:?}: {error}"))
    }

    /// Calls a method that may fail; standard error then holds the status and its details.
    pub fn try_call(&self, method: &str, request: &Value) -> Finished {
        let server = self.server.to_string();
        let arguments = ["-emit-defaults", "-max-msg-sz", "67108864", "-d", "@", &server, method];
        self.run(&arguments, request.to_string().as_bytes())
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> Finished {
        let mut command = Command::new(clients_directory().join("grpcurl"));
        finish(command.arg("-plaintext").args(arguments), input)
    }

    /// Bytes as a JSON request or answer carries them.
    pub fn encode_bytes(bytes: &[u8]) -> String {
        let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
        for group in bytes.chunks(3) {
            let mut padded = [0_u8; 4];
            padded[1..=group.len()].copy_from_slice(group);
            let bits = u32::from_be_bytes(padded);
            for position in 0..4 {
                let sextet = (bits >> (18 - 6 * position)) & 0x3f;
                let known = position <= group.len();
                text.push(if known { char::from(BASE64[sextet as usize]) } else { '=' });
            }
        }
        text
    }

    /// The inverse of [`encode_bytes`](Self::encode_bytes).
    ///
    /// # Panics
    /// When it is no base64.
    pub fn decode_bytes(text: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
        for group in text.trim_end_matches('=').as_bytes().chunks(4) {
            let bits = group.iter().fold(0_u32, |bits, character| {
                let sextet = BASE64.iter().position(|known| known == character).expect("base64");
                (bits << 6) | sextet as u32
            });
            let aligned = (bits << (6 * (4 - group.len()))).to_be_bytes();
            bytes.extend_from_slice(&aligned[1..group.len()]);
        }
        bytes
    }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip_through_json_text() {
        // RFC 4648, section 10.
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foobar", "Zm9vYmFy")] {
            assert_eq!(Grpcurl::encode_bytes(bytes.as_bytes()), text);
            assert_eq!(Grpcurl::decode_bytes(text), bytes.as_bytes());
        }
        assert_eq!(Grpcurl::decode_bytes("/+8="), [0xff, 0xef]);
    }
}
