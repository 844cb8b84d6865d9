//! Input is counted on the stream's path, pictures are not.

use super::harness::Harness;
use tokio::io::AsyncReadExt;

#[actix_web::test]
async fn keys_and_pointer_are_counted_and_requests_for_pictures_are_not() {
    let (harness, mut desktop) = Harness::established().await;
    let mut pass = async |message: &[u8]| {
        harness.browser.send(message).await;
        let mut arrived = vec![0; message.len()];
        desktop.read_exact(&mut arrived).await.unwrap();
        assert_eq!(arrived, message);
    };
    let request = [3, 1, 0, 0, 0, 0, 4, 0, 3, 0];
    for _ in 0..3 {
        pass(&request).await;
    }
    assert_eq!(harness.meters.input.count(), 0);
    pass(&[4, 1, 0, 0, 0, 0, 0, 97]).await;
    pass(&[5, 0, 0, 9, 0, 9]).await;
    pass(&[&request[..], &[4, 0, 0, 0, 0, 0, 0, 97]].concat()).await;
    assert_eq!(harness.meters.input.count(), 3);
}
