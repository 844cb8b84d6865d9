//! A small RFB client (RFC 6143) for tests: connects as a browser does, keeps the picture, types,
//! clicks, and cuts and pastes text.
//!
//! It speaks over any stream; [`over_websocket`] makes one of a WebSocket.

use futures_util::{SinkExt, StreamExt};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// X keysym of the Return key.
pub const RETURN: u32 = 0xff0d;

/// A message of the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// An update of this many rectangles.
    Update(usize),
    /// ServerCutText.
    CutText(String),
    /// Bell.
    Bell,
}

/// A connected client and its picture.
pub struct VncClient<S> {
    stream: S,
    pub width: u16,
    pub height: u16,
    pub name: String,
    /// Row by row, `0x00RRGGBB`.
    pub pixels: Vec<u32>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> VncClient<S> {
    /// RFB 3.8, security None, shared; true colour, raw encoding.
    pub async fn connect(mut stream: S) -> io::Result<Self> {
        let mut version = [0; 12];
        stream.read_exact(&mut version).await?;
        ensure(&version == b"RFB 003.008\n", "the version is 3.8")?;
        stream.write_all(&version).await?;
        let mut types = [0; 2];
        stream.read_exact(&mut types).await?;
        ensure(types == [1, 1], "exactly security type None is offered")?;
        stream.write_all(&[1]).await?;
        ensure(stream.read_u32().await? == 0, "the security result is OK")?;

        stream.write_all(&[1]).await?;
        let (width, height) = (stream.read_u16().await?, stream.read_u16().await?);
        let mut pixel_format = [0; 16];
        stream.read_exact(&mut pixel_format).await?;
        let mut name = vec![0; stream.read_u32().await?.min(1024) as usize];
        stream.read_exact(&mut name).await?;

        // SetPixelFormat: 32 bits, depth 24, little endian, true colour, 8 bits each at 16, 8 and
        // 0.
        stream
            .write_all(&[0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0])
            .await?;
        // SetEncodings: raw.
        stream.write_all(&[2, 0, 0, 1, 0, 0, 0, 0]).await?;
        stream.flush().await?;
        let pixels = vec![0; usize::from(width) * usize::from(height)];
        Ok(Self {
            stream,
            width,
            height,
            name: String::from_utf8_lossy(&name).into_owned(),
            pixels,
        })
    }

    /// FramebufferUpdateRequest for the whole picture.
    pub async fn request(&mut self, incremental: bool) -> io::Result<()> {
        let mut message = vec![3, u8::from(incremental), 0, 0, 0, 0];
        message.extend_from_slice(&self.width.to_be_bytes());
        message.extend_from_slice(&self.height.to_be_bytes());
        self.send(&message).await
    }

    /// Requests the whole picture and waits for it.
    pub async fn frame(&mut self) -> io::Result<()> {
        self.request(false).await?;
        while !matches!(self.next().await?, Event::Update(_)) {}
        Ok(())
    }

    /// Requests updates until the picture satisfies `done`.
    pub async fn read_until(&mut self, done: impl Fn(&Self) -> bool) -> io::Result<()> {
        self.frame().await?;
        while !done(self) {
            self.request(true).await?;
            while !matches!(self.next().await?, Event::Update(_)) {}
        }
        Ok(())
    }

    /// How many different colours the picture has.
    pub fn colours(&self) -> usize {
        self.pixels.iter().collect::<std::collections::HashSet<_>>().len()
    }

    /// KeyEvent.
    pub async fn key(&mut self, keysym: u32, down: bool) -> io::Result<()> {
        let mut message = vec![4, u8::from(down), 0, 0];
        message.extend_from_slice(&keysym.to_be_bytes());
        self.send(&message).await
    }

    /// Presses and releases the key of each character (Latin-1: the keysym is the character).
    pub async fn type_text(&mut self, text: &str) -> io::Result<()> {
        for c in text.chars() {
            let keysym = if c == '\n' { RETURN } else { c.into() };
            self.key(keysym, true).await?;
            self.key(keysym, false).await?;
        }
        Ok(())
    }

    /// PointerEvent.
    pub async fn pointer(&mut self, buttons: u8, x: u16, y: u16) -> io::Result<()> {
        let mut message = vec![5, buttons];
        message.extend_from_slice(&x.to_be_bytes());
        message.extend_from_slice(&y.to_be_bytes());
        self.send(&message).await
    }

    /// ClientCutText (Latin-1).
    pub async fn cut_text(&mut self, text: &str) -> io::Result<()> {
        let latin: Vec<u8> =
            text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
        let mut message = vec![6, 0, 0, 0];
        message.extend_from_slice(&u32::try_from(latin.len()).expect("short text").to_be_bytes());
        message.extend_from_slice(&latin);
        self.send(&message).await
    }

    /// The next message of the server; an update is painted into [`Self::pixels`].
    pub async fn next(&mut self) -> io::Result<Event> {
        match self.stream.read_u8().await? {
            0 => {
                self.stream.read_u8().await?;
                let rectangles = self.stream.read_u16().await?;
                for _ in 0..rectangles {
                    self.rectangle().await?;
                }
                Ok(Event::Update(rectangles.into()))
            }
            2 => Ok(Event::Bell),
            3 => {
                self.stream.read_exact(&mut [0; 3]).await?;
                let mut latin = vec![0; self.stream.read_u32().await?.min(1 << 20) as usize];
                self.stream.read_exact(&mut latin).await?;
                Ok(Event::CutText(latin.into_iter().map(char::from).collect()))
            }
            other => Err(io::Error::other(format!("server message {other} was not asked for"))),
        }
    }

    pub fn into_stream(self) -> S {
        self.stream
    }

    async fn rectangle(&mut self) -> io::Result<()> {
        let mut head = [0_u16; 4];
        for field in &mut head {
            *field = self.stream.read_u16().await?;
        }
        let [x, y, width, height] = head.map(usize::from);
        ensure(self.stream.read_i32().await? == 0, "the encoding is raw")?;
        ensure(
            x + width <= usize::from(self.width) && y + height <= usize::from(self.height),
            "the rectangle is inside the picture",
        )?;
        let mut row = vec![0; width * 4];
        for line in y..y + height {
            self.stream.read_exact(&mut row).await?;
            let start = line * usize::from(self.width) + x;
            for (pixel, bytes) in
                self.pixels[start..start + width].iter_mut().zip(row.chunks_exact(4))
            {
                *pixel = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
            }
        }
        Ok(())
    }

    /// Sends any message.
    pub async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.stream.write_all(message).await?;
        self.stream.flush().await
    }
}

fn ensure(holds: bool, what: &str) -> io::Result<()> {
    if holds { Ok(()) } else { Err(io::Error::other(format!("expected that {what}"))) }
}

/// Close code and reason of a WebSocket; `None` when it ended without a close frame.
pub type Closed = Option<(u16, String)>;

/// The binary messages of a WebSocket as a stream of bytes, and its end. Dropping the stream
/// closes the WebSocket.
pub fn over_websocket<S>(socket: WebSocketStream<S>) -> (DuplexStream, JoinHandle<Closed>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut from_client, mut to_client) = tokio::io::split(far);
    let (mut to_server, mut from_server) = socket.split();
    let ended = tokio::spawn(async move {
        let up = async {
            let mut buffer = vec![0; 16 * 1024];
            loop {
                match from_client.read(&mut buffer).await {
                    Ok(0) | Err(_) => {
                        let _ = to_server.send(Message::Close(None)).await;
                        break std::future::pending::<()>().await;
                    }
                    Ok(n) => {
                        if to_server
                            .send(Message::Binary(buffer[..n].to_vec().into()))
                            .await
                            .is_err()
                        {
                            break std::future::pending::<()>().await;
                        }
                    }
                }
            }
        };
        let down = async {
            loop {
                match from_server.next().await {
                    Some(Ok(Message::Binary(bytes))) => {
                        // The reader is gone, but the close code is still wanted.
                        let _ = to_client.write_all(&bytes).await;
                    }
                    Some(Ok(Message::Close(frame))) => {
                        let closed = frame.map(|f| (u16::from(f.code), f.reason.to_string()));
                        break Some(closed.unwrap_or((1005, String::new())));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => break None,
                }
            }
        };
        tokio::select! {
            () = up => None,
            closed = down => closed,
        }
    });
    (near, ended)
}
