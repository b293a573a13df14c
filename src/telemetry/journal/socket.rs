//! The journal's socket: an entry a datagram, or a sealed file of memory when it is too large for one.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr};
use tracing::Level;

use super::{Entry, PREFIX};

/// As systemd's own library asks for; the kernel gives what it allows.
const SEND_BUFFER_BYTES: usize = 8 * 1024 * 1024;

pub(super) struct JournalSocket {
    socket: UnixDatagram,
    path: PathBuf,
    /// Entries that nobody took since the last one that was.
    lost: u64,
}

impl JournalSocket {
    pub(super) fn open(path: &Path) -> io::Result<JournalSocket> {
        let socket = UnixDatagram::unbound()?;
        let _ = set_socket_send_buffer_size(&socket, SEND_BUFFER_BYTES);
        let journal = JournalSocket { socket, path: path.to_owned(), lost: 0 };
        // The journal passes over an empty datagram.
        journal.send(&[])?;
        Ok(journal)
    }

    /// By its name each time, so that a journal which was started anew is found again.
    fn send(&self, entry: &[u8]) -> io::Result<()> {
        match self.socket.send_to(entry, &self.path) {
            Err(error) if is_too_large(&error) => self.send_by_memory(entry),
            sent => sent.map(drop),
        }
    }

    fn send_by_memory(&self, entry: &[u8]) -> io::Result<()> {
        let memory = memfd_create("renewd-log", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut memory = File::from(memory);
        memory.write_all(entry)?;
        // The journal reads it in place, and only when nobody can change it any more.
        fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = [memory.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&files));
        let address = SocketAddrUnix::new(&self.path)?;
        sendmsg_addr(&self.socket, &address, &[] as &[IoSlice<'_>], &mut control, SendFlags::empty())?;
        Ok(())
    }

    fn tell_lost(&mut self) {
        if self.lost == 0 {
            return;
        }
        let mut entry = Entry::begin(&Level::WARN);
        entry.put(&format!("{PREFIX}EVENT"), "log.lost");
        entry.put("MESSAGE", &format!("{} log entries before this one found no journal", self.lost));
        if self.send(&entry.0).is_ok() {
            self.lost = 0;
        }
    }
}

impl Write for JournalSocket {
    /// All of an entry or nothing of it.
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        let sent = self.send(entry);
        match &sent {
            Ok(()) => self.tell_lost(),
            Err(_) => self.lost += 1,
        }
        sent.map(|()| entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_too_large(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| matches!(errno, Errno::MSGSIZE | Errno::NOBUFS))
}
