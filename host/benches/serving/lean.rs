//! The lean native server: the first draft of a server. It reads a line, answers, shuts down and
//! drops the connection. It neither limits open connections nor drains them.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::native::{hello, listen};
use crate::options::LeanOptions;

pub(crate) fn run(options: &LeanOptions) -> anyhow::Result<()> {
    listen(options.workers, accept)
}

async fn accept(listener: TcpListener) -> anyhow::Result<()> {
    loop {
        let (mut connection, _) = listener.accept().await?;
        tokio::spawn(async move {
            hello(&mut connection).await?;
            connection.shutdown().await
        });
    }
}
