//! 1704.03135: losses against the sheet's numbers and against loops; networks; data sets; drawn images.

mod data;
mod decisions;
mod losses;
mod networks;
