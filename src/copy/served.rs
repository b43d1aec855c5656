//! What both servers serve while a run is at work, told to the journal at its end.

use super::engine::Context;
use super::lost_store;
use crate::client::served::Served;
use crate::endpoint::Side;
use crate::error::Error;

impl Context {
    /// Asks both servers what they have served so far, for the audit.
    pub async fn count_served(&mut self) {
        let sides = [&self.request.source, &self.request.target];
        let are_clusters =
            [Side::Source, Side::Target].map(|side| self.env.cluster(side).is_some());
        self.served = Some(Served::begin(sides, are_clusters).await);
    }

    /// Tells the journal what both servers have served in this run, which came to its end or `failed`.
    pub async fn tell_served(&mut self, failed: bool) -> Result<(), Error> {
        let Some(served) = self.served.take() else {
            return Ok(());
        };
        let calls = match failed {
            false => {
                served
                    .end([&self.request.source, &self.request.target])
                    .await
            }
            true => [(); 2].map(|()| Err("the run failed".to_owned())),
        };
        let told = self.recorder.with_store(move |store| {
            [Side::Source, Side::Target]
                .into_iter()
                .zip(calls)
                .try_for_each(|(side, calls)| store.tell_served(side, calls))
        });
        Ok(told.await.map_err(lost_store)??)
    }
}
