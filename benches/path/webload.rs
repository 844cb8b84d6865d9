//! Browsers and the application of line (w), with a minimal HTTP/1.1, so that the proxy between
//! them dominates the measurement.

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
            let mut response = start.into_bytes();
            response.extend_from_slice(&block[..usize::try_from(length)?]);
            writer.write_all(&response).await?;
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

/// Runs `connections` browsers for `time`; each sends its next request when it is answered.
pub async fn run_load(
    endpoint: AppEndpoint,
    path: &str,
    connections: u32,
    time: Duration,
) -> Outcome<LoadResult> {
    let request: Arc<[u8]> = request(&endpoint, path).into();
    let mut tasks = tokio::task::JoinSet::new();
    let browsers = BrowserConnector::new()?;
    // All connect before the first request.
    let ready = Arc::new(tokio::sync::Barrier::new(usize::try_from(connections)?));
    for _ in 0..connections {
        let (ready, request, mut client) =
            (ready.clone(), request.clone(), connect(&browsers, &endpoint).await?);
        tasks.spawn(async move {
            ready.wait().await;
            let (began, mut times, mut bytes) = (Instant::now(), Vec::new(), 0);
            while began.elapsed() < time {
                let began_request = Instant::now();
                bytes += fetch(&mut client, &request).await?;
                times.push(began_request.elapsed());
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((times, bytes, began.elapsed()))
        });
    }
    let (mut all, mut bytes, mut longest) = (Vec::new(), 0, Duration::ZERO);
    while let Some(result) = tasks.join_next().await {
        let (times, moved, took) = result??;
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

/// A browser's connection, and its read buffer.
struct HttpClient {
    stream: BufReader<TlsStream<TcpStream>>,
    buffer: Vec<u8>,
}

async fn connect(browsers: &BrowserConnector, endpoint: &AppEndpoint) -> Outcome<HttpClient> {
    Ok(HttpClient {
        stream: BufReader::with_capacity(
            MAX_HEAD,
            browsers.connect(endpoint.address, &endpoint.name).await?,
        ),
        buffer: vec![0; 64 << 10],
    })
}

fn request(endpoint: &AppEndpoint, path: &str) -> Vec<u8> {
    let AppEndpoint { address: at, name, cookie } = endpoint;
    let cookie = if cookie.is_empty() { String::new() } else { format!("Cookie: {cookie}\r\n") };
    format!(
        "GET {path} HTTP/1.1\r\nHost: {name}:{}\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\nAccept-Encoding: gzip, br\r\n\
         Accept-Language: en\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n{cookie}\r\n",
        at.port()
    )
    .into_bytes()
}

/// Sends one request; the number of bytes of the response body.
async fn fetch(client: &mut HttpClient, request: &[u8]) -> Outcome<u64> {
    let HttpClient { stream, buffer: room } = client;
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

/// A browser that sent one request and keeps its connection.
pub async fn open_idle(endpoint: &AppEndpoint) -> Outcome<impl Sized + use<>> {
    let mut client = connect(&BrowserConnector::new()?, endpoint).await?;
    fetch(&mut client, &request(endpoint, "/")).await?;
    Ok(client)
}

/// The command line of a process of browsers.
pub async fn from_arguments(arguments: &[String]) -> Outcome<()> {
    let [at, name, cookie, path, connections, time] = arguments else {
        return Err(fail("load AT NAME COOKIE PATH CONNECTIONS MS"));
    };
    let endpoint = AppEndpoint {
        address: at.parse::<SocketAddr>()?,
        name: name.clone(),
        cookie: cookie.clone(),
    };
    let result =
        run_load(endpoint, path, connections.parse()?, Duration::from_millis(time.parse()?))
            .await?;
    println!("{}", serde_json::to_string(&result)?);
    Ok(())
}
