//! Starts processes that meet at a port of this machine.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use crate::common::Ended;

/// A port that nobody listens at now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its number").port()
}

/// `size` processes of `program`, numbered as `torchrun` does it, one thread each; killed when dropped.
pub struct Processes {
    pub children: Vec<Child>,
}

impl Processes {
    pub fn start(size: usize, program: impl Fn(usize) -> Command) -> Processes {
        let port = free_port().to_string();
        let children = (0..size).map(|rank| {
            let mut command = program(rank);
            command
                .env("RANK", rank.to_string())
                .env("LOCAL_RANK", rank.to_string())
                .env("WORLD_SIZE", size.to_string())
                .env("LOCAL_WORLD_SIZE", size.to_string())
                .env("MASTER_ADDR", "127.0.0.1")
                .env("MASTER_PORT", &port)
                .env("OMP_NUM_THREADS", "1")
                .env("RUST_BACKTRACE", "1")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            command.spawn().expect("a process")
        });
        Processes { children: children.collect() }
    }

    /// What each printed, when all have ended.
    pub fn end(mut self) -> Vec<Ended> {
        let children = std::mem::take(&mut self.children);
        // Each has its reader, so that none stands still at a full pipe.
        let readers: Vec<_> =
            children.into_iter().map(|child| std::thread::spawn(move || Ended::after(child))).collect();
        readers.into_iter().map(|reader| reader.join().expect("a reader")).collect()
    }

    /// As [`Processes::end`], where all must end well; what the first printed on standard output.
    #[track_caller]
    pub fn good(self) -> String {
        let mut all = self.end();
        for (rank, Ended { code, out, err }) in all.iter().enumerate() {
            assert_eq!(*code, Some(0), "process {rank}: {out}{err}");
            assert!(rank == 0 || out.is_empty() || out.contains("running 1 test"), "only process 0 prints: {out}");
        }
        all.swap_remove(0).out
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
