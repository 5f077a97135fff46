//! For tests: a server of HTTP that keeps what it is sent, or answers with a status that is no success.
//!
//! It knows nothing of assay, and stands in `tests/it` too.

#![allow(dead_code, reason = "each of those that include it needs another part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// One request: what stands before the body, and the body.
#[derive(Debug, Clone)]
pub struct Received {
    pub head: String,
    pub body: Vec<u8>,
}

#[derive(Default)]
struct Kept {
    received: Mutex<Vec<Received>>,
    arrived: Condvar,
    status: AtomicU16,
    stop: AtomicBool,
    answer: Mutex<Vec<u8>>,
}

pub struct Receiver {
    pub address: SocketAddr,
    kept: Arc<Kept>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Arc::new(Kept { status: AtomicU16::new(200), ..Kept::default() });
        let shared = Arc::clone(&kept);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || drop(answer(stream.unwrap(), &shared)));
            }
        });
        Self { address, kept, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers with this status from now on.
    pub fn say(&self, status: u16, body: &[u8]) {
        self.kept.status.store(status, Ordering::SeqCst);
        body.clone_into(&mut self.kept.answer.lock().unwrap());
    }

    /// Everything so far, refused or not.
    pub fn received(&self) -> Vec<Received> {
        self.kept.received.lock().unwrap().clone()
    }

    /// Waits until so many requests have come.
    pub fn wait_for(&self, requests: usize) -> Vec<Received> {
        let held = self.kept.received.lock().unwrap();
        let patience = Duration::from_secs(60);
        let (held, waited) =
            self.kept.arrived.wait_timeout_while(held, patience, |held| held.len() < requests).unwrap();
        assert!(!waited.timed_out(), "{} of {requests} requests came", held.len());
        held.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.kept.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

fn answer(stream: TcpStream, kept: &Kept) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        // Before anybody hears of it: what is said from then on is for the next request.
        let (status, told) = (kept.status.load(Ordering::SeqCst), kept.answer.lock().unwrap().clone());
        kept.received.lock().unwrap().push(Received { head, body });
        kept.arrived.notify_all();
        write!(&stream, "HTTP/1.1 {status} Told\r\ncontent-length: {}\r\n\r\n", told.len())?;
        (&stream).write_all(&told)?;
    }
}
