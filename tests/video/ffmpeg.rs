//! Films by ffmpeg.

use std::path::Path;
use std::process::Command;

use rankle::video::{Cache, Clip, VideoFiles, ffmpeg};
use rayon::prelude::*;

use crate::common::line;

/// ffmpeg with `args`; whether it could.
fn ffmpeg_makes(dir: &Path, args: &str) -> bool {
    let mut run = Command::new("ffmpeg");
    run.current_dir(dir).args(["-v", "error", "-y"]).args(args.split_whitespace());
    run.stdin(std::process::Stdio::null()).output().is_ok_and(|made| made.status.success())
}

#[test]
fn a_long_film_is_decoded_once_until_it_changes() {
    let dir = tempfile::tempdir().expect("a folder");
    let (film, cache) = (dir.path().join("long.avi"), dir.path().join("cache/films"));
    let made = |seconds: u32| {
        let source = format!("-f lavfi -i testsrc=size=40x30:rate=50:duration={seconds} -c:v mjpeg long.avi");
        ffmpeg_makes(dir.path(), &source)
    };
    if !made(21) {
        println!("skipped: no ffmpeg");
        return;
    }
    let open = || ffmpeg::Film::open_with(&film, (30, 40), Some(&cache)).expect("a film");
    let first = open();
    assert_eq!((first.frames(), &open()), (1050, &first));
    // What stands there is believed.
    let kept = std::fs::read_dir(&cache).expect("a folder").next().expect("one").expect("an entry").path();
    let mut frames: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(&kept).expect("read")).expect("JSON");
    frames.pop();
    std::fs::write(&kept, serde_json::to_vec(&frames).expect("JSON")).expect("written");
    assert_eq!(open().frames(), 1049);
    for damage in ["", "[", "[]"] {
        std::fs::write(&kept, damage).expect("written");
        assert_eq!(open(), first, "{damage}");
    }
    assert!(made(22));
    assert_eq!(open().frames(), 1100);
}

/// Every frame by its number against one decoding of all, with the number of frames.
fn by_number(path: &Path) -> usize {
    let film = ffmpeg::Film::open(path, (30, 40)).unwrap_or_else(|error| panic!("{error:#}"));
    let mut all = Vec::new();
    film.stream(|image| {
        all.push(image);
        Ok(())
    })
    .expect("streams");
    assert_eq!(film.frames(), all.len(), "{}", path.display());
    assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "{}: the frames tell nothing", path.display());
    for at in (0..all.len()).step_by(9).chain([1, all.len() - 1]) {
        assert!(film.read(at).expect("read") == all[at], "{}: frame {at} is another one", path.display());
    }
    all.len()
}

#[test]
fn films_are_read_by_their_frames_places() {
    let place = tempfile::tempdir().expect("a folder");
    let dir = place.path();
    let pipe = dir.join("pipe.mp4");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    assert!(line(ffmpeg::Film::open(&pipe, (30, 40))).contains("pipe.mp4: it is a pipe, no film"));
    let none = dir.join("none.mp4");
    std::fs::write(&none, b"no film at all").expect("written");
    if Command::new("ffmpeg").arg("-version").output().is_err() {
        println!("skipped: no ffmpeg here");
        let text = line(ffmpeg::Film::open(&none, (30, 40)));
        assert!(text.contains("ffmpeg, which is not installed"), "{text}");
        return;
    }
    assert!(line(ffmpeg::Film::open(&none, (30, 40))).contains("no video that ffmpeg can read"));
    assert!(ffmpeg_makes(dir, "-f lavfi -i anullsrc=r=8000:cl=mono -t 1 -c:a mp2 sound.mp4"));
    let text = line(ffmpeg::Film::open(&dir.join("sound.mp4"), (30, 40)));
    assert!(text.contains("sound.mp4: it has sound and no pictures"), "{text}");
    // Each frame is plainly lighter or darker than those beside it.
    let source = |rate: &str| {
        format!("-f lavfi -i nullsrc=s=64x48:r={rate},geq=lum=16+mod(37*N\\,200)+X/4:cb=128:cr=96+Y -frames:v 36")
    };
    let films = [
        ("mjpeg.avi", "30", "-c:v mjpeg", 36),
        ("ntsc.avi", "30000/1001", "-c:v mjpeg", 36),
        ("b.avi", "25", "-c:v mpeg4 -bf 2 -g 9", 36),
        ("b.mpg", "25", "-c:v mpeg2video -bf 2 -g 9", 36),
        ("b.vob", "30000/1001", "-c:v mpeg2video -bf 2 -g 12 -f vob", 36),
        ("b.MTS", "50", "-c:v libx264 -g 12 -f mpegts", 36),
        ("still.ts", "25", "-c:v mpeg2video -bf 2 -g 9", 36),
        ("edit.mp4", "30", "-c:v libx264 -g 12 -bf 3", 36),
        ("b.mov", "30000/1001", "-c:v libx264 -g 12 -bf 3", 36),
        ("open.mkv", "25", "-c:v libx264 -x264-params open-gop=1:keyint=9:bframes=3", 36),
        ("hevc.mp4", "25", "-c:v libx265 -x265-params log-level=error:keyint=9", 36),
        ("vp8.webm", "50", "-c:v libvpx -auto-alt-ref 1 -lag-in-frames 16 -g 12 -deadline realtime", 36),
        ("vp9.webm", "25", "-c:v libvpx-vp9 -g 12 -deadline realtime -cpu-used 8", 36),
        ("msmpeg.wmv", "25", "-c:v wmv2 -g 9", 36),
        ("small.flv", "25", "-c:v flv -g 9", 36),
        (
            "varies.mkv",
            "30",
            "-vf setpts=(N+10*gt(N\\,12)+N*N/50)/30/TB -fps_mode passthrough -c:v mpeg4 -bf 2 -g 9",
            36,
        ),
    ];
    films.into_par_iter().for_each(|(name, rate, codec, frames)| {
        if ffmpeg_makes(dir, &format!("{} {codec} {name}", source(rate))) {
            assert_eq!(by_number(&dir.join(name)), frames, "{name}");
        } else {
            println!("skipped: this ffmpeg cannot make {name}");
        }
    });
    // Begun within a film, by an edit list; sound that begins before the pictures.
    if ffmpeg_makes(dir, "-ss 0.5 -i edit.mp4 -c copy begun.mp4") {
        assert_eq!(by_number(&dir.join("begun.mp4")), 21);
    }
    let late =
        "-f lavfi -i anullsrc=r=8000:cl=mono -itsoffset 0.4 -i varies.mkv -map 1:v -map 0:a -t 2 -c:v copy -c:a mp2";
    assert!(ffmpeg_makes(dir, &format!("{late} late.mkv")) && by_number(&dir.join("late.mkv")) > 10);
    // Cut short, and two joined as files are.
    ["b.avi", "b.mpg", "still.ts", "varies.mkv"].into_par_iter().for_each(|name| {
        let bytes = std::fs::read(dir.join(name)).expect("made");
        let (cut, joined) = (dir.join(format!("cut-{name}")), dir.join(format!("joined-{name}")));
        std::fs::write(&cut, &bytes[..bytes.len() * 3 / 5]).expect("written");
        assert!((10..36).contains(&by_number(&cut)), "{name}");
        std::fs::write(&joined, [&bytes[..], &bytes].concat()).expect("written");
        assert!(by_number(&joined) >= 36, "{name}");
    });
    let found = VideoFiles { film: Some(dir.join("b.avi")), part: Some((11, 20)), ..VideoFiles::default() };
    let clip = Clip::open("part".into(), 0, &found, Cache::new(1 << 22)).expect("opens");
    assert_eq!(clip.frames(), 10);
    let film = ffmpeg::Film::open(&dir.join("b.avi"), rankle::video::SIZE).expect("a film");
    assert_eq!(*clip.frame(9).expect("read"), film.read(19).expect("read"));
    let part = VideoFiles { part: Some((11, 60)), ..found };
    assert!(line(Clip::open("part".into(), 0, &part, Cache::new(1))).contains("it has 36"));
}
