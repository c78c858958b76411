//! Data sets and judgement: folders and manifests, their split by patient, a model over a split, metrics, the operating
//! point. The quantiser and training both stand on this; it knows neither.

#![forbid(unsafe_code)]

pub mod balance;
pub mod bootstrap;
pub mod calibration;
pub mod curves;
pub mod dataset;
mod discriminant;
pub mod domain;
pub mod evaluation;
pub mod frame_store;
pub mod frames;
mod labels;
pub mod manifest;
pub mod metrics;
pub mod operating_point;
pub mod paths;
pub mod readers;
pub mod shifts;
pub mod shortcuts;
pub mod site;
pub mod split;
pub mod subgroups;
pub mod triangle;

pub use dataset::{Dataset, DatasetError, Item, PixelStatistics, Subject};
pub use labels::{Classes, Labels};
pub use readers::{Reading, Uncertain};
pub use split::{Selection, Split};
