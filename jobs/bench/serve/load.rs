//! Load over many connections from one thread: a client that has a thread for each connection measures the scheduler.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use assay::domain::Clock;
use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Events, Interest, Poll, Token};

use super::client::Request;

/// So long after the last request was due the last answer may come.
const PATIENCE_US: i64 = 30_000_000;

/// When requests are sent.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// So many a second at even times, whether or not those before were answered: a late answer makes the next ones late.
    Rate(u64),
    /// As fast as answers come.
    Saturated,
}

/// Where requests go.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    Tcp(SocketAddr),
    Unix(&'a Path),
}

/// For how long, over how many connections.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub pace: Pace,
    pub connections: usize,
    pub seconds: u64,
}

/// What was measured.
pub struct Answers {
    /// Microseconds from when each request was due, or sent, to its whole answer.
    pub times_us: Vec<i64>,
    pub due: u64,
    pub elapsed_us: i64,
}

impl Load {
    /// Sends the requests in turn.
    ///
    /// # Errors
    /// When a connection fails, or an answer is not a 200.
    pub fn run(
        self,
        place: Place<'_>,
        requests: &[Request],
        clock: &dyn Clock,
        stop: &AtomicBool,
    ) -> anyhow::Result<Answers> {
        let mut poll = Poll::new()?;
        let mut open = Vec::with_capacity(self.connections);
        for number in 0..self.connections {
            let mut stream = place.connect()?;
            poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
            open.push(Open { stream, came: Vec::with_capacity(4096), asked_us: 0 });
        }
        let mut idle: VecDeque<usize> = (0..self.connections).collect();
        let mut events = Events::with_capacity(self.connections);
        let (mut times_us, mut sent) = (Vec::new(), 0_u64);
        let began_us = clock.now_us();
        let until_us = began_us + i64::try_from(self.seconds).unwrap_or(10) * 1_000_000;
        let due_us = |number: u64, now_us: i64| match self.pace {
            Pace::Rate(rate) => began_us + i64::try_from(number * 1_000_000 / rate).unwrap_or(i64::MAX),
            Pace::Saturated => now_us,
        };
        loop {
            let now_us = clock.now_us();
            while let Some(number) = idle.front().copied().filter(|_| !stop.load(Ordering::Relaxed)) {
                let at_us = due_us(sent, now_us);
                if at_us > now_us && matches!(self.pace, Pace::Rate(_)) || at_us >= until_us {
                    break;
                }
                idle.pop_front();
                let connection = open.get_mut(number).context("a connection")?;
                let request = requests.get(sent as usize % requests.len()).context("a request")?;
                connection.ask(request, at_us)?;
                sent += 1;
            }
            let is_over = due_us(sent, now_us) >= until_us || stop.load(Ordering::Relaxed);
            if is_over && idle.len() == open.len() {
                break;
            }
            if now_us > until_us + PATIENCE_US {
                bail!("{} requests are not answered", open.len() - idle.len());
            }
            // A sleep is longer than the time between two requests; who needs the core gets it.
            let wait = match self.pace {
                Pace::Rate(_) => Duration::ZERO,
                Pace::Saturated => Duration::from_millis(100),
            };
            match poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                done => done?,
            }
            if events.is_empty() {
                std::thread::yield_now();
            }
            for event in &events {
                let Token(number) = event.token();
                let connection = open.get_mut(number).context("a connection")?;
                if connection.is_answered()? {
                    times_us.push(clock.now_us() - connection.asked_us);
                    idle.push_back(number);
                }
            }
        }
        Ok(Answers { times_us, due: sent, elapsed_us: clock.now_us() - began_us })
    }
}

impl Place<'_> {
    /// Connected before it is watched: a request is written as soon as it is due.
    fn connect(self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(address) => {
                let stream = std::net::TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                Box::new(TcpStream::from_std(stream))
            }
            Self::Unix(path) => {
                let stream = std::os::unix::net::UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                Box::new(UnixStream::from_std(stream))
            }
        })
    }
}

trait Stream: Read + Write + Source {}

impl<T: Read + Write + Source> Stream for T {}

struct Open {
    stream: Box<dyn Stream>,
    /// Of the answer so far.
    came: Vec<u8>,
    asked_us: i64,
}

impl Open {
    fn ask(&mut self, request: &Request, at_us: i64) -> anyhow::Result<()> {
        self.asked_us = at_us;
        // A transaction is smaller than what a socket takes at once.
        self.stream.write_all(request.bytes()).context("a request does not go out at once")
    }

    fn is_answered(&mut self) -> anyhow::Result<bool> {
        let mut part = [0; 4096];
        loop {
            match self.stream.read(&mut part) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(count) => {
                    self.came.extend_from_slice(part.get(..count).unwrap_or_default());
                    if let Some(status) = whole(&self.came)? {
                        if status != 200 {
                            bail!("{}", String::from_utf8_lossy(&self.came));
                        }
                        self.came.clear();
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The status of an answer that is there as a whole.
fn whole(came: &[u8]) -> anyhow::Result<Option<u16>> {
    const LENGTH: &[u8] = b"content-length: ";
    let (mut head, mut length) = (0, None);
    for line in came.split_inclusive(|byte| *byte == b'\n') {
        head += line.len();
        if !line.ends_with(b"\n") {
            break;
        }
        if line == b"\r\n" {
            let length = length.context("an answer without a length")?;
            return Ok(if came.len() >= head + length { Some(status(came)?) } else { None });
        }
        if let Some((name, value)) = line.split_at_checked(LENGTH.len())
            && name.eq_ignore_ascii_case(LENGTH)
        {
            length = Some(std::str::from_utf8(value)?.trim_end().parse::<usize>()?);
        }
    }
    Ok(None)
}

fn status(came: &[u8]) -> anyhow::Result<u16> {
    let status = came.split(|byte| *byte == b' ').nth(1).context("a status")?;
    Ok(std::str::from_utf8(status)?.parse()?)
}
