//! Browsers and the application of line (w): as little HTTP/1.1 as is right, so that what is
//! measured is what stands between them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;

use crate::browser::BrowserConnector;
use crate::machine::quantile;
use crate::web::{AppEndpoint, LoadResult};
use crate::{Outcome, fail};

/// Largest head.
const MAX_HEAD: usize = 16 << 10;

/// The application: `/` is 128 bytes, `/bulk/N` is N. Runs until standard input ends.
pub async fn application() -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move { drop(serve_connection(stream).await) });
        }
    });
    tokio::task::spawn_blocking(|| std::io::stdin().lines().for_each(drop)).await?;
    Ok(())
}

async fn serve_connection(mut stream: TcpStream) -> Outcome<()> {
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::with_capacity(MAX_HEAD, reader);
    let block: Arc<[u8]> = vec![0x2a; 256 << 10].into();
    loop {
        let head = read_head(&mut reader).await?;
        let path = head.split(|b| *b == b' ').nth(1).unwrap_or_default();
        let length = path
            .strip_prefix(b"/bulk/")
            .and_then(|n| std::str::from_utf8(n).ok()?.parse().ok())
            .unwrap_or(128_u64);
        let start = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n"
        );
        if length <= 128 {
            let mut whole = start.into_bytes();
            whole.extend_from_slice(&block[..usize::try_from(length)?]);
            writer.write_all(&whole).await?;
            continue;
        }
        writer.write_all(start.as_bytes()).await?;
        let mut left = length;
        while left > 0 {
            let n = usize::try_from(left.min(block.len() as u64))?;
            writer.write_all(&block[..n]).await?;
            left -= n as u64;
        }
    }
}

/// One head, with its empty line.
async fn read_head<R: AsyncReadExt + Unpin>(reader: &mut R) -> Outcome<Vec<u8>> {
    let mut head = Vec::with_capacity(512);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > MAX_HEAD {
            return Err(fail("an endless head"));
        }
        head.push(reader.read_u8().await?);
    }
    Ok(head)
}

/// Browsers: `connections` of them, each asking again as soon as it was answered, for so long.
pub async fn run_load(
    door: AppEndpoint,
    path: &str,
    connections: u32,
    time: Duration,
) -> Outcome<LoadResult> {
    let request: Arc<[u8]> = request(&door, path).into();
    let mut visits = tokio::task::JoinSet::new();
    let browsers = BrowserConnector::new()?;
    // Everybody is connected before anybody asks.
    let ready = Arc::new(tokio::sync::Barrier::new(usize::try_from(connections)?));
    for _ in 0..connections {
        let (ready, request, mut visitor) =
            (ready.clone(), request.clone(), connect(&browsers, &door).await?);
        visits.spawn(async move {
            ready.wait().await;
            let (began, mut times, mut bytes) = (Instant::now(), Vec::new(), 0);
            while began.elapsed() < time {
                let asked = Instant::now();
                bytes += fetch(&mut visitor, &request).await?;
                times.push(asked.elapsed());
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((times, bytes, began.elapsed()))
        });
    }
    let (mut all, mut bytes, mut longest) = (Vec::new(), 0, Duration::ZERO);
    while let Some(visit) = visits.join_next().await {
        let (times, moved, took) = visit??;
        all.extend(times);
        bytes += moved;
        longest = longest.max(took);
    }
    let requests = all.len() as u64;
    let mut ms = |q| quantile(&mut all, q).as_secs_f64() * 1e3;
    Ok(LoadResult {
        requests,
        bytes,
        seconds: longest.as_secs_f64(),
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
    })
}

/// A browser's connection, and room for what it reads of a body at once: as much as TLS has.
struct HttpClient {
    stream: BufReader<TlsStream<TcpStream>>,
    buffer: Vec<u8>,
}

async fn connect(browsers: &BrowserConnector, door: &AppEndpoint) -> Outcome<HttpClient> {
    Ok(HttpClient {
        stream: BufReader::with_capacity(
            MAX_HEAD,
            browsers.connect(door.address, &door.name).await?,
        ),
        buffer: vec![0; 64 << 10],
    })
}

fn request(door: &AppEndpoint, path: &str) -> Vec<u8> {
    let AppEndpoint { address: at, name, cookie } = door;
    let cookie = if cookie.is_empty() { String::new() } else { format!("Cookie: {cookie}\r\n") };
    format!(
        "GET {path} HTTP/1.1\r\nHost: {name}:{}\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\nAccept-Encoding: gzip, br\r\n\
         Accept-Language: en\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n{cookie}\r\n",
        at.port()
    )
    .into_bytes()
}

/// Asks once; the number of bytes of the answer's body.
async fn fetch(visitor: &mut HttpClient, request: &[u8]) -> Outcome<u64> {
    let HttpClient { stream, buffer: room } = visitor;
    stream.get_mut().write_all(request).await?;
    stream.get_mut().flush().await?;
    let head = read_head(stream).await?;
    let text = String::from_utf8_lossy(&head);
    if !text.starts_with("HTTP/1.1 200") {
        return Err(fail(format!("not answered: {}", text.lines().next().unwrap_or_default())));
    }
    let field = |name: &str| {
        text.lines().find_map(|line| {
            line.split_once(": ")
                .filter(|(n, _)| n.eq_ignore_ascii_case(name))
                .map(|(_, v)| v.to_owned())
        })
    };
    let length: u64 =
        field("content-length").ok_or_else(|| fail("an answer without a length"))?.parse()?;
    let mut left = length;
    while left > 0 {
        let most = room.len().min(usize::try_from(left)?);
        let n = stream.read(&mut room[..most]).await?;
        if n == 0 {
            return Err(fail("cut in the middle"));
        }
        left -= n as u64;
    }
    Ok(length)
}

/// A browser that has opened the application once, and keeps its connection.
pub async fn open_idle(door: &AppEndpoint) -> Outcome<impl Sized + use<>> {
    let mut visitor = connect(&BrowserConnector::new()?, door).await?;
    fetch(&mut visitor, &request(door, "/")).await?;
    Ok(visitor)
}

/// The line of arguments of a process that is a crowd of browsers.
pub async fn from_arguments(arguments: &[String]) -> Outcome<()> {
    let [at, name, cookie, path, connections, time] = arguments else {
        return Err(fail("load AT NAME COOKIE PATH CONNECTIONS MS"));
    };
    let door = AppEndpoint {
        address: at.parse::<SocketAddr>()?,
        name: name.clone(),
        cookie: cookie.clone(),
    };
    let told =
        run_load(door, path, connections.parse()?, Duration::from_millis(time.parse()?)).await?;
    println!("{}", serde_json::to_string(&told)?);
    Ok(())
}
