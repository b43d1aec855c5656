//! Whether a limit is kept to, counted on the server that it spares.

use std::time::{Duration, Instant};

use crate::support::redknot::Running;
use crate::support::server::Server;

/// Adds strings of so many bytes that nothing can compress.
pub fn fill_with_noise(server: &Server, keys: u64, bytes: u64) {
    let script = "local t = {} for i = 1, ARGV[1] do for b = 1, ARGV[2] do t[b] = string.char(math.random(0, 255)) end \
                  redis.call('SET', 'random:' .. i, table.concat(t)) end";
    redis::cmd("EVAL")
        .arg((script, 0, keys, bytes))
        .query::<()>(&mut server.connection())
        .unwrap();
}

/// Bytes that a server has sent to all its clients.
pub fn sent_bytes(server: &Server) -> f64 {
    server.info("stats")["total_net_output_bytes"]
        .parse()
        .unwrap()
}

/// Panics unless what is counted grows by `per_s` a second, within a twentieth. A machine that does other things may leave the
/// run, or the server, without a processor for a while, so one of several looks is enough; whoever keeps to another rate is
/// seen to in each of them.
#[track_caller]
pub fn assert_kept_to(per_s: f64, running: &mut Running, counted: impl Fn() -> f64) {
    const OVER: Duration = Duration::from_secs(4);
    const LOOKS: u32 = 6;
    let mut ratios = Vec::new();
    for _ in 0..LOOKS {
        let (began, before) = (Instant::now(), counted());
        std::thread::sleep(OVER);
        let ratio = (counted() - before) / began.elapsed().as_secs_f64() / per_s;
        assert!(running.is_running(), "{}", running.stderr_so_far());
        ratios.push(ratio);
        if (0.95..=1.05).contains(&ratio) {
            eprintln!("{per_s}/s: {ratios:.3?}");
            return;
        }
    }
    panic!("{per_s}/s is not kept to: {ratios:.3?}");
}
