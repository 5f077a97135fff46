//! The least that HTTP/1.1 needs on the side of a client: the bench measures the server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, bail};

/// A request as it goes over the wire.
pub struct Request(Vec<u8>);

impl Request {
    pub fn json(path: &str, body: &[u8]) -> Self {
        Self::new(path, "application/json", body)
    }

    pub fn arrow(path: &str, body: &[u8]) -> Self {
        Self::new(path, "application/vnd.apache.arrow.stream", body)
    }

    /// What asks for nothing that must be computed.
    pub fn get(path: &str) -> Self {
        Self(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn new(path: &str, kind: &str, body: &[u8]) -> Self {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        Self([head.as_bytes(), body].concat())
    }
}

/// A connection that is kept alive.
pub struct Connection {
    stream: BufReader<TcpStream>,
    line: String,
    body: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), line: String::new(), body: Vec::new() })
    }

    /// Sends a request and reads its answer, which must be a 200.
    pub fn ask(&mut self, request: &Request) -> anyhow::Result<()> {
        self.stream.get_mut().write_all(&request.0)?;
        let mut length = 0;
        let mut status = String::new();
        loop {
            self.line.clear();
            if self.stream.read_line(&mut self.line)? == 0 {
                bail!("the server closed the connection");
            }
            let line = self.line.trim_end();
            if line.is_empty() {
                break;
            }
            if status.is_empty() {
                line.clone_into(&mut status);
            }
            if let Some((name, value)) = line.split_once(": ")
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.parse().context("a length")?;
            }
        }
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body)?;
        if !status.starts_with("HTTP/1.1 200") {
            bail!("{status}: {}", String::from_utf8_lossy(&self.body).chars().take(300).collect::<String>());
        }
        Ok(())
    }
}
