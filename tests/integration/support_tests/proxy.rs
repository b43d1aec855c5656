use std::time::{Duration, Instant};

use redis::{Connection, RedisResult};

use crate::support::proxy::{Cut, Proxy};
use crate::support::server::Server;
use crate::support::version::{REDIS_7_0, require};
use crate::support::{seed, wait_for};

/// A server and a proxy in front of it, or nothing where the binary is missing.
fn behind_a_proxy() -> Option<(Server, Proxy)> {
    let server = Server::plain(&require(REDIS_7_0)?);
    let proxy = Proxy::start(server.port(), seed());
    Some((server, proxy))
}

/// Through the proxy. Does not wait longer than a test has patience.
fn connect(proxy: &Proxy) -> RedisResult<Connection> {
    let connection = redis::Client::open(proxy.url(0))?.get_connection()?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(connection)
}

fn set(connection: &mut Connection, key: &str) -> RedisResult<String> {
    redis::cmd("SET").arg(key).arg("value").query(connection)
}

fn get(connection: &mut Connection, key: &str) -> RedisResult<String> {
    redis::cmd("GET").arg(key).query(connection)
}

/// `SET 0`, `SET 1`, … in one pipeline, whose answers are read as far as they come.
fn set_pipelined(connection: &mut Connection, keys: usize) -> Vec<redis::Value> {
    use redis::ConnectionLike;
    let mut pipe = redis::pipe();
    for key in 0..keys {
        pipe.cmd("SET").arg(key).arg("value");
    }
    connection
        .send_packed_command(&pipe.get_packed_pipeline())
        .unwrap();
    let mut answers = Vec::new();
    while answers.len() < keys && connection.is_open() {
        match connection.recv_response() {
            Ok(answer) => answers.push(answer),
            Err(_) => break,
        }
    }
    answers
}

#[test]
fn lets_everything_pass_when_nothing_is_asked_of_it() {
    let Some((server, proxy)) = behind_a_proxy() else {
        return;
    };
    let mut connection = connect(&proxy).unwrap();
    let binary: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    redis::cmd("SET")
        .arg(b"\0\r\n*$")
        .arg(&binary)
        .exec(&mut connection)
        .unwrap();
    let back: Vec<u8> = redis::cmd("GET")
        .arg(b"\0\r\n*$")
        .query(&mut connection)
        .unwrap();
    assert!(back == binary);
    let nested: Vec<redis::Value> = redis::cmd("COMMAND").query(&mut connection).unwrap();
    assert!(nested.len() > 200);
    assert_eq!(set_pipelined(&mut connection, 5_000).len(), 5_000);
    assert_eq!(server.keys(0), 5_001);
    assert_eq!(proxy.count("set"), 5_001);
}

#[test]
fn answers_the_chosen_commands_itself_and_in_order() {
    let Some((server, proxy)) = behind_a_proxy() else {
        return;
    };
    let mut connection = connect(&proxy).unwrap();
    let rule = proxy
        .on("set")
        .skip(10)
        .times(3)
        .answer("-OOM command not allowed when used memory > 'maxmemory'.");
    let answers = set_pipelined(&mut connection, 100);
    let refused: Vec<usize> = answers
        .iter()
        .enumerate()
        .filter(|(_, answer)| matches!(answer, redis::Value::ServerError(error) if error.code() == "OOM"))
        .map(|(index, _)| index)
        .collect();
    assert_eq!((answers.len(), refused), (100, vec![10, 11, 12]));
    assert_eq!(proxy.fired(rule), 3);
    assert_eq!(
        (server.keys(0), server.calls("set")),
        (97, 97),
        "the server has not seen the three"
    );

    proxy
        .on("GET")
        .always()
        .key(b"7")
        .answer("-LOADING Redis is loading the dataset in memory");
    assert_eq!(get(&mut connection, "8").unwrap(), "value");
    assert_eq!(
        get(&mut connection, "7").unwrap_err().code(),
        Some("LOADING")
    );
    proxy.clear();
    assert_eq!(get(&mut connection, "7").unwrap(), "value");
}

#[test]
fn loses_replies_of_commands_that_were_executed() {
    let Some((server, proxy)) = behind_a_proxy() else {
        return;
    };
    let rule = proxy.on("SET").skip(20).times(30).lose_replies();
    let mut connection = connect(&proxy).unwrap();
    let answers = set_pipelined(&mut connection, 40);
    assert_eq!(answers.len(), 20, "replies before the fault arrive");
    assert_eq!(proxy.fired(rule), 1);
    assert_eq!(
        server.keys(0),
        40,
        "all were executed, also those without a reply"
    );
    assert!(get(&mut connection, "1").is_err(), "the connection is gone");
    assert_eq!(
        get(&mut connect(&proxy).unwrap(), "1").unwrap(),
        "value",
        "a new one works"
    );
}

#[test]
fn cuts_before_a_command_and_before_inside_and_after_a_reply() {
    let Some((server, proxy)) = behind_a_proxy() else {
        return;
    };
    for how in [Cut::Reset, Cut::Close] {
        let before = server.calls("set");
        proxy.on("SET").cut_before(how);
        assert!(set(&mut connect(&proxy).unwrap(), "a").is_err());
        assert_eq!(server.calls("set"), before, "not forwarded");

        for bytes in [0, 1, 4] {
            let before = server.calls("set");
            proxy.on("SET").cut_in_reply(bytes, how);
            assert!(
                set(&mut connect(&proxy).unwrap(), "a").is_err(),
                "{bytes} bytes of +OK"
            );
            assert_eq!(server.calls("set"), before + 1, "executed");
        }
    }
    proxy.on("SET").cut_in_reply(u64::MAX, Cut::Close);
    let mut connection = connect(&proxy).unwrap();
    assert_eq!(
        set(&mut connection, "a").unwrap(),
        "OK",
        "after the whole reply"
    );
    assert!(set(&mut connection, "a").is_err());
}

#[test]
fn flips_one_byte_of_a_reply_and_no_other() {
    let Some((_server, proxy)) = behind_a_proxy() else {
        return;
    };
    let mut connection = connect(&proxy).unwrap();
    let value: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    redis::cmd("SET")
        .arg("key")
        .arg(&value)
        .exec(&mut connection)
        .unwrap();
    for offset in [0, 1, 99_999, 199_999] {
        let rule = proxy.on("GET").flip_byte(offset);
        let flipped: Vec<u8> = redis::cmd("GET").arg("key").query(&mut connection).unwrap();
        let differing: Vec<usize> = (0..value.len())
            .filter(|&at| value[at] != flipped[at])
            .collect();
        assert_eq!(differing, [offset as usize]);
        assert_eq!(proxy.fired(rule), 1);
        let whole: Vec<u8> = redis::cmd("GET").arg("key").query(&mut connection).unwrap();
        assert!(whole == value, "the next one is whole again");
    }
}

#[test]
fn hides_the_identity_of_the_server() {
    let Some((server, proxy)) = behind_a_proxy() else {
        return;
    };
    let mut connection = connect(&proxy).unwrap();
    let info = |connection: &mut Connection| redis::cmd("INFO").query::<String>(connection);
    assert!(info(&mut connection).unwrap().contains(&server.run_id()));
    proxy.on("INFO").always().without_line("run_id:");
    let without = info(&mut connection).unwrap();
    assert!(
        without.contains("redis_version:") && !without.contains("run_id"),
        "{without}"
    );
    proxy.clear();
    proxy
        .on("INFO")
        .always()
        .answer("-NOPERM this user has no permissions to run the 'info' command");
    assert_eq!(info(&mut connection).unwrap_err().code(), Some("NOPERM"));
}

#[test]
fn stalls_without_ending_a_connection() {
    let Some((server, proxy)) = behind_a_proxy() else {
        return;
    };
    let mut connection = connect(&proxy).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();

    proxy.requests().stall();
    assert!(set(&mut connection, "a").unwrap_err().is_timeout());
    assert_eq!(server.calls("set"), 0, "the request is held back");
    proxy.requests().flow();
    wait_for(
        "the request that was held back",
        Duration::from_secs(10),
        || (server.calls("set") == 1).then_some(()),
    );

    let mut connection = connect(&proxy).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    proxy.on("SET").stall_reply();
    assert!(set(&mut connection, "b").unwrap_err().is_timeout());
    assert_eq!(server.calls("set"), 2, "executed, but not answered");
    proxy.replies().flow();
    assert_eq!(set(&mut connect(&proxy).unwrap(), "c").unwrap(), "OK");
}

#[test]
fn splits_a_stream_into_single_bytes() {
    let Some((_server, proxy)) = behind_a_proxy() else {
        return;
    };
    proxy.requests().pieces(1);
    proxy.replies().pieces(1);
    let mut connection = connect(&proxy).unwrap();
    assert_eq!(set_pipelined(&mut connection, 300).len(), 300);
    assert_eq!(get(&mut connection, "299").unwrap(), "value");
}

#[test]
fn latency_delays_and_does_not_throttle() {
    let Some((_server, proxy)) = behind_a_proxy() else {
        return;
    };
    let mut connection = connect(&proxy).unwrap();
    redis::cmd("SET")
        .arg("big")
        .arg(vec![b'x'; 8 << 20])
        .exec(&mut connection)
        .unwrap();
    let delay = Duration::from_millis(60);
    proxy.requests().latency(delay, Duration::ZERO);
    proxy.replies().latency(delay, Duration::ZERO);
    let began = Instant::now();
    redis::cmd("PING").exec(&mut connection).unwrap();
    assert!(began.elapsed() >= 2 * delay, "{:?}", began.elapsed());
    let began = Instant::now();
    let big: Vec<u8> = redis::cmd("GET").arg("big").query(&mut connection).unwrap();
    assert_eq!(big.len(), 8 << 20);
    // 128 reads of 64 KiB, each delayed one after the other, would take 7.7 s.
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn bandwidth_is_limited() {
    let Some((_server, proxy)) = behind_a_proxy() else {
        return;
    };
    let mut connection = connect(&proxy).unwrap();
    redis::cmd("SET")
        .arg("big")
        .arg(vec![b'x'; 100_000])
        .exec(&mut connection)
        .unwrap();
    proxy.replies().bandwidth(200_000);
    let began = Instant::now();
    redis::cmd("GET").arg("big").exec(&mut connection).unwrap();
    let took = began.elapsed();
    assert!(
        (0.45..3.0).contains(&took.as_secs_f64()),
        "100 kB at 200 kB/s took {took:?}"
    );
}

#[test]
fn cuts_once_after_a_number_of_bytes() {
    let Some((_server, proxy)) = behind_a_proxy() else {
        return;
    };
    let mut connection = connect(&proxy).unwrap();
    redis::cmd("SET")
        .arg("big")
        .arg(vec![b'x'; 100_000])
        .exec(&mut connection)
        .unwrap();
    let before = proxy.replies().bytes();
    proxy.replies().cut_after(50_000, Cut::Reset);
    assert!(get(&mut connection, "big").is_err());
    assert_eq!(proxy.replies().bytes() - before, 50_000);
    assert_eq!(
        get(&mut connect(&proxy).unwrap(), "big").unwrap().len(),
        100_000,
        "only once"
    );
}

#[test]
fn cuts_every_connection_after_a_random_number_of_bytes() {
    let Some((_server, proxy)) = behind_a_proxy() else {
        return;
    };
    proxy.replies().cut_each_after(2_000..4_000, Cut::Reset);
    for _ in 0..5 {
        let mut connection = connect(&proxy).unwrap();
        let answers = set_pipelined(&mut connection, 5_000);
        // +OK and its line end are 5 bytes; greetings of the client take a few more.
        assert!(
            (300..800).contains(&answers.len()),
            "{} answers",
            answers.len()
        );
    }
    proxy.clear();
    assert_eq!(
        set_pipelined(&mut connect(&proxy).unwrap(), 5_000).len(),
        5_000
    );
}

#[test]
fn cuts_now_refuses_and_comes_back() {
    let Some((_server, proxy)) = behind_a_proxy() else {
        return;
    };
    for how in [Cut::Reset, Cut::Close] {
        let mut connection = connect(&proxy).unwrap();
        proxy.cut_now(how);
        assert!(set(&mut connection, "a").is_err());
    }
    proxy.down();
    let refused = connect(&proxy).and_then(|mut connection| set(&mut connection, "a"));
    assert!(refused.is_err());
    proxy.up();
    assert_eq!(set(&mut connect(&proxy).unwrap(), "a").unwrap(), "OK");
}

#[test]
fn ends_a_client_that_waits_in_a_read() {
    let Some((_server, proxy)) = behind_a_proxy() else {
        return;
    };
    for how in [Cut::Reset, Cut::Close] {
        let mut connection = connect(&proxy).unwrap();
        let waiting = std::thread::spawn(move || {
            redis::cmd("BLPOP")
                .arg("nothing")
                .arg(8)
                .exec(&mut connection)
                .map_err(|error| error.is_timeout())
        });
        wait_for("the blocking command", Duration::from_secs(5), || {
            (proxy.count("BLPOP") > 0).then_some(())
        });
        let began = Instant::now();
        proxy.cut_now(how);
        assert_eq!(
            waiting.join().unwrap(),
            Err(false),
            "ended by {how:?}, not by a time limit"
        );
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn leads_to_another_server_after_a_failover() {
    let Some((old, proxy)) = behind_a_proxy() else {
        return;
    };
    let Some((new, _)) = behind_a_proxy() else {
        return;
    };
    let mut connection = connect(&proxy).unwrap();
    set(&mut connection, "a").unwrap();
    proxy.switch_upstream(new.port());
    assert!(
        set(&mut connection, "b").is_err(),
        "the old connection is gone"
    );
    set(&mut connect(&proxy).unwrap(), "b").unwrap();
    assert_eq!((old.keys(0), new.keys(0)), (1, 1));
    assert_eq!(proxy.connections(), 2);
}

#[test]
fn the_end_of_a_server_is_the_end_of_its_connections() {
    let Some((mut server, proxy)) = behind_a_proxy() else {
        return;
    };
    let mut connection = connect(&proxy).unwrap();
    server.kill_9();
    assert!(set(&mut connection, "a").is_err());
    assert!(
        connect(&proxy)
            .and_then(|mut connection| set(&mut connection, "a"))
            .is_err()
    );
    server.launch_again();
    assert_eq!(set(&mut connect(&proxy).unwrap(), "a").unwrap(), "OK");
}

#[test]
fn records_commands_without_payloads() {
    let Some((_server, proxy)) = behind_a_proxy() else {
        return;
    };
    let mut connection = connect(&proxy).unwrap();
    set(&mut connection, "a").unwrap();
    let payload: Vec<u8> = redis::cmd("DUMP").arg("a").query(&mut connection).unwrap();
    proxy.record();
    redis::cmd("restore")
        .arg(b"b\0")
        .arg(0)
        .arg(payload)
        .arg("REPLACE")
        .exec(&mut connection)
        .unwrap();
    redis::cmd("PING").exec(&mut connection).unwrap();
    let seen = proxy.commands();
    let names: Vec<&str> = seen.iter().map(|seen| seen.name.as_str()).collect();
    assert_eq!(names, ["RESTORE", "PING"]);
    assert_eq!(seen[0].args, [b"b\0".as_slice(), b"0", b"", b"REPLACE"]);
    assert_eq!(
        (
            proxy.count("RESTORE"),
            proxy.count("SET"),
            proxy.count("PING")
        ),
        (1, 1, 1)
    );
}

#[test]
fn is_fast_enough_not_to_be_what_is_measured() {
    let Some((_server, proxy)) = behind_a_proxy() else {
        return;
    };
    let mut connection = connect(&proxy).unwrap();
    redis::cmd("SET")
        .arg("big")
        .arg(vec![b'x'; 1 << 20])
        .exec(&mut connection)
        .unwrap();
    let mut pipe = redis::pipe();
    for _ in 0..128 {
        pipe.cmd("GET").arg("big");
    }
    let began = Instant::now();
    let values: Vec<Vec<u8>> = pipe.query(&mut connection).unwrap();
    let mib_per_s = values.len() as f64 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    assert_eq!(set_pipelined(&mut connection, 100_000).len(), 100_000);
    let commands_per_s = 1e5 / began.elapsed().as_secs_f64();
    eprintln!("{mib_per_s:.0} MiB/s of big replies, {commands_per_s:.0} small commands/s");
    // Far below what it does on an idle machine, so that a busy one does not fail.
    assert!(mib_per_s > 30.0 && commands_per_s > 20_000.0);
}
