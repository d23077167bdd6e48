//! The lean native server: the first thing that somebody would write. It reads a line, answers, shuts down and drops the
//! connection. It neither limits how many connections are open nor reads what a client sends after its line.

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
