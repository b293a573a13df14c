//! What may stand between the service and the cloud: passes everything on, and answers in its own way when told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ACCEPT_PAUSE: Duration = Duration::from_millis(2);

/// Its threads are left behind with it, as the practice cloud's are.
pub struct Relay {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    cloud: SocketAddr,
    /// None while nobody listens.
    listener: Mutex<Option<TcpListener>>,
    spoilt: Mutex<Vec<Spoil>>,
    /// Purchases that came, whole.
    purchases: Mutex<Vec<String>>,
}

/// For the next request of that action that names the instance.
#[derive(Clone)]
pub struct Spoil {
    pub action: &'static str,
    pub instance: String,
    /// Whether the cloud gets the request all the same.
    pub reaches_cloud: bool,
    pub answer: Said,
}

#[derive(Clone)]
pub enum Said {
    /// And the connection is closed.
    Once(Vec<u8>),
    /// The first, then the second until the client lets go.
    Endless(Vec<u8>, Vec<u8>),
}

impl Relay {
    pub fn start(cloud: SocketAddr) -> Relay {
        // An address of its own: while it is closed nobody else is given its port.
        let listener = listen(([127, 0, 0, 77], 0).into());
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            cloud,
            listener: Mutex::new(Some(listener)),
            spoilt: Mutex::default(),
            purchases: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || accept(&serving));
        Relay { address, shared }
    }

    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn spoil(&self, spoils: impl IntoIterator<Item = Spoil>) {
        self.shared.spoilt.lock().unwrap().extend(spoils);
    }

    pub fn purchases_of(&self, instance: &str) -> usize {
        let quoted = format!("\"{instance}\"");
        self.shared.purchases.lock().unwrap().iter().filter(|request| request.contains(&quoted)).count()
    }

    /// New connections are refused; those that stand are served on.
    pub fn close(&self) {
        *self.shared.listener.lock().unwrap() = None;
    }

    pub fn open(&self) {
        *self.shared.listener.lock().unwrap() = Some(listen(self.address));
    }
}

fn listen(address: SocketAddr) -> TcpListener {
    let listener = TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

fn accept(shared: &Arc<Shared>) {
    loop {
        let accepted = shared.listener.lock().unwrap().as_ref().map(TcpListener::accept);
        match accepted {
            Some(Ok((stream, _))) => {
                stream.set_nonblocking(false).unwrap();
                let shared = Arc::clone(shared);
                std::thread::spawn(move || converse(stream, &shared));
            }
            _ => std::thread::sleep(ACCEPT_PAUSE),
        }
    }
}

/// Until the client, or what it was told to say, ends it.
fn converse(mut client: TcpStream, shared: &Shared) {
    while let Some(request) = read_message(&mut client) {
        let text = String::from_utf8_lossy(&request).into_owned();
        if text.contains("RenewInstance\r\n") && !text.contains("InquiryPrice") {
            shared.purchases.lock().unwrap().push(text.clone());
        }
        let spoil = take_spoil(shared, &text);
        let reaches_cloud = spoil.as_ref().is_none_or(|spoil| spoil.reaches_cloud);
        let answer = if reaches_cloud { ask(shared.cloud, &request) } else { Vec::new() };
        match spoil.map(|spoil| spoil.answer) {
            None if client.write_all(&answer).is_ok() => {}
            None => return,
            Some(Said::Once(bytes)) => {
                let _ = client.write_all(&bytes);
                return;
            }
            Some(Said::Endless(first, again)) => {
                let mut next = &first;
                while client.write_all(next).is_ok() {
                    next = &again;
                }
                return;
            }
        }
    }
}

fn take_spoil(shared: &Shared, request: &str) -> Option<Spoil> {
    let mut spoilt = shared.spoilt.lock().unwrap();
    let fits = |spoil: &Spoil| {
        request.contains(&format!(": {}\r\n", spoil.action))
            && request.contains(&format!("\"{}\"", spoil.instance))
    };
    let at = spoilt.iter().position(fits)?;
    Some(spoilt.remove(at))
}

fn ask(cloud: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(cloud).unwrap();
    stream.write_all(request).unwrap();
    read_message(&mut stream).unwrap_or_default()
}

/// A head and a body of the length that it states; None when the other side is done.
fn read_message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    let mut some = [0; 4096];
    loop {
        if let Some(at) = message.windows(4).position(|end| end == b"\r\n\r\n")
            && message.len() >= at + 4 + content_length(&message[..at])
        {
            return Some(message);
        }
        match stream.read(&mut some) {
            Ok(0) | Err(_) => return None,
            Ok(length) => message.extend_from_slice(&some[..length]),
        }
    }
}

fn content_length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok()).unwrap_or(0)
}
