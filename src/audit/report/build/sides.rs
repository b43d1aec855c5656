//! Who answered on a side, and what it served.

use std::collections::BTreeMap;

use crate::audit::entry::ServerSeen;
use crate::audit::report::model::{Process, Side};
use crate::key::visible;

impl Side {
    /// A process answered there.
    pub(super) fn met(&mut self, server: &ServerSeen, at_ms: u64) {
        self.tls = Some(server.tls);
        let process = Process {
            version: visible(&server.version),
            run_id: server.run_id.as_deref().map(visible),
            since_ms: at_ms,
            role: server.role.as_deref().map(visible),
            masters: server.masters,
            certificate_sha256: server.certificate_sha256.clone(),
        };
        match self.processes.last_mut() {
            Some(last) if last.run_id == process.run_id => {
                *last = Process {
                    since_ms: last.since_ms,
                    ..process
                };
            }
            _ => self.processes.push(process),
        }
    }

    /// A process that a line names answered there: nothing new, unless nobody has told who it is.
    pub(super) fn met_again(&mut self, run_id: Option<String>, at_ms: u64) {
        let known = self.processes.iter().any(|known| known.run_id == run_id);
        if !known {
            self.processes.push(Process {
                version: String::new(),
                run_id: run_id.as_deref().map(visible),
                since_ms: at_ms,
                role: None,
                masters: None,
                certificate_sha256: None,
            });
        }
    }

    /// It told what it served in a run, or why not.
    pub(super) fn served(
        &mut self,
        run: u32,
        node: Option<String>,
        calls: BTreeMap<String, u64>,
        unknown: Option<String>,
    ) {
        let served = &mut self.served;
        if let Some(why) = unknown {
            let why = match node {
                Some(node) => format!("{node}: {why}"),
                None => why,
            };
            served.unknown.push((run, visible(&why)));
            return;
        }
        if !served.runs.contains(&run) {
            served.runs.push(run);
        }
        if let Some(node) = node {
            let node = visible(&node);
            let more: u64 = calls.values().sum();
            match served.nodes.iter_mut().find(|known| known.0 == node) {
                Some((_, calls)) => *calls += more,
                None => served.nodes.push((node, more)),
            }
        }
        for (command, more) in calls {
            let command = visible(&command);
            match served.commands.iter_mut().find(|known| known.0 == command) {
                Some((_, calls)) => *calls += more,
                None => served.commands.push((command, more)),
            }
        }
    }
}
