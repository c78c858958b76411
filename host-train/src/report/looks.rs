//! What the images of a data set look like, class by class: sums that are made while they are decoded.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use data::{Dataset, Item, Labels};
use edge_runtime::image::{GreyPlane, Picture, Sex};
use edge_runtime::report::html::{escaped, figures, html, section, table};
use edge_runtime::report::plots::{Axes, Line, lines, span};
use std::sync::Mutex;

/// Side of mean images.
const SIDE: u32 = 128;
/// Grey levels of a bar.
const BAR: usize = 4;

/// Sums over the images of one class.
#[derive(Clone)]
struct Sums {
    images: u64,
    pixels: Vec<u64>,
    greys: Vec<u64>,
}

/// Sums over the images of each class; the same whatever the order of the images.
pub struct Looks {
    classes: Vec<Mutex<Sums>>,
}

impl Looks {
    /// Nothing seen yet.
    pub fn new(labels: &Labels) -> Looks {
        let empty = Sums { images: 0, pixels: vec![0; (SIDE * SIDE) as usize], greys: vec![0; 256 / BAR] };
        Looks { classes: (0..labels.len()).map(|_| Mutex::new(empty.clone())).collect() }
    }

    /// Takes note of an image.
    pub fn add(&self, item: &Item, plane: &GreyPlane) {
        let small = plane.resized(SIDE, SIDE);
        // A thread that panicked in here has left whole numbers behind.
        let mut sums = self.classes[item.label].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        sums.images += 1;
        for (sum, grey) in sums.pixels.iter_mut().zip(&small.pixels) {
            *sum += u64::from(*grey);
        }
        for grey in &small.pixels {
            sums.greys[usize::from(*grey) / BAR] += 1;
        }
    }

    /// The page about `set`; `summary` is what a person reads first.
    pub fn page(&self, set: &Dataset, summary: &str) -> String {
        let classes: Vec<Sums> = self
            .classes
            .iter()
            .map(|sums| sums.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone())
            .collect();
        let names = set.labels.names();
        let mut body = format!("<pre>{}</pre>", escaped(summary));
        body += &section("Grey levels", &figures(&[greys(names, &classes)]));
        body += &section("Mean images", &means(names, &classes));
        body += &section("People", &people(set));
        html("Data set", &body)
    }
}

fn greys(names: &[String], classes: &[Sums]) -> String {
    let line = |(name, sums): (&String, &Sums)| {
        let all = sums.greys.iter().sum::<u64>().max(1) as f64;
        let at = |(i, count): (usize, &u64)| ((i * BAR) as f64 + BAR as f64 / 2.0, *count as f64 / all);
        Line { name: name.clone(), points: sums.greys.iter().enumerate().map(at).collect() }
    };
    let all: Vec<Line> = names.iter().zip(classes).filter(|(_, sums)| sums.images > 0).map(line).collect();
    let up = 0.0..span(all.iter().flat_map(|line| line.points.iter().map(|(_, share)| *share))).end;
    let axes = Axes { title: "Grey levels", x: "grey, 0 to 255", y: "share of the pixels", across: 0.0..256.0, up };
    lines(&axes, &all, &[])
}

fn mean(sums: &Sums) -> Vec<f64> {
    sums.pixels.iter().map(|sum| *sum as f64 / sums.images.max(1) as f64).collect()
}

/// Mean images, and how the other classes differ from the first: blue darker, red brighter.
fn means(names: &[String], classes: &[Sums]) -> String {
    let figure = |picture: &Picture, words: &str| {
        let png = STANDARD.encode(picture.to_png().unwrap_or_default());
        let words = escaped(words);
        format!(
            "<figure><img alt=\"{words}\" src=\"data:image/png;base64,{png}\"><figcaption>{words}</figcaption></figure>"
        )
    };
    let picture = |rgb: Vec<u8>| Picture { width: SIDE, height: SIDE, rgb };
    let mut figures = String::new();
    for (name, sums) in names.iter().zip(classes) {
        let rgb = mean(sums).into_iter().flat_map(|grey| [grey.round() as u8; 3]).collect();
        figures += &figure(&picture(rgb), &format!("{name}, mean of {}", sums.images));
    }
    let first = mean(&classes[0]);
    for (name, sums) in names.iter().zip(classes).skip(1) {
        let differences: Vec<f64> = mean(sums).iter().zip(&first).map(|(a, b)| a - b).collect();
        let most = differences.iter().fold(1e-9f64, |most, d| most.max(d.abs()));
        let colour = |d: &f64| {
            let fade = (255.0 * (1.0 - d.abs() / most)).round() as u8;
            if *d > 0.0 { [255, fade, fade] } else { [fade, fade, 255] }
        };
        let rgb = differences.iter().flat_map(colour).collect();
        figures += &figure(
            &picture(rgb),
            &format!("{name} against {}: red brighter, blue darker, by up to {most:.0}", names[0]),
        );
    }
    format!("<div class=\"gallery\">{figures}</div>")
}

fn people(set: &Dataset) -> String {
    let decades = |item: &&Item| item.subject.age_days.map(|days| days / 3653);
    let ages: Vec<u32> = set.items.iter().filter_map(|item| decades(&item)).collect();
    let names = set.labels.names();
    let count = |label: usize, is: &dyn Fn(&Item) -> bool| {
        set.items.iter().filter(|item| item.label == label && is(item)).count().to_string()
    };
    let row = |name: String, is: &dyn Fn(&Item) -> bool| {
        let counts = (0..names.len()).map(|label| count(label, is));
        std::iter::once(name).chain(counts).collect::<Vec<_>>()
    };
    let mut rows = Vec::new();
    for decade in 0..=ages.iter().copied().max().unwrap_or(0) {
        let is = |item: &Item| decades(&item) == Some(decade);
        if ages.contains(&decade) {
            rows.push(row(format!("age {} to {}", decade * 10, decade * 10 + 9), &is));
        }
    }
    rows.push(row("age not known".into(), &|item| item.subject.age_days.is_none()));
    rows.push(row("female".into(), &|item| item.subject.sex == Some(Sex::Female)));
    rows.push(row("male".into(), &|item| item.subject.sex == Some(Sex::Male)));
    rows.push(row("sex not known".into(), &|item| item.subject.sex.is_none()));
    let head: Vec<String> = std::iter::once("images".to_owned()).chain(names.iter().cloned()).collect();
    table(&head, &rows)
}
