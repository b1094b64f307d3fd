//! Skill determination: losses against the sheet's numbers and nested loops; pair graphs; networks; videos.

mod losses;
