//! Skill determination: losses against the sheet's numbers and nested loops; pair graphs; networks; videos.

mod annotations;
mod graph;
mod losses;
mod networks;
mod scores;
mod video;
