//! Databases of the source whose keys go by the same name to the same place: which of them has a key?
//!
//! Several databases of the source may be moved into one of the target ([`crate::renaming::rivals`]). Then a key's name
//! may be taken. That could be looked up on the target, but whose key stands there it does not say: after a crash, or in
//! a second pass, it may be this database's own. So the source is asked. Of all databases that have the name, the first
//! in the order of the plan is the one whose key arrives. That depends on nothing but what the source holds, so every
//! run, every pass, the comparison and the repair come to the same answer.
//!
//! # Invariant
//!
//! Nothing is written here, and nothing is kept from one question to the next but the connection.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::cluster::Nodes;
use super::handshake::{Link, connect_source};
use super::wire::{LinkError, Reply};
use crate::endpoint::Endpoint;
use crate::plan::KeyType;

/// See the module.
pub struct Rivals {
    /// In the plan's order.
    dbs: Vec<u32>,
    /// Only keys of these types are moved; empty: all.
    types: Vec<KeyType>,
    source: Source,
}

/// Who is asked.
enum Source {
    Server(Box<Server>),
    Cluster(Rc<Nodes>),
}

struct Server {
    endpoint: Endpoint,
    client_name: String,
    /// Kept from question to question.
    link: RefCell<Option<Link>>,
}

impl Rivals {
    /// Asks `dbs`, in this order, over a connection that is made when it is needed; of a cluster, each node for its names.
    pub fn new(
        dbs: Vec<u32>,
        types: Vec<KeyType>,
        endpoint: &Endpoint,
        nodes: Option<Rc<Nodes>>,
        client_name: String,
    ) -> Self {
        let source = match nodes {
            Some(nodes) => Source::Cluster(nodes),
            None => Source::Server(Box::new(Server {
                endpoint: endpoint.clone(),
                client_name,
                link: RefCell::new(None),
            })),
        };
        Self { dbs, types, source }
    }

    /// Whether there is nobody to be asked.
    pub fn is_empty(&self) -> bool {
        self.dbs.is_empty()
    }

    /// For each name the first database that has a key of it that is moved.
    ///
    /// # Errors
    ///
    /// Trouble with the connection: nothing is decided then, and the next question is asked on another.
    pub async fn first_with(
        &self,
        names: &[Vec<u8>],
        timeout: Duration,
    ) -> Result<Vec<Option<u32>>, LinkError> {
        let mut first = vec![None; names.len()];
        for db in &self.dbs {
            let open: Vec<usize> = (0..names.len())
                .filter(|index| first[*index].is_none())
                .collect();
            if open.is_empty() {
                break;
            }
            let asked: Vec<&[u8]> = open.iter().map(|index| names[*index].as_slice()).collect();
            let have = self.which(*db, &asked, timeout).await?;
            for (index, has) in open.into_iter().zip(have) {
                if has {
                    first[index] = Some(*db);
                }
            }
        }
        Ok(first)
    }

    /// Which of `names` one database has.
    async fn which(
        &self,
        db: u32,
        names: &[&[u8]],
        timeout: Duration,
    ) -> Result<Vec<bool>, LinkError> {
        match &self.source {
            Source::Cluster(nodes) => {
                let found = nodes.exist(names, &self.types, db, timeout).await;
                if found.is_err() {
                    // Somebody else may have the slot by now.
                    nodes.refresh(timeout).await?;
                }
                found
            }
            Source::Server(server) => {
                let mut link = match server.link.take() {
                    Some(link) => link,
                    None => {
                        let name = &server.client_name;
                        connect_source(&server.endpoint, 0, name, timeout).await?
                    }
                };
                let found = self.have(&mut link, db, names).await?;
                server.link.replace(Some(link));
                Ok(found)
            }
        }
    }

    /// Which of `names` one database of a single server has.
    async fn have(
        &self,
        link: &mut Link,
        db: u32,
        names: &[&[u8]],
    ) -> Result<Vec<bool>, LinkError> {
        let number = db.to_string();
        let select: &[&[u8]] = &[b"SELECT", number.as_bytes()];
        if self.types.is_empty() {
            // Names that are taken are rare: one question for all of them nearly always gets the answer 0.
            let mut exists: Vec<&[u8]> = vec![b"EXISTS"];
            exists.extend(names);
            let replies = link.wire.call_all(&[select, &exists]).await?;
            let [selected, found] = two(replies)?;
            done(selected)?;
            if integer(found)? == 0 {
                return Ok(vec![false; names.len()]);
            }
        }
        let command: &[u8] = match self.types.is_empty() {
            true => b"EXISTS",
            false => b"TYPE",
        };
        let questions: Vec<[&[u8]; 2]> = names.iter().map(|name| [command, *name]).collect();
        let mut commands: Vec<&[&[u8]]> = vec![select];
        commands.extend(questions.iter().map(|question| question.as_slice()));
        let mut replies = link.wire.call_all(&commands).await?.into_iter();
        done(replies.next().unwrap_or(Reply::Null))?;
        replies.map(|reply| self.says_yes(reply)).collect()
    }

    /// What EXISTS or TYPE answered about one key.
    fn says_yes(&self, reply: Reply) -> Result<bool, LinkError> {
        match reply {
            Reply::Simple(kind) => Ok(self
                .types
                .iter()
                .any(|wanted| wanted.name().as_bytes() == kind)),
            reply => Ok(integer(reply)? > 0),
        }
    }
}

fn two(replies: Vec<Reply>) -> Result<[Reply; 2], LinkError> {
    let count = replies.len();
    let unexpected = |_| LinkError::Unexpected("EXISTS", format!("{count} replies"));
    replies.try_into().map_err(unexpected)
}

fn done(reply: Reply) -> Result<(), LinkError> {
    match reply {
        Reply::Simple(_) => Ok(()),
        Reply::Error(code, line) => Err(LinkError::Reply(code, line)),
        other => Err(LinkError::Unexpected("SELECT", format!("{other:?}"))),
    }
}

fn integer(reply: Reply) -> Result<i64, LinkError> {
    match reply {
        Reply::Integer(number) => Ok(number),
        Reply::Error(code, line) => Err(LinkError::Reply(code, line)),
        other => Err(LinkError::Unexpected("EXISTS", format!("{other:?}"))),
    }
}
