//! The packet mover: TUN, UDP, threads and the control socket. All IO and all unsafe.
