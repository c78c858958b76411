//! Training through the real binary: every network trains, exports what it trained and quantises; Hilum's operators end
//! where burn's do; the benchmark and the devices.

use data::{Classes, frames};
use edge_runtime::engine::Compute;
use edge_runtime::explain::Heat;
use edge_runtime::image::GreyPlane;
use edge_runtime::image::preprocess::preprocess;
use edge_runtime::model::Model;
use host_train::device::{self, DeviceKind};
use host_train::network::{Conv, Network, values};
use host_train::recipe::{HeadSpec, NetworkSpec};
use host_train::trained::TrainedRun;
use serde_json::{Value, json as object};
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::{json, ok, run};

/// A recipe of one epoch for `network`, and the images for it.
fn prepare(at: &Path, network: &str) {
    ok("host-train", &["phantom", "data", "--images", "64"], at);
    let recipe = format!(
        "name = 'tiny'\n[input]\nsize = 64\nchannels = 1\nresize = 'stretch'\nmean = 128\nstd = 128\n\
         [network]\n{network}\n[train]\nepochs = 1\nbatch = 8\nlearning_rate = 1e-3\npatience = 1\n\
         [operating_point]\nrule = 'youden'\n"
    );
    std::fs::write(at.join("recipe.toml"), recipe).unwrap();
}

fn last_epoch(run: &Path) -> Value {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn every_network_trains_exports_and_quantises() {
    let networks = [
        "kind = 'resnet50'\n[head]\ndense = 16\nl2 = 0.01\noutput = 'sigmoid'",
        "kind = 'densenet121'\n[head]\ndropout = 0.1",
        "kind = 'mobilenet-v2'\nlast = 1280\n[head]\ndropout = 0.1",
        "kind = 'efficientnet-lite0'\n[head]\ndropout = 0.1",
        "kind = 'cnn'\nchannels = [8, 16]\nbatch_norm = false\n[head]\npooling = 'flatten'\ndense = 128\ndropout = 0.1",
    ];
    for network in networks {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        prepare(at, network);
        ok("host-train", &["train", "-q", "--recipe", "recipe.toml", "--data", "data", "--out", "run"], at);
        // The epoch was judged by the network that trained, the evaluation by the exported one on the device's engine.
        let trained = last_epoch(&at.join("run"));
        let exported: Value =
            serde_json::from_str(&std::fs::read_to_string(at.join("run/evaluation.json")).unwrap()).unwrap();
        let apart = (trained["val_auroc"].as_f64().unwrap() - exported["auroc"].as_f64().unwrap()).abs();
        assert!(apart < 0.02, "{network}: {trained} {exported}");
        ok("quantize", &["run/model.onnx"], at);
        let image = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/phantom-chest.jpeg");
        let scan = json("edge-runtime", &["scan", image, "--model", "run/model.hilum", "--json"], at);
        assert!(scan["probability"].is_number(), "{network}: {scan}");
    }
}

/// Writes random weights of MobileNetV2 in torchvision's names as a safetensors file: its length, its head, its
/// numbers.
fn write_weights(path: &Path) {
    let (device, operators) = device::open(DeviceKind::Cpu).unwrap();
    let spec = NetworkSpec::MobilenetV2 { blocks: 17, last: 1280 };
    let network = Network::of(&spec, &HeadSpec::default(), [64, 3], 2, operators, &device);
    let mut head = serde_json::Map::new();
    let mut numbers: Vec<u8> = Vec::new();
    let mut add = |name: String, shape: &[usize], values: Vec<f32>| {
        let from = numbers.len();
        numbers.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let tensor = object!({"dtype": "F32", "shape": shape, "data_offsets": [from, numbers.len()]});
        assert!(head.insert(name, tensor).is_none());
    };
    let mut conv = |conv: &Conv| {
        add(format!("{}.weight", conv.names[0]), &conv.weight.dims(), values(conv.weight.val()));
        let channels = conv.weight.dims()[0];
        for (part, value) in [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)] {
            add(format!("{}.{part}", conv.names[1]), &[channels], vec![value; channels]);
        }
    };
    network.stages.iter().flat_map(|stage| &stage.convs).for_each(&mut conv);
    add("classifier.1.bias".into(), &[3], vec![0.0; 3]);
    let head = serde_json::to_vec(&Value::Object(head)).unwrap();
    let file = [&(head.len() as u64).to_le_bytes()[..], &head, &numbers].concat();
    std::fs::write(path, file).unwrap();
}

/// Two stages: the head alone on kept features, then the last layers on fresh ones, with all that a stage can have.
const TWO_STAGES: &str = "\
name = 'two-stages'
[input]
size = 64
channels = 1
resize = 'stretch'
mean = 128
std = 128
[network]
kind = 'mobilenet-v2'
last = 1280
[head]
dense = 16
dropout = 0.2
l2 = 0.001
output = 'sigmoid'
[augment]
flip = true
cutout = 0.3
[[train]]
epochs = 2
batch = 16
trainable = 'head'
variants = 2
learning_rate = 1e-3
patience = 2
[[train]]
epochs = 3
batch = 16
trainable = { last-layers = 20 }
learning_rate = 1e-3
layer_decay = 0.5
schedule = { triangular = { lowest = 1e-4, step-size = 3 } }
ema = 0.5
focal = 1.0
sampling = 'balanced'
patience = 3
monitor = 'auroc'
[operating_point]
rule = 'youden'
";

#[test]
fn stages_follow_one_another_and_resume_exactly_wherever_they_are_killed() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    ok("host-train", &["phantom", "data", "--images", "64"], at);
    std::fs::write(at.join("recipe.toml"), TWO_STAGES).unwrap();
    write_weights(&at.join("weights.safetensors"));
    let args = ["train", "--recipe", "recipe.toml", "--data", "data", "--weights", "weights.safetensors", "--out"];
    let whole = run("host-train", &[&args[..], &["whole"]].concat(), at);
    assert_eq!(whole.code, Some(0), "{}", whole.stderr);
    assert!(whole.stderr.contains("not used: classifier.1.bias"), "{}", whole.stderr);
    let metrics = |run: &str| std::fs::read_to_string(at.join(run).join("metrics.jsonl")).unwrap();
    let stages: Vec<Value> =
        metrics("whole").lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["stage"].clone()).collect();
    assert_eq!(stages, [1, 1, 2, 2, 2]);

    // Killed in the middle of the first and of the second stage, and again.
    for kept in [1, 3, 4] {
        let mut more = vec!["broken"];
        more.extend((kept > 1).then_some("--resume"));
        let mut child =
            Command::new(tests::binary("host-train")).args(args).args(more).current_dir(at).spawn().unwrap();
        let checkpoint = at.join(format!("broken/checkpoint-{kept}/optimizer.bpk"));
        while !checkpoint.is_file() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
    ok("host-train", &[&args[..], &["broken", "--resume"]].concat(), at);
    let models = ["whole", "broken"].map(|run| std::fs::read(at.join(run).join("model.onnx")).unwrap());
    assert!(models[0] == models[1], "the resumed run ended in other weights");
}

#[test]
fn weights_of_another_network_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    prepare(at, "kind = 'resnet50'");
    write_weights(&at.join("weights.safetensors"));
    let args = ["train", "-q", "--recipe", "recipe.toml", "--data", "data", "--out", "run", "--weights"];
    let out = run("host-train", &[&args[..], &["weights.safetensors"]].concat(), at);
    assert_eq!(out.code, Some(1));
    tests::assert_sentence(&out.stderr);
    for words in ["`conv1.weight` is missing", "more; ", "tensors of the file have no place in it"] {
        assert!(out.stderr.contains(words), "{}", out.stderr);
    }
}

/// A trained phantom network and its images.
fn trained() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_owned();
    ok("host-train", &["phantom", "data", "--images", "320"], &at);
    ok("host-train", &["train", "-q", "--recipe", "phantom-cnn", "--data", "data", "--out", "run"], &at);
    (dir, at)
}

/// `frame` with the tenth of its pixels that `heat` is highest on at its mean grey.
fn hidden(frame: &GreyPlane, heat: impl Fn(usize) -> f32) -> GreyPlane {
    let mut order: Vec<usize> = (0..frame.pixels.len()).collect();
    order.sort_by(|a, b| heat(*b).total_cmp(&heat(*a)));
    let mean = frame.pixels.iter().map(|p| u32::from(*p)).sum::<u32>() / frame.pixels.len() as u32;
    let mut out = frame.clone();
    order[..order.len() / 10].iter().for_each(|i| out.pixels[*i] = mean as u8);
    out
}

#[test]
fn hiding_what_the_network_looks_at_matters_more_than_hiding_anything() {
    let (_dir, at) = trained();
    let compute = Compute::default();
    let model = Model::load(&at.join("run/model.onnx"), &compute).unwrap();
    let input = model.contract.input.clone();
    let explainer =
        TrainedRun::open(&at.join("run")).unwrap().explainer(&Classes::Pneumonia.labels(), input.clone()).unwrap();
    let side = input.size as usize;
    let of_pixel =
        |heat: &Heat, i: usize| heat.values[i / side * heat.height / side * heat.width + i % side * heat.width / side];
    // The same shuffle for each image, coarse as the map is: cells of 8×8.
    let random = |i: usize| ((i / side / 8 * 8 + i % side / 8) * 2_654_435_761 % 1009) as f32;
    let mut images: Vec<PathBuf> =
        std::fs::read_dir(at.join("data/test/PNEUMONIA")).unwrap().map(|f| f.unwrap().path()).collect();
    images.sort();
    let mut falls = [0.0; 3];
    for path in &images {
        let frame = preprocess(&frames::radiograph(path).unwrap().plane, &input);
        let explained = explainer.explain(&frame);
        let logit = |frame: &GreyPlane| {
            let logits = model.infer(frame).unwrap().logits;
            logits[1] - logits[0]
        };
        let whole = logit(&frame);
        falls[0] += whole - logit(&hidden(&frame, |i| of_pixel(&explained.grad_cam, i)));
        falls[1] += whole - logit(&hidden(&frame, |i| of_pixel(&explained.saliency, i)));
        falls[2] += whole - logit(&hidden(&frame, random));
    }
    let count = images.len() as f32;
    assert!(images.len() >= 20);
    assert!(falls[0] > falls[2] + 0.05 * count, "Grad-CAM {} random {} of {count}", falls[0], falls[2]);
    assert!(falls[1] > falls[2] + 0.05 * count, "saliency {} random {} of {count}", falls[1], falls[2]);
}

#[test]
fn a_run_is_reported_compared_and_explained() {
    let (_dir, at) = trained();
    let read = |name: &str| std::fs::read_to_string(at.join("run").join(name)).unwrap();
    let page = read("report.html");
    for words in
        ["not a diagnosis", "Receiver operating characteristic", "Confusion matrix", "data:image/png", "Missed"]
    {
        assert!(page.contains(words), "{words}");
    }
    assert!(!page.contains("http://") || page.matches("http://").count() == page.matches("http://www.w3.org").count());
    let report: Value = serde_json::from_str(&read("report.json")).unwrap();
    let counted: u64 = report["confusion"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(report["metrics"]["n"], counted);
    assert!(report["intervals"]["auroc"][0].as_f64().unwrap() <= report["metrics"]["auroc"].as_f64().unwrap());
    assert!(read("model-card.md").contains("not a diagnosis"));

    ok("quantize", &["run/model.onnx"], &at);
    let judged = ["report", "run", "--model", "run/model.hilum", "--split", "test", "--out", "int8", "--json"];
    let int8 = json("host-train", &judged, &at);
    assert_eq!(int8["split"], "test");
    assert!(at.join("int8/report.html").is_file());

    let table = ok("host-train", &["compare", "run", "--html", "compare.html"], &at);
    assert!(table.contains("phantom-cnn") && at.join("compare.html").is_file());
    let out = run("host-train", &["compare", "data"], &at);
    assert_eq!(out.code, Some(1));
    assert!(out.stderr.contains("data: not the folder of a run"), "{}", out.stderr);

    let image = std::fs::read_dir(at.join("data/test/NORMAL")).unwrap().next().unwrap().unwrap().path();
    let image = image.to_str().unwrap();
    ok("host-train", &["explain", "--run", "run", image, "--out", "maps"], &at);
    assert_eq!(std::fs::read_dir(at.join("maps")).unwrap().count(), 2);
    let out = run("host-train", &["explain", "--run", "run", image, image, "--out", "maps2"], &at);
    assert_eq!(out.code, Some(1));
    tests::assert_sentence(&out.stderr);
}

#[test]
fn frames_are_decoded_once_with_a_cache() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    prepare(at, "kind = 'cnn'\nchannels = [4]\nbatch_norm = true");
    let args = ["train", "--recipe", "recipe.toml", "--data", "data", "--frame-cache", "cache", "--out"];
    let models = ["first", "second"].map(|out| {
        let done = run("host-train", &[&args[..], &[out]].concat(), at);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert_eq!(done.stderr.contains("were decoded before"), out == "second", "{}", done.stderr);
        std::fs::read(at.join(out).join("model.onnx")).unwrap()
    });
    assert!(models[0] == models[1]);
}

#[test]
fn three_classes_become_one_finding_on_the_device() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    ok("host-train", &["phantom", "data", "--images", "96"], at);
    // Phantoms are all bacterial: half of them are called viral.
    for split in ["train", "test"] {
        for (i, file) in std::fs::read_dir(at.join("data").join(split).join("PNEUMONIA")).unwrap().enumerate() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if i % 2 == 0 {
                std::fs::rename(&path, path.with_file_name(name.replace("bacteria", "virus"))).unwrap();
            }
        }
    }
    let recipe =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../host-train/recipes/phantom-cnn.toml"));
    let recipe = recipe.unwrap().replace("epochs = 12", "epochs = 2") + "\n[data]\nclasses = 'bacterial-viral'\n";
    std::fs::write(at.join("recipe.toml"), recipe).unwrap();
    ok("host-train", &["train", "-q", "--recipe", "recipe.toml", "--data", "data", "--out", "run"], at);
    ok("quantize", &["run/model.onnx", "--data", "data"], at);
    let image = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/phantom-chest.jpeg");
    let scan = json("edge-runtime", &["scan", image, "--model", "run/model.hilum", "--policy", "ignore", "--json"], at);
    assert!(["PNEUMONIA", "NORMAL"].contains(&scan["label"].as_str().unwrap()), "{scan}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(at.join("run/report.json")).unwrap()).unwrap();
    assert_eq!(report["confusion"].as_array().unwrap().len(), 3);
    // The same data for a model of two classes.
    let evaluated = json("host-train", &["evaluate", "--model", "run/model.hilum", "--data", "data", "--json"], at);
    assert!(evaluated["auroc"].is_number());
}

#[test]
fn own_operators_end_where_burns_do() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    ok("host-train", &["phantom", "data", "--images", "160"], at);
    let ends = ["own", "burn"].map(|operators| {
        let mut args = vec!["train", "-q", "--recipe", "phantom-cnn", "--data", "data", "--out", operators];
        if operators == "burn" {
            args.push("--burn-operators");
        }
        ok("host-train", &args, at);
        last_epoch(&at.join(operators))
    });
    // The same random numbers, sums in another order: what differs at the end is what rounding has grown to.
    for (key, apart) in [("train_loss", 0.03), ("val_loss", 0.05), ("val_auroc", 0.05)] {
        let [own, burn] = [0, 1].map(|i: usize| ends[i][key].as_f64().unwrap());
        assert!((own - burn).abs() < apart, "{key}: {own} with our operators, {burn} with burn's");
    }
}

#[test]
fn the_benchmark_reports_in_json() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["bench", "-q", "--network", "mobilenetv2", "--size", "32", "--batch", "2", "--steps", "1", "--json"];
    let report = json("host-train", &args, dir.path());
    assert_eq!(report["parameters"], 3_504_872);
    for key in ["train_images_per_s", "infer_images_per_s", "threads", "forward_ms", "backward_ms", "update_ms"] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key}: {report}");
    }
    let out = run("host-train", &["bench", "--network", "no-such-network"], dir.path());
    assert_eq!(out.code, Some(1), "{}", out.stderr);
    assert!(out.stderr.contains("mobilenetv2, efficientnet-lite0, densenet121, resnet50"), "{}", out.stderr);
}

#[test]
fn a_missing_graphics_card_is_said_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let out = run("host-train", &["bench", "--network", "phantom-cnn", "--device", "gpu", "--steps", "1"], dir.path());
    // The tests build host-train without the GPU backend.
    assert_eq!(out.code, Some(1), "{}", out.stderr);
    assert!(out.stderr.contains("--features wgpu") && out.stderr.trim_end().lines().count() == 1, "{}", out.stderr);
}

/// Two variants of a small recipe.
const STUDY: &str = "\
name = 'small'
base = 'tiny.toml'
seeds = [1, 2]
choose = 'mean-shift'
[[variant]]
name = 'plain'
[[variant]]
name = 'exchange'
[variant.set.augment]
histogram_exchange = 0.5
[[variant]]
name = 'taught'
teachers = 'plain'
set.distillation.share = 0.7
";

const TINY: &str = "\
name = 'tiny'
[input]
size = 32
channels = 1
resize = 'stretch'
mean = 128
std = 128
[network]
kind = 'cnn'
channels = [8]
batch_norm = true
[train]
epochs = 2
batch = 16
learning_rate = 1e-2
patience = 2
[operating_point]
rule = 'youden'
";

#[test]
fn a_study_is_one_table_and_goes_on_where_it_was_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    ok("host-train", &["phantom", "data", "--images", "96"], at);
    std::fs::write(at.join("tiny.toml"), TINY).unwrap();
    std::fs::write(at.join("study.toml"), STUDY).unwrap();
    let study = ["study", "study.toml", "--data", "data", "--out", "out", "-q", "--json"];
    let before = json("host-train", &[&study[..], &["--table"]].concat(), at);
    assert_eq!((&before["chosen"], &before["variants"][0]["runs"][0]["outcome"]), (&Value::Null, &"missing".into()));
    let first = json("host-train", &study, at);
    let runs =
        || ["plain", "exchange", "taught"].into_iter().flat_map(|v| [1, 2].map(|seed| format!("out/{v}/seed-{seed}")));
    assert!(runs().all(|run| at.join(&run).join("model.onnx").is_file()));
    let manifests: Vec<_> = runs().map(|run| std::fs::read(at.join(run).join("manifest.csv")).unwrap()).collect();
    assert!(manifests.iter().all(|manifest| *manifest == manifests[0]), "all runs have one split");
    let inspected = json("edge-runtime", &["inspect", "out/taught/seed-1/model.onnx", "--json"], at);
    let history = inspected["provenance"]["history"].as_array().unwrap();
    assert!(history.len() == 2 && history[0].as_str().unwrap().starts_with("taught by tiny-plain ("), "{history:?}");
    let mean = first["variants"][1]["runs"][1]["outcome"]["judged"]["mean_shift"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&mean) && first["variants"][0]["ensemble"]["plain"].is_number(), "{first}");
    let scores = std::fs::read(at.join("out/plain/seed-1/scores.json")).unwrap();

    // A run that was lost is trained again to the same scores, and no other is.
    std::fs::remove_dir_all(at.join("out/plain/seed-1")).unwrap();
    let untouched = at.join("out/exchange/seed-2/model.onnx");
    let made = std::fs::metadata(&untouched).unwrap().modified().unwrap();
    let second = json("host-train", &study, at);
    assert_eq!(std::fs::read(at.join("out/plain/seed-1/scores.json")).unwrap(), scores);
    assert_eq!(std::fs::metadata(&untouched).unwrap().modified().unwrap(), made);
    assert_eq!(second["chosen"], first["chosen"]);

    // A study that was changed does not mix old runs with new ones.
    std::fs::write(at.join("study.toml"), STUDY.replace("0.5", "0.6")).unwrap();
    let changed = run("host-train", &study, at);
    assert_eq!(changed.code, Some(1));
    assert!(changed.stderr.contains("exchange/seed-1 holds a run of another recipe"), "{}", changed.stderr);
}

#[test]
fn a_group_that_is_left_out_does_not_train_and_is_judged() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    ok("host-train", &["phantom", "data", "--images", "96"], at);
    // Every third of the normal images is of another site.
    let mut list = String::from("path,label,site\n");
    for class in ["NORMAL", "PNEUMONIA"] {
        let folder = std::fs::read_dir(at.join("data/train").join(class)).unwrap();
        let mut names: Vec<_> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        for (i, name) in names.iter().enumerate() {
            let site = if class == "NORMAL" && i % 3 == 0 { "south" } else { "north" };
            list += &format!("data/train/{class}/{name},{class},{site}\n");
        }
    }
    std::fs::write(at.join("sites.csv"), list).unwrap();
    let recipe = format!("{TINY}[data.leave_out]\nsite = ['south']\n");
    std::fs::write(at.join("recipe.toml"), &recipe).unwrap();
    let trained = run("host-train", &["train", "--recipe", "recipe.toml", "--data", "sites.csv", "--out", "run"], at);
    assert_eq!(trained.code, Some(0), "{}", trained.stderr);
    assert!(trained.stderr.contains("images do not train: data.leave_out names their groups"), "{}", trained.stderr);
    std::fs::write(at.join("recipe.toml"), recipe.replace("south", "west")).unwrap();
    let refused = run("host-train", &["train", "--recipe", "recipe.toml", "--data", "sites.csv", "--out", "two"], at);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("the group site = \"west\", and no training image is of it"), "{}", refused.stderr);
}
