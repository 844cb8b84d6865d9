//! A desktop without a screen: a TCP server that handshake like a VNC server, then does what one
//! letter asks for.
//!
//! RFB messages are understood, too: after an update request (3) it sends updates
//! without end, after a key event (4) it sends a Bell for each. `e` echoes, `s` sends without end,
//! `k` discards without end, `d` sends 1 Mbit/s as a busy desktop does, `q` is silent.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval};

use crate::Outcome;

/// Bytes of one write.
const CHUNK: usize = 64 << 10;
/// A desktop at 1 Mbit/s: 25 updates of 5000 bytes a second.
const UPDATE: (Duration, usize) = (Duration::from_millis(40), 5000);

/// Addresses of the desktop: with the RFB handshake, and without.
#[derive(Clone, Copy)]
pub struct FakeDesktop {
    pub rfb: SocketAddr,
    pub raw: SocketAddr,
}

impl FakeDesktop {
    pub async fn start() -> Outcome<Self> {
        let (rfb, raw) =
            (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
        let here = Self { rfb: rfb.local_addr()?, raw: raw.local_addr()? };
        for (listener, handshake) in [(rfb, true), (raw, false)] {
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(async move {
                        let _ = serve(stream, handshake).await;
                    });
                }
            });
        }
        Ok(here)
    }
}

/// `ServerInit` (section 7.3.2): one pixel of 32 bits, no name.
pub const SERVER_INIT: [u8; 24] =
    [0, 1, 0, 1, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0, 0, 0, 0, 0];

/// Updates of 64 rectangles each, as a desktop that scrolls sends them: Tight of about 2 KiB, now
/// and then a copy.
pub fn updates() -> Vec<u8> {
    let mut chunk = Vec::new();
    while chunk.len() < CHUNK {
        chunk.extend([0, 0, 0, 64]);
        for n in 0..64 {
            chunk.extend([0, 0, 0, 0, 0, 64, 0, 64]);
            if n % 16 == 0 {
                chunk.extend([0, 0, 0, 1, 0, 0, 0, 0]);
            } else {
                // A control byte without filter, then a length of 2048 in two bytes.
                chunk.extend([0, 0, 0, 7, 0, 0x80, 0x10]);
                chunk.resize(chunk.len() + 2048, 0x5a);
            }
        }
    }
    chunk
}

async fn serve(mut stream: TcpStream, handshake: bool) -> Outcome<()> {
    stream.set_nodelay(true)?;
    if handshake {
        // RFC 6143, section 7.1, 7.2.2 and 7.3; any answer to the challenge will do.
        stream.write_all(b"RFB 003.008\n").await?;
        stream.read_exact(&mut [0; 12]).await?;
        stream.write_all(&[1, 2]).await?;
        stream.read_exact(&mut [0; 1]).await?;
        stream.write_all(&[7; 16]).await?;
        stream.read_exact(&mut [0; 16]).await?;
        stream.write_all(&[0; 4]).await?;
        stream.read_exact(&mut [0; 1]).await?;
        stream.write_all(&SERVER_INIT).await?;
    }
    let mut buffer = vec![0; 64];
    match stream.read_u8().await? {
        b'e' => {
            buffer.resize(4096, 0);
            loop {
                let n = stream.read(&mut buffer).await?;
                if n == 0 {
                    return Ok(());
                }
                stream.write_all(&buffer[..n]).await?;
            }
        }
        b's' => {
            let chunk = vec![0x5a; CHUNK];
            loop {
                stream.write_all(&chunk).await?;
            }
        }
        3 => {
            stream.read_exact(&mut [0; 9]).await?;
            let chunk = updates();
            loop {
                stream.write_all(&chunk).await?;
            }
        }
        4 => {
            stream.read_exact(&mut [0; 7]).await?;
            loop {
                stream.write_all(&[2]).await?;
                stream.read_exact(&mut [0; 8]).await?;
            }
        }
        b'd' => {
            let chunk = vec![0x5a; UPDATE.1];
            let mut clock = interval(UPDATE.0);
            // Without `Skip`, all desktops would be synchronized after a pause of the machine.
            clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                clock.tick().await;
                stream.write_all(&chunk).await?;
            }
        }
        b'k' => {
            buffer.resize(CHUNK, 0);
            while stream.read(&mut buffer).await? > 0 {}
            Ok(())
        }
        _ => {
            while stream.read(&mut buffer).await? > 0 {}
            Ok(())
        }
    }
}
