//! Sockets of every family.

use std::{
    fs, io,
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
};

use super::{attacks, call, done};
use crate::ground::Ground;

attacks![
    connect_to_a_port_of_the_machine["network", "privileged"],
    send_a_datagram["network", "privileged"],
    listen_on_a_port["network", "privileged"],
    listen_on_a_low_port,
    connect_to_an_abstract_socket,
    // Landlock keeps nobody from listening where nobody is reached.
    listen_on_an_abstract_socket["network"],
    connect_to_a_path_socket_outside,
    connect_to_the_init,
    see_the_machines_interfaces["network", "privileged"],
    open_a_packet_socket,
    open_a_raw_socket,
    open_a_vsock,
    open_a_socket_of_the_crypto_interface,
    open_a_key_socket,
    open_a_bluetooth_socket,
    open_an_audit_socket,
    open_a_device_event_socket,
    open_a_route_socket["network", "privileged"],
    add_a_dummy_link["privileged"],
    type_into_a_terminal,
];

fn connect_to_a_port_of_the_machine(ground: &Ground) -> io::Result<String> {
    done(TcpStream::connect(("127.0.0.1", ground.port)))
}

fn send_a_datagram(_: &Ground) -> io::Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    done(socket.send_to(b"x", "127.0.0.1:9"))
}

fn listen_on_a_port(_: &Ground) -> io::Result<String> {
    done(TcpListener::bind("127.0.0.1:0"))
}

fn listen_on_a_low_port(_: &Ground) -> io::Result<String> {
    done(TcpListener::bind("127.0.0.1:7"))
}

fn connect_to_an_abstract_socket(ground: &Ground) -> io::Result<String> {
    done(UnixStream::connect_addr(&SocketAddr::from_abstract_name(&ground.abstract_name)?))
}

fn listen_on_an_abstract_socket(_: &Ground) -> io::Result<String> {
    done(UnixListener::bind_addr(&SocketAddr::from_abstract_name("aios-escape-listener")?))
}

fn connect_to_a_path_socket_outside(ground: &Ground) -> io::Result<String> {
    done(UnixStream::connect(&ground.socket))
}

fn connect_to_the_init(_: &Ground) -> io::Result<String> {
    let sockets =
        ["/run/aios/init.sock", "/run/dbus/system_bus_socket", "/run/systemd/private", "/var/run/docker.sock"];
    let connected = sockets.iter().find(|path| UnixStream::connect(path).is_ok());
    connected.map(|path| (*path).into()).ok_or_else(|| io::Error::other("none answers"))
}

fn see_the_machines_interfaces(_: &Ground) -> io::Result<String> {
    let devices = fs::read_to_string("/proc/self/net/dev")?;
    let others: Vec<&str> = devices.lines().skip(2).filter(|line| !line.trim_start().starts_with("lo:")).collect();
    if others.is_empty() { Err(io::Error::other("only a loop of its own")) } else { Ok(others.join("; ")) }
}

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<String> {
    done(call!(libc::SYS_socket, family, kind, protocol))
}

fn open_a_packet_socket(_: &Ground) -> io::Result<String> {
    socket(libc::AF_PACKET, libc::SOCK_RAW, 0x0300)
}

fn open_a_raw_socket(_: &Ground) -> io::Result<String> {
    socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)
}

fn open_a_vsock(_: &Ground) -> io::Result<String> {
    socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)
}

fn open_a_socket_of_the_crypto_interface(_: &Ground) -> io::Result<String> {
    socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0)
}

fn open_a_key_socket(_: &Ground) -> io::Result<String> {
    socket(libc::AF_KEY, libc::SOCK_RAW, 2)
}

fn open_a_bluetooth_socket(_: &Ground) -> io::Result<String> {
    socket(libc::AF_BLUETOOTH, libc::SOCK_RAW, 1)
}

fn open_an_audit_socket(_: &Ground) -> io::Result<String> {
    socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT)
}

fn open_a_device_event_socket(_: &Ground) -> io::Result<String> {
    socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_KOBJECT_UEVENT)
}

fn open_a_route_socket(_: &Ground) -> io::Result<String> {
    socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)
}

/// `RTM_DELLINK` of a link that does not exist: whether one may is decided before it is looked for.
fn add_a_dummy_link(_: &Ground) -> io::Result<String> {
    let route = call!(libc::SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    let mut request = [0_u8; 32];
    request[..4].copy_from_slice(&32_u32.to_ne_bytes());
    request[4..6].copy_from_slice(&libc::RTM_DELLINK.to_ne_bytes());
    request[6..8].copy_from_slice(&5_u16.to_ne_bytes()); // NLM_F_REQUEST | NLM_F_ACK
    request[20..24].copy_from_slice(&0x7FFF_FFF0_u32.to_ne_bytes());
    call!(libc::SYS_sendto, route, request.as_ptr(), request.len(), 0, 0, 0)?;
    let mut answer = [0_u8; 256];
    call!(libc::SYS_recvfrom, route, answer.as_mut_ptr(), answer.len(), 0, 0, 0)?;
    let code = i32::from_ne_bytes(answer[16..20].try_into().map_err(io::Error::other)?);
    if code == -libc::EPERM { Err(io::Error::from_raw_os_error(-code)) } else { Ok(format!("answer {code}")) }
}

fn type_into_a_terminal(_: &Ground) -> io::Result<String> {
    let met = call!(libc::SYS_ioctl, 0, libc::TIOCSTI, c"x".as_ptr());
    match met {
        // It was answered: input is no terminal, that is all.
        Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => Ok("the request is let through".into()),
        other => done(other),
    }
}
