//! Large bodies in bounded memory, in both directions, and many concurrent requests.

use super::harness::*;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes in each direction, in the default and in the long run.
const ORDINARY: u64 = 256 << 20;
const LONG: u64 = 10 << 30;
/// How much the process may grow meanwhile. Other tests run in the same process and are included.
const ROOM_KIB: u64 = 160 * 1024;

/// Anonymous memory of this process, KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Responds to `GET /n` with n bytes, and to a body with its length.
async fn server() -> SocketAddr {
    let (to, mut connections) = listen().await;
    tokio::spawn(async move {
        while let Some(mut stream) = connections.recv().await {
            tokio::spawn(async move {
                let head = read_head(&mut stream).await;
                if let Some(size) = head.strip_prefix("GET /") {
                    let size: u64 = size.split(' ').next().unwrap().parse().unwrap();
                    stream
                        .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n").as_bytes())
                        .await
                        .unwrap();
                    let _ =
                        tokio::io::copy(&mut tokio::io::repeat(b'x').take(size), &mut stream).await;
                } else {
                    let size: u64 = head
                        .split_once("content-length: ")
                        .unwrap()
                        .1
                        .lines()
                        .next()
                        .unwrap()
                        .parse()
                        .unwrap();
                    let got =
                        tokio::io::copy(&mut (&mut stream).take(size), &mut tokio::io::sink())
                            .await
                            .unwrap()
                            .to_string();
                    stream
                        .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{got}", got.len()).as_bytes())
                        .await
                        .unwrap();
                }
            });
        }
    });
    to
}

async fn pass(size: u64) {
    let harness = Harness::new(server().await).await;
    let before = memory();
    let began = std::time::Instant::now();
    let mut browser = harness.connect().await;
    browser
        .write_all(
            format!("GET /{size} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .await
        .unwrap();
    read_head(&mut browser).await;
    let (got, most) = drain(&mut browser).await;
    let down = began.elapsed();
    assert_eq!(got, size);
    assert!(most < before + ROOM_KIB, "{before} KiB before, {most} KiB at most");

    let mut browser = harness.connect().await;
    browser
        .write_all(
            format!(
                "PUT /up HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
            )
            .as_bytes(),
        )
        .await
        .unwrap();
    let mut most = memory();
    let block = vec![b'x'; 256 * 1024];
    let mut left = size;
    while left > 0 {
        let piece = &block[..usize::try_from(left.min(block.len() as u64)).unwrap()];
        browser.write_all(piece).await.unwrap();
        left -= piece.len() as u64;
        if left.is_multiple_of(16 << 20) {
            most = most.max(memory());
        }
    }
    let answer = read_all(&mut browser).await;
    assert_eq!(answer.text(), size.to_string());
    assert!(most < before + ROOM_KIB, "{before} KiB before, {most} KiB at most");
    println!(
        "{} MiB down in {down:?}, both in {:?}; {before} KiB before, {most} KiB at most",
        size >> 20,
        began.elapsed()
    );
}

async fn drain(stream: &mut TcpStream) -> (u64, u64) {
    let mut block = vec![0; 256 * 1024];
    let (mut got, mut most, mut looked) = (0, 0, 0);
    loop {
        let n = stream.read(&mut block).await.unwrap() as u64;
        if n == 0 {
            return (got, most);
        }
        got += n;
        if got - looked >= 16 << 20 {
            looked = got;
            most = most.max(memory());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_need_bounded_memory() {
    pass(ORDINARY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "10 GiB each way: make apps-long"]
async fn very_large_bodies_need_bounded_memory() {
    pass(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_reuse_few_connections() {
    let (to, _seen) = serve_canned(OK).await;
    let harness = std::sync::Arc::new(Harness::new(to).await);
    let browsers: Vec<_> = (0..16)
        .map(|_| {
            let harness = harness.clone();
            tokio::spawn(async move {
                let mut browser = harness.connect().await;
                for _ in 0..50 {
                    browser.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
                    assert!(read_head(&mut browser).await.starts_with("HTTP/1.1 200"));
                    assert_eq!(read(&mut browser, 2).await, b"ok");
                }
            })
        })
        .collect();
    for browser in browsers {
        browser.await.unwrap();
    }
    assert_eq!(harness.records(800).await.len(), 800);
    // One per browser, and some more where a connection was not idle yet at the next request.
    let dialled = harness.dialled.load(Ordering::SeqCst);
    assert!(dialled < 200, "{dialled} connections for 800 requests");
}
