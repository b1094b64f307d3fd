//! The binaries as several processes: the same run as one process has, deaths, restarts, and environments that are wrong.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use rankle::datasets::drawn::face;
use serde_json::Value;
use tch::{Kind, Tensor};

use super::launch::{Processes, free_port};
use crate::common::{Place, Program, close, has, value, within};
use crate::export::python;

const TRIPLET_REID: Program = Program(env!("CARGO_BIN_EXE_triplet-reid"));

/// Twelve drawn people in CUHK01's layout, for quadruplet's small network.
fn quadruplet() -> Place {
    let usual = "--data @cuhk01 --test-people 5 --net small --size 32x16 --quadruplets 8 --device cpu";
    let place = Place::new(Program(env!("CARGO_BIN_EXE_quadruplet")), usual);
    for (person, shot) in (1..13).flat_map(|person| (0..4).map(move |shot| (person, shot))) {
        place.photo(&format!("cuhk01/campus/{person:04}{:03}.png", shot + 1), person, 1 + shot / 2, shot % 2);
    }
    place
}

fn start(size: usize, place: &Place, line: &str) -> Processes {
    Processes::start(size, |_| place.command(line))
}

/// Lines `error: ...` that a process said.
fn errors(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr).to_string();
    for word in ["panicked", "backtrace", "frame #", "defect"] {
        assert!(!text.contains(word), "{text}");
    }
    text.lines().filter(|line| line.contains("error: ")).map(String::from).collect()
}

#[test]
fn two_and_four_processes_take_the_steps_of_one() {
    let place = quadruplet();
    // Few steps, and whole tensors: rounding turns a ReLU here and there, and from then on grows.
    place.good("train @one --steps 2 --steps2 1 --log-every 1");
    for size in [2, 4] {
        let name = format!("of-{size}");
        start(size, &place, &format!("train @{name} --steps 2 --steps2 1 --log-every 1 --sync-batch-norm")).good();
        let (ours, theirs) = (place.log(&name), place.log("one"));
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours["step"], theirs["step"]);
            let number = |line: &Value, key: &str| line[key].as_f64().expect("a number");
            close(number(ours, "mean"), number(theirs, "mean"), 1e-4);
        }
        let weights =
            |name: &str| rankle::weights::read(&place.path(name).join("checkpoint.safetensors")).expect("weights");
        for ((name, ours), (_, theirs)) in weights(&name).iter().zip(&weights("one")) {
            if ours.is_floating_point() {
                let length = |x: &Tensor| value(&x.to_kind(Kind::Double).norm());
                let off = length(&(ours - theirs)) / length(theirs).max(0.1);
                assert!(off < 0.02, "{name}: {off} of its length");
            }
        }
    }
    // A network that compares two photos.
    scores_of_three_are_those_of_one(&place, "evaluate @one --device cpu --pairs 8 --draws 5", 8);
}

#[test]
fn lunet_in_two_processes_with_synchronised_batch_norm_trains_and_scores_as_one() {
    let usual =
        "--data @market --net lunet --shrink 8 --size 64x32 --p 4 --k 3 --t0 3 --t1 4 --log-every 1 --device cpu";
    let place = Place::new(TRIPLET_REID, usual);
    for (person, shot) in (1..13).flat_map(|person| (0..4).map(move |shot| (person, shot))) {
        let (camera, shot) = (1 + shot / 2, shot % 2);
        let name = format!("{person:04}_c{camera}s1_{:06}_00.png", shot * 25);
        let folder = if person < 9 { "bounding_box_train" } else { "bounding_box_test" };
        place.photo(&format!("market/{folder}/{name}"), person, camera, shot);
        if person > 8 && shot == 0 {
            place.photo(&format!("market/query/{name}"), person, camera, shot);
        }
    }
    place.good("train @one");
    start(2, &place, "train @two --sync-batch-norm").good();
    let means = |name: &str| -> Vec<f64> { place.log(name).iter().filter_map(|line| line["mean"].as_f64()).collect() };
    assert_eq!((means("two").len(), means("one").len()), (4, 4));
    for (ours, theirs) in means("two").iter().zip(means("one")) {
        close(*ours, theirs, 1e-3);
    }
    // Without it a process sees its own people's statistics: another run.
    start(2, &place, "train @own").good();
    assert!((means("own")[0] - means("one")[0]).abs() > 1e-4);

    scores_of_three_are_those_of_one(&place, "evaluate @one --device cpu --rerank", 8);
}

/// Three processes score the run `one` to the digits that one process finds.
#[track_caller]
fn scores_of_three_are_those_of_one(place: &Place, line: &str, least: usize) {
    let scores = |size| -> Vec<(String, f64)> {
        start(size, place, line).good();
        let scores = place.json("one/results.json")["scores"].clone();
        fs::remove_file(place.path("one/results.json")).expect("removed");
        let map = scores.as_object().expect("scores").clone();
        map.into_iter().map(|(name, score)| (name, score.as_f64().expect("a number"))).collect()
    };
    let (by_one, by_three) = (scores(1), scores(3));
    assert!(by_one.len() > least, "{by_one:?}");
    for ((name, ours), (other, theirs)) in by_three.into_iter().zip(by_one) {
        assert_eq!(name, other);
        close(ours, theirs, 1e-6);
    }
}

/// Batches of uneven numbers of faces, whose loss is over all pairs of all processes.
#[test]
fn facenet_in_three_processes_sees_the_pairs_of_one() {
    let usual = "--data @faces --net small --size 16 --shrink 8 --width 16 --people 4 --faces 3 --negatives 2 --steps 4 \
                 --lr 0.01 --log-every 1 --device cpu";
    let place = Place::new(Program(env!("CARGO_BIN_EXE_facenet")), usual);
    for (person, shot) in (1..9).flat_map(|person| (0..4).map(move |shot| (person, shot))) {
        let part = if person < 7 { "train" } else { "test" };
        let path = place.made(&format!("faces/{part}/P{person}/P{person}_{:04}.png", shot + 1));
        face(3, person, shot, 20).save(path).expect("saved");
    }
    place.good("train @one --chunk 64");
    start(3, &place, "train @three --chunk 64 --sync-batch-norm").good();
    let (ours, theirs) = (place.log("three"), place.log("one"));
    assert_eq!((ours.len(), theirs.len()), (4, 4));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!((&ours["step"], &ours["terms"]), (&theirs["step"], &theirs["terms"]));
        close(ours["mean"].as_f64().expect("a number"), theirs["mean"].as_f64().expect("a number"), 1e-3);
    }
    scores_of_three_are_those_of_one(&place, "evaluate @one --device cpu --enrolled 1 --neighbours 1", 10);
    // In chunks a share takes several passes; their number differs, which synchronised statistics can't have.
    start(3, &place, "train @chunks --chunk 4").good();
    let outputs = start(3, &place, "train @both --chunk 4 --sync-batch-norm").end();
    let said: Vec<String> = outputs.iter().flat_map(errors).collect();
    assert!(said.iter().any(|line| line.contains("--sync-batch-norm") && line.contains("--chunk")), "{said:?}");
}

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
        for (rank, output) in processes.end().iter().enumerate().filter(|(rank, _)| *rank != victim) {
            let errors = errors(output);
            assert_eq!((output.status.code(), errors.len()), (Some(1), 1), "process {rank}: {errors:?}");
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
        let send = |rank: usize, signal: i32| {
            // SAFETY: a signal to a process that this test has started and not waited for.
            unsafe { libc::kill(processes.children[rank].id() as i32, signal) };
        };
        let length = |name: &str| fs::metadata(place.path(name)).map_or(0, |data| data.len());
        let before = (length("run/log.jsonl"), fs::read(&checkpoint).unwrap_or_default());
        assert!(within(120, || length("run/log.jsonl") > before.0), "no step was taken");
        send(1, libc::SIGUSR1);
        assert!(within(60, || fs::read(&checkpoint).is_ok_and(|now| now != before.1)), "nothing was kept");
        victims.for_each(|rank| send(rank, signal));
        let mut said = String::new();
        for output in processes.end() {
            said += &String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(128 + signal), "{said}");
        }
        assert_eq!((said.matches("stopped by SIG").count(), said.matches("error").count()), (1, 0), "{said}");
        has(&said, "the checkpoint of step|start all processes again");
    }
}

/// What went wrong in one process stands in its own line; the others say that they miss it.
#[test]
fn the_error_of_one_process_is_not_hidden_by_its_peers() {
    let place = quadruplet();
    for (person, shot) in (1..13).flat_map(|person| (0..4).map(move |shot| (person, shot))) {
        place.photo(&format!("b/cuhk01/campus/{person:04}{:03}.png", shot + 1), person, 1 + shot / 2, shot % 2);
    }
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
        for (number, output) in processes.end().iter().enumerate() {
            let errors = errors(output);
            assert_eq!((output.status.code(), errors.len()), (Some(1), 1), "process {number}: {errors:?}");
            let words = if number == rank { words } else { &format!("process {rank} of 2 ended") };
            assert!(errors[0].contains(words), "process {number}: {}", errors[0]);
            assert!(number != rank || !errors[0].contains("of 2 ended"), "{}", errors[0]);
        }
    }
}

/// Process 0 reads folders for all: what others' have besides is not looked at; what they lack, whoever looks for it says.
#[test]
fn folders_are_listed_by_one_process_for_all() {
    let place = quadruplet();
    let there = |folder: &str, people: std::ops::Range<u64>| {
        for (person, shot) in people.flat_map(|person| (0..4).map(move |shot| (person, shot))) {
            let name = format!("{folder}/cuhk01/campus/{person:04}{:03}.png", shot + 1);
            place.photo(&name, person, 1 + shot / 2, shot % 2);
        }
    };
    there("more", 1..15);
    there("less", 1..12);
    let line =
        "train --data cuhk01 --test-people 5 --net small --size 32x16 --quadruplets 8 --device cpu --steps 1 --run";
    for (folder, code) in [("more", 0), ("less", 1)] {
        let run = place.path(&format!("run-{folder}"));
        let outputs = Processes::start(2, |rank| {
            let words: Vec<&str> = line.split_whitespace().chain([run.to_str().expect("UTF-8")]).collect();
            let mut command = place.program.command(&words);
            command.current_dir(place.path(["", folder][rank]));
            command
        })
        .end();
        let said: Vec<Vec<String>> = outputs.iter().map(errors).collect();
        assert!(outputs.iter().all(|output| output.status.code() == Some(code)), "{folder}: {said:?}");
        assert!(code == 0 || said[1][0].contains("0012") && said[0][0].contains("process 1 of 2 ended"), "{said:?}");
    }
}

/// Before the first step the first signal ends a process, with a line; in a step that does not end a second one does.
#[test]
fn no_process_outlives_a_second_signal_or_one_before_its_first_step() {
    let place = quadruplet();
    let send = |child: &std::process::Child, signal: i32| {
        // SAFETY: a signal to a process that this test has started and not waited for.
        unsafe { libc::kill(child.id() as i32, signal) };
    };
    let mut one = place.command("train @run");
    let port = free_port().to_string();
    one.envs([("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", &port)]);
    let mut one = one.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut said = BufReader::new(one.stderr.take().expect("stderr")).lines().map(|line| line.expect("text"));
    assert!(said.any(|line| line.contains("meeting 2 processes")));
    send(&one, libc::SIGTERM);
    let said = said.collect::<Vec<_>>().join("\n");
    assert_eq!(one.wait().expect("ends").code(), Some(128 + libc::SIGTERM), "{said}");
    has(&said, "stopped by SIGTERM: no step was in hand|start all processes again");

    let mut two = start(2, &place, LONG);
    assert!(within(60, || place.path("run/checkpoint.safetensors").exists()), "no checkpoint came");
    send(&two.children[1], libc::SIGSTOP);
    let ended = within(9, || {
        send(&two.children[0], libc::SIGINT);
        two.children[0].try_wait().expect("waits").is_some()
    });
    send(&two.children[1], libc::SIGKILL);
    let output = two.end().remove(0);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(ended && output.status.code() == Some(128 + libc::SIGINT), "{said}");
    has(&said, "SIGINT: the step in hand|stopped by SIGINT: at once|start all processes again");
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
    if let Some(&victim) = workers.last() {
        // SAFETY: a signal to a process that this test had started.
        unsafe { libc::kill(victim as i32, libc::SIGKILL) };
    }
    let output = child.wait_with_output().expect("what it said");
    let said = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(found && workers.len() == 2, "{workers:?} {said}");
    assert!(output.status.success(), "{said}");
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
        let send = |two: &Processes, signal: i32| {
            // SAFETY: a signal to a process that this test has started and not waited for.
            unsafe { libc::kill(two.children[victim].id() as i32, signal) };
        };
        send(&two, libc::SIGSTOP);
        let ended = within(40, || two.children[1 - victim].try_wait().expect("waits").is_some());
        send(&two, libc::SIGCONT);
        let outputs = two.end();
        for (rank, output) in outputs.iter().enumerate() {
            let errors = errors(output);
            assert_eq!((output.status.code(), errors.len()), (Some(1), 1), "process {rank}: {errors:?}");
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
    assert!(ended && outputs.iter().all(|output| output.status.code() == Some(1)), "{said:?}");
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
    if let Some(&victim) = workers.last() {
        // SAFETY: a signal to a process that this test had started.
        unsafe { libc::kill(victim as i32, libc::SIGKILL) };
    }
    let outputs = both.end();
    let said: String = outputs.iter().map(|output| String::from_utf8_lossy(&output.stderr).to_string()).collect();
    assert!(found && workers.len() == 2, "{workers:?} {said}");
    assert!(outputs.iter().all(|output| output.status.success()), "{said}");
    assert!(said.matches("meeting 2 processes").count() > 1, "{said}");
    assert_eq!(place.log("run").last().expect("a line")["step"], 299);
}

#[test]
fn environments_that_are_wrong_are_answered_in_a_line() {
    let train = "train --data drawn --device cpu";
    let of_two = "WORLD_SIZE=2 RANK=0 MASTER_ADDR=127.0.0.1 MASTER_PORT=";
    for (line, variables, words) in [
        (train, "WORLD_SIZE=2", "RANK|torchrun"),
        (train, "WORLD_SIZE=two", "WORLD_SIZE|whole number"),
        (train, "WORLD_SIZE=0", "WORLD_SIZE is 0"),
        (train, "WORLD_SIZE=2 RANK=2", "RANK is 2|0 to 1"),
        (train, "WORLD_SIZE=1 RANK=1", "RANK is 1 but WORLD_SIZE is 1"),
        (train, "WORLD_SIZE=2 RANK=0", "MASTER_ADDR"),
        (train, &format!("{of_two}http"), "MASTER_PORT|a port"),
        ("export --run nowhere", &format!("{of_two}1"), "this verb takes one process|WORLD_SIZE"),
        ("train --data drawn --device cpu --sync-batch-norm", "", "--sync-batch-norm|torchrun"),
        ("train --data drawn --device cpu --patience 9", "", "--patience 9|torchrun"),
    ] {
        let mut command = TRIPLET_REID.command(&line.split(' ').collect::<Vec<_>>());
        let variables = variables.split_whitespace().filter_map(|variable| variable.split_once('='));
        let output = command.envs(variables).output().expect("the binary starts");
        let errors = errors(&output);
        assert_eq!((output.status.code(), errors.len()), (Some(1), 1), "{line}: {errors:?}");
        has(&errors[0], words);
    }
}

#[test]
fn a_process_that_waits_says_for_whom() {
    let port = free_port().to_string();
    let cases = [
        (
            "1",
            "nowhere.invalid",
            "process 1 of 2 waits for process 0 at MASTER_ADDR nowhere.invalid, a name that leads",
        ),
        ("1", "127.0.0.1", "process 1 of 2 waits for process 0 at MASTER_ADDR 127.0.0.1, MASTER_PORT"),
        ("0", "127.0.0.1", "of 2 processes (WORLD_SIZE) these have not come yet: 1"),
    ];
    let waits = |&(rank, host, words): &(&str, &str, &str)| {
        // Each its own port, or two of them would meet.
        let port = if rank == "1" { port.clone() } else { free_port().to_string() };
        let mut command = TRIPLET_REID.command(&["train", "--data", "drawn", "--device", "cpu"]);
        command.envs([("RANK", rank), ("WORLD_SIZE", "2"), ("MASTER_ADDR", host), ("MASTER_PORT", &port)]);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("a process");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let found = lines.any(|line| line.contains(words));
        let _ = (child.kill(), child.wait());
        assert!(found, "not said: {words}");
    };
    std::thread::scope(|scope| cases.iter().for_each(|case| drop(scope.spawn(|| waits(case)))));
}

#[test]
fn processes_that_differ_are_told_so() {
    let place = quadruplet();
    // Other verbs, or a folder that one of them alone was told.
    let drawn = "train --data drawn --device cpu";
    for (other, words) in [
        ("evaluate @nowhere --device cpu", "the program and its verb"),
        ("train @nowhere --data drawn --device cpu", "--run: give every process"),
    ] {
        let bare = Place::new(TRIPLET_REID, "");
        let outputs = Processes::start(2, |rank| bare.command(if rank == 0 { drawn } else { other })).end();
        let said: Vec<String> = outputs.iter().flat_map(errors).collect();
        assert!(outputs.iter().all(|output| output.status.code() == Some(1)), "{said:?}");
        assert!(!said.is_empty() && said.iter().all(|line| line.contains(words)), "{said:?}");
    }
    // Other flags in one of them.
    let line = |rank: usize| format!("train @run --steps 5 --seed {}", rank + 1);
    let outputs = Processes::start(2, |rank| place.command(&line(rank))).end();
    let said: Vec<String> = outputs.iter().flat_map(errors).collect();
    assert!(outputs.iter().all(|output| output.status.code() == Some(1)), "{said:?}");
    assert!(
        !said.is_empty()
            && said.iter().all(|line| line.contains("flags: give every process the same ones: they differ in --seed")),
        "{said:?}"
    );
    assert!(!place.path("run/config.json").exists(), "a run that nobody began");
    // More processes than a batch has parts.
    let outputs = start(3, &place, "train @few --steps 5 --quadruplets 2").end();
    let said: Vec<String> = outputs.iter().flat_map(errors).collect();
    assert!(outputs.iter().all(|output| output.status.code() == Some(1)), "{said:?}");
    assert!(said.iter().any(|line| line.contains("start fewer, or make the batch larger")), "{said:?}");
}
