//! For tests: the far end of a connection, doing as told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What to do with a connection.
#[derive(Clone, Debug)]
pub enum Act {
    /// Read one request whole, write this and close.
    Answer(Vec<u8>),
    /// Read one request whole, write this and hold the line until the client lets go.
    AnswerAndHold(Vec<u8>),
    /// Take the first bytes, whatever they are, write this and hold the line.
    Blurt(Vec<u8>),
    /// Read one request whole, write the first and then the second again and again until the client lets go.
    Endless(Vec<u8>, Vec<u8>, Duration),
}

/// Serves as many connections as there are acts, one after the other.
pub struct Listener {
    pub address: SocketAddr,
    serving: JoinHandle<Served>,
}

pub struct Served {
    /// Heads and bodies as they came.
    pub requests: Vec<String>,
    pub is_another_waiting: bool,
}

impl Listener {
    pub fn start(acts: impl IntoIterator<Item = Act>) -> Listener {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let acts: Vec<_> = acts.into_iter().collect();
        Listener { address, serving: thread::spawn(move || serve(&listener, acts)) }
    }

    /// Ends once every act is played. The client's side goes on meanwhile, or it would never let go.
    pub async fn finish(self) -> Served {
        tokio::task::spawn_blocking(|| self.serving.join().unwrap()).await.unwrap()
    }
}

/// An answer with the headers that a client needs.
pub fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let date = "Date: Tue, 14 Nov 2023 22:13:20 GMT";
    format!("HTTP/1.1 {status}\r\n{date}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

fn serve(listener: &TcpListener, acts: Vec<Act>) -> Served {
    let requests = acts.into_iter().map(|act| play(&listener.accept().unwrap().0, act)).collect();
    listener.set_nonblocking(true).unwrap();
    Served { requests, is_another_waiting: listener.accept().is_ok() }
}

fn play(mut stream: &TcpStream, act: Act) -> String {
    let (request, bytes, hold) = match act {
        Act::Endless(first, again, pause) => {
            let request = read_request(stream);
            let mut next = first;
            while stream.write_all(&next).is_ok() {
                thread::sleep(pause);
                next.clone_from(&again);
            }
            return request;
        }
        Act::Answer(bytes) => (read_request(stream), bytes, false),
        Act::AnswerAndHold(bytes) => (read_request(stream), bytes, true),
        Act::Blurt(bytes) => (read_some(stream), bytes, true),
    };
    // The client may have gone already.
    let _ = stream.write_all(&bytes);
    if hold {
        let _ = stream.read_to_end(&mut Vec::new());
    }
    request
}

fn read_some(mut stream: &TcpStream) -> String {
    let mut some = [0; 1024];
    let length = stream.read(&mut some).unwrap();
    String::from_utf8_lossy(&some[..length]).into_owned()
}

fn read_request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut request).unwrap(), 0, "the request's head ended early");
    }
    let mut body = vec![0; content_length(&request)];
    reader.read_exact(&mut body).unwrap();
    request + str::from_utf8(&body).unwrap()
}

fn content_length(head: &str) -> usize {
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.map_or(0, |length| length.parse().unwrap())
}
