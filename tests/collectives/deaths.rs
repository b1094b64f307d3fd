//! Processes that die, fall silent or are told to end, and restarts.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::launch::{Processes, free_port};
use super::runs::{errors, quadruplet, start};
use crate::common::{Ended, Place, Program, has, send, within};
use crate::export::python;

const LONG: &str = "train @run --steps 150 --log-every 5 --checkpoint-every 5";

#[test]
fn a_death_ends_all_with_a_line_and_another_number_of_processes_goes_on() {
    let place = quadruplet();
    // First one beside the first process dies, then the first itself, which holds the store.
    for (size, victim) in [(3, 1), (2, 0)] {
        let before = fs::metadata(place.path("run/log.jsonl")).map_or(0, |data| data.len());
        let mut processes = start(size, &place, LONG);
        let grown = || fs::metadata(place.path("run/log.jsonl")).map_or(0, |data| data.len()) > before;
        assert!(within(60, || place.path("run/checkpoint.safetensors").exists() && grown()), "no checkpoint came");
        processes.children[victim].kill().expect("a living process");
        let ended = |processes: &mut Processes| {
            processes.children.iter_mut().all(|child| child.try_wait().expect("waits").is_some())
        };
        assert!(within(30, || ended(&mut processes)), "the others of {size} did not end");
        for (rank, ended) in processes.end().iter().enumerate().filter(|(rank, _)| *rank != victim) {
            let errors = errors(ended);
            assert_eq!((ended.code, errors.len()), (Some(1), 1), "process {rank}: {errors:?}");
            assert!(errors[0].contains("goes on from its last checkpoint"), "{}", errors[0]);
            if victim == 1 && rank == 0 {
                assert!(errors[0].contains("process 1 of 3"), "{}", errors[0]);
            }
        }
    }
    start(4, &place, LONG).good();
    let log = place.log("run");
    let mut steps: Vec<i64> =
        log.iter().filter(|line| line.get("warning").is_none()).filter_map(|line| line["step"].as_i64()).collect();
    assert_eq!(steps.last().copied(), Some(299), "{steps:?}");
    let whole = steps.len();
    steps.dedup();
    assert_eq!(steps.len(), whole, "a step is logged once");
    assert!(steps.windows(2).all(|pair| pair[1] - pair[0] <= 5), "{steps:?}");
    // And one process alone finds nothing left to do.
    place.good(LONG);
}

/// Whichever hears it: all end with their step, one says so, and SIGUSR1 has process 0 keep what there is.
#[test]
fn a_signal_to_one_process_ends_all_with_a_checkpoint_and_a_line() {
    let place = quadruplet();
    let train = "train @run --steps 100000 --log-every 2 --checkpoint-every 1000000";
    let checkpoint = place.path("run/checkpoint.safetensors");
    for (victims, signal) in [(0..1, libc::SIGTERM), (1..2, libc::SIGINT), (0..2, libc::SIGTERM)] {
        let processes = start(2, &place, train);
        let send = |rank: usize, signal: i32| send(processes.children[rank].id(), signal);
        let length = |name: &str| fs::metadata(place.path(name)).map_or(0, |data| data.len());
        let before = (length("run/log.jsonl"), fs::read(&checkpoint).unwrap_or_default());
        assert!(within(120, || length("run/log.jsonl") > before.0), "no step was taken");
        send(1, libc::SIGUSR1);
        assert!(within(60, || fs::read(&checkpoint).is_ok_and(|now| now != before.1)), "nothing was kept");
        victims.for_each(|rank| send(rank, signal));
        let mut said = String::new();
        for ended in processes.end() {
            said += &ended.err;
            assert_eq!(ended.code, Some(128 + signal), "{said}");
        }
        assert_eq!((said.matches("stopped by SIG").count(), said.matches("error").count()), (1, 0), "{said}");
        has(&said, "the checkpoint of step|start all processes again");
    }
}

/// What went wrong in one process stands in its own line; the others say that they miss it.
#[test]
fn the_error_of_one_process_is_not_hidden_by_its_peers() {
    let place = quadruplet();
    place.cuhk01("b/cuhk01");
    // Each with data of its own, by one name.
    let line = "train --data cuhk01 --test-people 5 --net small --size 32x16 --quadruplets 8 --device cpu --steps 100000 \
                --log-every 2 --checkpoint-every 10 --run";
    type Breaks = (usize, &'static str, fn(&Place));
    let breaks: [Breaks; 2] = [
        (0, "log.jsonl was changed or removed", |place| fs::remove_file(place.path("a/log.jsonl")).expect("removed")),
        (1, "no such file", |place| fs::remove_dir_all(place.path("b/cuhk01")).expect("removed")),
    ];
    for (rank, words, breaks) in breaks {
        let run = place.path(["a", "c"][rank]);
        let processes = Processes::start(2, |rank| {
            let words: Vec<&str> = line.split_whitespace().chain([run.to_str().expect("UTF-8")]).collect();
            let mut command = place.program.command(&words);
            command.current_dir(place.path(["", "b"][rank]));
            command
        });
        assert!(within(60, || run.join("checkpoint.safetensors").exists()), "no checkpoint came");
        breaks(&place);
        for (number, ended) in processes.end().iter().enumerate() {
            let errors = errors(ended);
            assert_eq!((ended.code, errors.len()), (Some(1), 1), "process {number}: {errors:?}");
            let words = if number == rank { words } else { &format!("process {rank} of 2 ended") };
            assert!(errors[0].contains(words), "process {number}: {}", errors[0]);
            assert!(number != rank || !errors[0].contains("of 2 ended"), "{}", errors[0]);
        }
    }
}

/// Before the first step the first signal ends a process, with a line; in a step that does not end a second one does.
#[test]
fn no_process_outlives_a_second_signal_or_one_before_its_first_step() {
    let place = quadruplet();
    let mut one = place.command("train @run");
    let port = free_port().to_string();
    one.envs([("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", &port)]);
    let mut one = one.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut said = BufReader::new(one.stderr.take().expect("stderr")).lines().map(|line| line.expect("text"));
    assert!(said.any(|line| line.contains("meeting 2 processes")));
    send(one.id(), libc::SIGTERM);
    let said = said.collect::<Vec<_>>().join("\n");
    assert_eq!(one.wait().expect("ends").code(), Some(128 + libc::SIGTERM), "{said}");
    has(&said, "stopped by SIGTERM: no step was in hand|start all processes again");

    let mut two = start(2, &place, LONG);
    assert!(within(60, || place.path("run/checkpoint.safetensors").exists()), "no checkpoint came");
    send(two.children[1].id(), libc::SIGSTOP);
    let ended = within(9, || {
        send(two.children[0].id(), libc::SIGINT);
        two.children[0].try_wait().expect("waits").is_some()
    });
    send(two.children[1].id(), libc::SIGKILL);
    let Ended { code, err: said, .. } = two.end().remove(0);
    assert!(ended && code == Some(128 + libc::SIGINT), "{said}");
    has(&said, "SIGINT: what is in hand|stopped by SIGINT: at once|start all processes again");
}

/// Processes of `program` whose command line has `word`.
fn pids(program: &Program, word: &str) -> Vec<u32> {
    let running = fs::read_dir("/proc").expect("a Linux machine").flatten();
    let numbers = running.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    let is_it = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).to_string();
        line.starts_with(program.0) && line.contains(word)
    };
    numbers.filter(is_it).collect()
}

#[test]
fn torchrun_starts_processes_and_starts_them_again() {
    let Some(python) = python() else { return };
    let place = quadruplet();
    let mut command = Command::new(python);
    command
        .args(["-m", "torch.distributed.run", "--no-python", "--nproc-per-node", "2", "--max-restarts", "2"])
        .args(["--master-addr", "127.0.0.1", "--master-port", &free_port().to_string(), "--", place.program.0])
        .args(place.args(LONG))
        .env("OMP_NUM_THREADS", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().expect("torchrun");
    let found = within(120, || place.path("run/checkpoint.safetensors").exists());
    let workers = pids(&place.program, &place.text("run"));
    workers.last().iter().for_each(|&&victim| send(victim, libc::SIGKILL));
    let Ended { code, err: said, .. } = Ended::after(child);
    assert!(found && workers.len() == 2, "{workers:?} {said}");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("going on from step") || said.matches("meeting 2 processes").count() > 1, "{said}");
    assert_eq!(place.log("run").last().expect("a line")["step"], 299);
}

/// Somebody stopped, or out of reach, is noticed by who waits for it; who goes on later ends too.
#[test]
fn who_falls_silent_ends_all_within_patience() {
    let place = quadruplet();
    let line = LONG.replace("--steps 150", "--steps 100000") + " --patience 6";
    for (victim, words) in
        [(1, "process 1 of 2 is gone (not heard of for 6 s)"), (0, "said nothing for 6 s: process 0")]
    {
        let mut two = start(2, &place, &line);
        let length = || fs::metadata(place.path("run/log.jsonl")).map_or(0, |data| data.len());
        let before = length();
        assert!(within(120, || place.path("run/checkpoint.safetensors").exists() && length() > before), "no step");
        send(two.children[victim].id(), libc::SIGSTOP);
        let ended = within(40, || two.children[1 - victim].try_wait().expect("waits").is_some());
        send(two.children[victim].id(), libc::SIGCONT);
        for (rank, ended) in two.end().iter().enumerate() {
            let errors = errors(ended);
            assert_eq!((ended.code, errors.len()), (Some(1), 1), "process {rank}: {errors:?}");
            has(&errors[0], if rank == victim { "goes on from its last checkpoint" } else { words });
        }
        assert!(ended, "the other process did not end");
    }
}

/// Two network namespaces as two machines, and one between them that forwards what they send, or drops it.
struct Net(String);

impl Net {
    /// None, with a line, where this machine lets nobody make them.
    fn new(of: &str) -> Option<Net> {
        let net = Net(format!("rankle-{}-{of}", std::process::id()));
        let made = (|| {
            for at in ["a", "m", "b"] {
                net.ip(&["netns", "add", &net.name(at)])?;
                net.ip(&["-n", &net.name(at), "link", "set", "lo", "up"])?;
            }
            for (at, own, gate) in [("a", "10.77.1.2/24", "10.77.1.1"), ("b", "10.77.2.2/24", "10.77.2.1")] {
                let (own_net, middle, cable) = (net.name(at), net.name("m"), &*format!("cable-{at}"));
                net.ip(&[
                    "link", "add", cable, "netns", &own_net, "type", "veth", "peer", "name", cable, "netns", &middle,
                ])?;
                for (space, address) in [(&own_net, own), (&middle, &format!("{gate}/24"))] {
                    net.ip(&["-n", space, "address", "add", address, "dev", cable])?;
                    net.ip(&["-n", space, "link", "set", cable, "up"])?;
                }
                net.ip(&["-n", &own_net, "route", "add", "default", "via", gate])?;
            }
            net.forwards(true)
        })();
        made.or_else(|| {
            println!("skipped: no network namespaces can be made here (root and iproute2)");
            None
        })?;
        Some(net)
    }

    fn name(&self, at: &str) -> String {
        format!("{}-{at}", self.0)
    }

    fn ip(&self, words: &[&str]) -> Option<()> {
        let output = Command::new("ip").args(words).output().ok()?;
        output.status.success().then_some(())
    }

    fn forwards(&self, on: bool) -> Option<()> {
        let set = format!("echo {} > /proc/sys/net/ipv4/ip_forward", u8::from(on));
        self.ip(&["netns", "exec", &self.name("m"), "sh", "-c", &set])
    }

    /// `words` as a command on one of the machines.
    fn command(&self, at: &str, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(at)]).args(words).env("OMP_NUM_THREADS", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for at in ["a", "m", "b"] {
            self.ip(&["netns", "del", &self.name(at)]);
        }
    }
}

#[test]
fn two_machines_whose_network_goes_silent_both_end() {
    let Some(net) = Net::new("silent") else { return };
    let place = quadruplet();
    let line = LONG.replace("--steps 150", "--steps 100000") + " --patience 6";
    let (port, args) = (free_port().to_string(), place.args(&line));
    let children = ["a", "b"].iter().enumerate().map(|(rank, at)| {
        let words: Vec<&str> = std::iter::once(place.program.0).chain(args.iter().map(|word| &**word)).collect();
        let mut command = net.command(at, &words);
        command.envs([
            ("RANK", &*rank.to_string()),
            ("WORLD_SIZE", "2"),
            ("MASTER_ADDR", "10.77.1.2"),
            ("MASTER_PORT", &port),
        ]);
        command.spawn().expect("a process")
    });
    let mut two = Processes { children: children.collect() };
    assert!(within(120, || place.path("run/checkpoint.safetensors").exists()), "no checkpoint came");
    net.forwards(false).expect("forwarding ends");
    let ended = within(40, || two.children.iter_mut().all(|child| child.try_wait().expect("waits").is_some()));
    two.children.iter_mut().for_each(|child| drop(child.kill()));
    let outputs = two.end();
    let said: Vec<Vec<String>> = outputs.iter().map(errors).collect();
    assert!(ended && outputs.iter().all(|ended| ended.code == Some(1)), "{said:?}");
    assert!(said.iter().all(|lines| lines.len() == 1), "{said:?}");
    has(&said[0][0], "process 1 of 2 is gone");
    has(&said[1][0], "10.77.1.2|process 0");
}

#[test]
fn torchrun_starts_two_machines_again() {
    let (Some(python), Some(net)) = (python(), Net::new("again")) else { return };
    let place = quadruplet();
    let (meeting, args) = (format!("10.77.1.2:{}", free_port()), place.args(LONG));
    let machine = |at: &str, own: &str| {
        // Its own name says neither machine which of both it is.
        let hosts = format!("is_host={}", u8::from(meeting.starts_with(own)));
        let torchrun =
            "-m torch.distributed.run --no-python --nnodes 2 --nproc-per-node 1 --max-restarts 2 --rdzv-backend c10d";
        let meet = ["--rdzv-endpoint", &meeting, "--rdzv-conf", &hosts, "--local-addr", own, "--", place.program.0];
        let program = [python.to_str().expect("UTF-8")].into_iter().chain(torchrun.split(' ')).chain(meet);
        let words: Vec<&str> = program.chain(args.iter().map(|word| &**word)).collect();
        net.command(at, &words).spawn().expect("torchrun")
    };
    let both = Processes { children: vec![machine("a", "10.77.1.2"), machine("b", "10.77.2.2")] };
    let found = within(120, || place.path("run/checkpoint.safetensors").exists());
    let workers = pids(&place.program, &place.text("run"));
    workers.last().iter().for_each(|&&victim| send(victim, libc::SIGKILL));
    let outputs = both.end();
    let said: String = outputs.iter().map(|ended| &*ended.err).collect();
    assert!(found && workers.len() == 2, "{workers:?} {said}");
    assert!(outputs.iter().all(|ended| ended.code == Some(0)), "{said}");
    assert!(said.matches("meeting 2 processes").count() > 1, "{said}");
    assert_eq!(place.log("run").last().expect("a line")["step"], 299);
}
