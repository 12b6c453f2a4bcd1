//! Small messages are sent at once. sqlx 0.9.0 does not ask for it (`TCP_NODELAY`; its issue 4335, mended after that
//! release): the end of each COPY would wait 40 ms for the server's delayed acknowledgement of what came before. To be
//! removed with the release that does.

use std::fs;
use std::os::fd::{BorrowedFd, RawFd};

use rustix::net::sockopt::set_tcp_nodelay;

/// Sets it on every TCP socket that this process has; sqlx does not hand out its own.
pub fn on_all_sockets() {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    let is_socket = |entry: &fs::DirEntry| {
        fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    };
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<RawFd>().ok();
    for descriptor in entries.flatten().filter(is_socket).filter_map(number) {
        #[expect(
            unsafe_code,
            reason = "a number that is closed or another's by now is refused, or gets what it has"
        )]
        // SAFETY: borrowed for one call that neither keeps nor closes it.
        let socket = unsafe { BorrowedFd::borrow_raw(descriptor) };
        // Refused by sockets of another kind.
        let _refused = set_tcp_nodelay(socket, true);
    }
}
