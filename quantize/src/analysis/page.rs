//! The page of an analysis.

use super::{Analysis, LayerAnalysis};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edge_runtime::image::Picture;
use edge_runtime::report::html::{escaped, facts, figures, html, section, table};
use edge_runtime::report::plots::{Axes, Line, lines, span};

/// A part of the network that stays float.
pub struct FloatPart {
    /// The tensor that it gives.
    pub layer: String,
    /// Its ONNX operators.
    pub operators: String,
    /// Why.
    pub reason: String,
}

/// An image whose probability changed.
pub struct Changed {
    /// Its file.
    pub file: String,
    /// What it is, in words.
    pub label: String,
    /// Probability of the float and of the int8 model.
    pub probabilities: [f32; 2],
    /// True if the finding is another.
    pub is_flipped: bool,
    /// What the float and the int8 model look at.
    pub pictures: [Picture; 2],
}

/// A part of the judged images.
pub struct Part {
    /// Its name.
    pub name: String,
    /// How many images.
    pub images: usize,
    /// How many have another finding.
    pub flips: usize,
}

/// What a page shows.
pub struct Contents<'a> {
    /// The model's name.
    pub model: &'a str,
    /// What was written and how it fares, by name.
    pub summary: Vec<(String, String)>,
    /// The measurement.
    pub analysis: &'a Analysis,
    /// What stays float.
    pub float: Vec<FloatPart>,
    /// The images that changed most; `None` where no labelled images were given.
    pub changed: Option<Vec<Changed>>,
    /// Flips by parts of them.
    pub parts: Vec<Part>,
}

/// The page of `contents`.
pub fn page(contents: &Contents) -> String {
    let analysis = contents.analysis;
    let sentence = |s: &String| format!("<li>{}</li>", escaped(s));
    let advice: String = analysis.recommendation.iter().map(sentence).collect();
    let mut body = section("In short", &format!("<ul>{advice}</ul>"));
    body += &section("The two models", &facts(&contents.summary));
    body += &section("Where it is lost", &whole(analysis));
    body += &section("Layer by layer", &layers(analysis));
    body += &section("In float", &float(&contents.float));
    body += &section("Images that changed most", &changed(contents.changed.as_deref(), &contents.parts));
    html(&format!("From float to int8: {}", contents.model), &body)
}

/// A ratio for a table.
fn decibels(db: f64) -> String {
    match db {
        db if db.is_nan() => "only zeros".into(),
        db if db.is_infinite() => "nothing lost".into(),
        db => format!("{db:.1}"),
    }
}

fn whole(analysis: &Analysis) -> String {
    let row = |name: &str, db: f64| vec![name.to_owned(), decibels(db)];
    let rows = [
        row("all of it int8", analysis.logits_db),
        row("weights rounded, activations as they are", analysis.weights_only_db),
        row("activations in codes, weights as they are", analysis.activations_only_db),
    ];
    let note = format!(
        "Signal to quantisation noise of the logits in decibels, over {} images: 20 dB is a difference of a tenth, \
         40 dB of a hundredth.",
        analysis.trial_images
    );
    let head = ["logits", "dB"].map(str::to_owned);
    format!("{}<p class=\"small\">{note}</p>{}", table(&head, &rows), figures(&plots(analysis)))
}

fn plots(analysis: &Analysis) -> [String; 2] {
    let line = |name: &str, of: fn(&LayerAnalysis) -> Option<f64>| {
        let layers = analysis.layers.iter().enumerate();
        let finite = layers.filter_map(|(i, layer)| Some((i as f64 + 1.0, of(layer).filter(|db| db.is_finite())?)));
        Line { name: name.into(), points: finite.collect() }
    };
    let plot = |title: &str, shown: &[Line]| {
        let up = span(shown.iter().flat_map(|line| line.points.iter().map(|(_, db)| *db)));
        let across = 0.5..analysis.layers.len() as f64 + 0.5;
        // A layer alone is no line.
        let marks: Vec<(f64, f64)> = shown.iter().flat_map(|line| line.points.iter().copied()).collect();
        lines(&Axes { title, x: "layer", y: "dB", across, up }, shown, &marks)
    };
    [
        plot(
            "What a layer gives, and its weights",
            &[line("what it gives", |l| Some(l.output_db)), line("its weights", |l| l.weights_db)],
        ),
        plot(
            "The logits, if one layer is different from all others",
            &[line("it alone is int8", |l| l.only_int8_db), line("it alone is float", |l| l.only_float_db)],
        ),
    ]
}

fn layers(analysis: &Analysis) -> String {
    let optional = |db: Option<f64>| db.map_or(String::new(), decibels);
    let row = |(i, layer): (usize, &LayerAnalysis)| {
        let covered = layer.covered.map_or("real values".into(), |[low, high]| format!("{low:.3} to {high:.3}"));
        vec![
            format!("{} {} {}", i + 1, layer.operator, layer.layer),
            covered,
            format!("{:.3} %", layer.beyond * 100.0),
            optional(layer.weights_db),
            decibels(layer.output_db),
            optional(layer.only_int8_db),
            optional(layer.only_float_db),
            layer.weights.to_string(),
            format!("{:.1} %", layer.work * 100.0),
        ]
    };
    let rows: Vec<Vec<String>> = analysis.layers.iter().enumerate().map(row).collect();
    let head = ["layer", "codes cover", "beyond", "weights", "gives", "alone int8", "alone float", "numbers", "work"]
        .map(str::to_owned);
    let note = format!(
        "In dB: \"weights\"; \"gives\", what a layer gives, with all that was lost before it, over {} images; \
         \"alone int8\" and \"alone float\", the logits where only this layer is int8, or only this one float. \
         \"beyond\" is the share of values that codes clip, \"numbers\" how many weights it has, \"work\" its share of \
         the multiplications.",
        analysis.images
    );
    format!("{}<p class=\"small\">{}</p>", table(&head, &rows), escaped(&note))
}

fn float(parts: &[FloatPart]) -> String {
    if parts.is_empty() {
        return "<p>Nothing: every layer runs in integers.</p>".into();
    }
    let row = |part: &FloatPart| vec![part.layer.clone(), part.operators.clone(), part.reason.clone()];
    let head = ["gives", "operators", "why"].map(str::to_owned);
    table(&head, &parts.iter().map(row).collect::<Vec<_>>())
}

fn changed(images: Option<&[Changed]>, parts: &[Part]) -> String {
    let Some(images) = images else {
        return "<p>Not judged: give labelled images with --data.</p>".into();
    };
    let picture = |picture: &Picture, form: &str, image: &Changed| {
        let png = STANDARD.encode(picture.to_png().unwrap_or_default());
        let file = escaped(&image.file);
        format!("<img alt=\"{file}, {form}\" src=\"data:image/png;base64,{png}\">")
    };
    let figure = |image: &Changed| {
        let [float, int8] = image.probabilities;
        let flipped = if image.is_flipped { ", <strong>another finding</strong>" } else { "" };
        let pictures = ["float", "int8"].into_iter().zip(&image.pictures).map(|(form, p)| picture(p, form, image));
        format!(
            "<figure>{}<figcaption>{}<br>{}: float {float:.3}, int8 {int8:.3}{flipped}</figcaption></figure>",
            pictures.collect::<String>(),
            escaped(&image.file),
            escaped(&image.label)
        )
    };
    let gallery: String = images.iter().map(figure).collect();
    let row = |part: &Part| vec![part.name.clone(), part.images.to_string(), part.flips.to_string()];
    let head = ["part", "images", "another finding"].map(str::to_owned);
    let by_part = table(&head, &parts.iter().map(row).collect::<Vec<_>>());
    format!(
        "<p class=\"small\">Above the float model, below int8. Colour: what speaks for the finding, where the network \
         has such a map.</p><div class=\"gallery\">{gallery}</div>{by_part}"
    )
}
