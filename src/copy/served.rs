//! What both servers serve while a run is at work, told to the journal at its end.

use super::engine::Context;
use super::lost_store;
use crate::client::served::Served;
use crate::endpoint::Side;
use crate::error::Error;

impl Context {
    /// Asks both servers what they have served so far, for the audit.
    pub async fn count_served(&mut self) {
        let nodes = [Side::Source, Side::Target].map(|side| self.env.cluster(side));
        let [source, target] = nodes.each_ref().map(Option::as_deref);
        let sides = [
            (&self.request.source, source),
            (&self.request.target, target),
        ];
        self.served = Some(Served::begin(sides).await);
    }

    /// Tells the journal what both servers have served in this run, which came to its end or `failed`.
    pub async fn tell_served(&mut self, failed: bool) -> Result<(), Error> {
        let Some(served) = self.served.take() else {
            return Ok(());
        };
        let calls = match failed {
            false => served.end().await,
            true => served.failed(),
        };
        let told = self
            .recorder
            .with_store(move |store| store.tell_served(calls));
        Ok(told.await.map_err(lost_store)??)
    }
}
