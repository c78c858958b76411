//! Shapes the strings of the screens (`strings/*.toml`) into the bitmaps that the device draws (`strings/*.prepared`):
//! HarfBuzz's shaping by `harfrust`, the bidirectional algorithm by `unicode-bidi`, glyphs from the Noto fonts (SIL
//! Open Font License 1.1; Debian's package `fonts-noto-core`). See docs/display.md.

#![forbid(unsafe_code)]

use anyhow::{Context, bail, ensure};
use clap::Parser;
use edge_runtime::display::text::prepared::{
    FIGURES, FORMAT, Face, Glyph, Piece, Placed, Prepared, Role, SUBPIXELS, Word, pack,
};
use edge_runtime::display::text::{Key, Language};
use edge_runtime::process::files::{sha256, write_atomically};
use edge_runtime::process::{self, Failure};
use harfrust::{Buffer, Direction, Font, ShapeOptions, ShaperFont};
use serde::Deserialize;
use skrifa::instance::{LocationRef, Size};
use skrifa::outline::{DrawSettings, OutlinePen};
use skrifa::{FontRef, GlyphId, MetadataProvider};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use unicode_bidi::{BidiInfo, Level};

/// Shapes the strings of the screens for devices that have no fonts
#[derive(Parser)]
struct Args {
    /// Folder of the strings
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/strings"))]
    strings: PathBuf,
    /// Folder of Noto's TrueType files
    #[arg(long, default_value = "/usr/share/fonts/truetype/noto")]
    fonts: PathBuf,
}

/// A file of strings.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Strings {
    headline: BTreeMap<String, String>,
    body: BTreeMap<String, String>,
}

fn main() -> ExitCode {
    process::main("prepare-strings", |_| {
        let args = Args::parse();
        for language in Language::ALL {
            let size = prepare(&args, *language).map_err(Failure::work)?;
            println!("{}: {size} bytes", language.code());
        }
        Ok(0)
    })
}

/// Prepares a language; gives the size of its file.
fn prepare(args: &Args, language: Language) -> anyhow::Result<usize> {
    let path = args.strings.join(language.code()).with_extension("toml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let strings: Strings = toml::from_str(&text).with_context(|| path.display().to_string())?;
    let known = strings.headline.len() + strings.body.len();
    ensure!(known == Key::ALL.len(), "{}: {known} strings, and there are {} keys", path.display(), Key::ALL.len());
    let base = if language.is_right_to_left() { Level::rtl() } else { Level::ltr() };
    let mut words = Words::default();
    let mut pieces = Vec::new();
    let roles = [Role::Headline, Role::Body].map(|role| Fonts::load(&args.fonts, language, role));
    let [headline, body] = roles;
    let [headline, body] = [headline?, body?];
    for key in Key::ALL {
        let (table, fonts) = match key.role() {
            Role::Headline => (&strings.headline, &headline),
            Role::Body => (&strings.body, &body),
        };
        let string = table.get(key.name()).with_context(|| format!("{}: no `{}`", path.display(), key.name()))?;
        let split = split(string, base, fonts, words.of(key.role()));
        pieces.push(split.with_context(|| format!("{}: `{}`", path.display(), key.name()))?);
    }
    let mut drawn = Vec::new();
    for fonts in [&headline, &body] {
        for px in fonts.role.sizes() {
            drawn.push(Drawing::new(fonts, *px).face(words.of(fonts.role))?);
        }
    }
    let faces = drawn.iter().map(Drawn::face).collect();
    let prepared = Prepared {
        format: FORMAT,
        source: sha256(text.as_bytes()),
        right_to_left: base.is_rtl(),
        strings: pieces,
        faces,
    };
    let bytes = postcard::to_stdvec(&prepared)?;
    let out = path.with_extension("prepared");
    write_atomically(&out, &bytes).with_context(|| out.display().to_string())?;
    Ok(bytes.len())
}

/// The distinct words of a language.
#[derive(Default)]
struct Words {
    headline: Vec<Run>,
    body: Vec<Run>,
}

impl Words {
    fn of(&mut self, role: Role) -> &mut Vec<Run> {
        match role {
            Role::Headline => &mut self.headline,
            Role::Body => &mut self.body,
        }
    }
}

/// Characters of one direction and one font.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    text: String,
    right_to_left: bool,
    /// Index in [`Fonts::files`].
    font: usize,
}

/// The fonts of a role, the language's own first.
struct Fonts {
    role: Role,
    files: Vec<File>,
}

/// A font file, for outlines and for shaping.
struct File {
    data: Vec<u8>,
    shaping: Font,
}

impl Fonts {
    fn load(folder: &Path, language: Language, role: Role) -> anyhow::Result<Fonts> {
        let weight = match role {
            Role::Headline => "Bold",
            Role::Body => "Regular",
        };
        let families: &[&str] = match language {
            Language::Arabic => &["NotoSansArabic", "NotoSans"],
            Language::Hindi => &["NotoSansDevanagari", "NotoSans"],
            Language::English | Language::French | Language::Spanish | Language::Swahili => &["NotoSans"],
        };
        let read = |family: &&str| {
            let path = folder.join(format!("{family}-{weight}.ttf"));
            let data = std::fs::read(&path).with_context(|| format!("{}: install fonts-noto-core", path.display()))?;
            let shaping = Font::new(data.clone(), 0).with_context(|| format!("{}: no font", path.display()))?;
            Ok(File { data, shaping })
        };
        Ok(Fonts { role, files: families.iter().map(read).collect::<anyhow::Result<_>>()? })
    }

    fn font(&self, index: usize) -> anyhow::Result<FontRef<'_>> {
        Ok(FontRef::new(&self.files[index].data)?)
    }

    /// The first font that draws `c`.
    fn covering(&self, c: char) -> anyhow::Result<usize> {
        for index in 0..self.files.len() {
            if self.font(index)?.charmap().map(c).is_some() {
                return Ok(index);
            }
        }
        bail!("no font draws {c:?}")
    }
}

/// The pieces of `string`; new words are added to `words`.
fn split(string: &str, base: Level, fonts: &Fonts, words: &mut Vec<Run>) -> anyhow::Result<Vec<Piece>> {
    // A figure stands for each value, so that the text around it finds its direction.
    let mut values = Vec::new();
    let mut text = String::new();
    for part in string.split_inclusive(' ') {
        let word = part.trim_end();
        match word.strip_prefix('{').and_then(|w| w.strip_suffix('}')) {
            Some(value) => {
                values.push((text.len(), value.parse::<u8>()?));
                text.push('0');
                text.push_str(&part[word.len()..]);
            }
            None => text.push_str(part),
        }
    }
    ensure!(!text.contains(['{', '}']), "a value must stand between spaces");
    let levels = BidiInfo::new(&text, Some(base)).levels;
    let mut pieces = Vec::new();
    let mut run: Option<Run> = None;
    let mut level = base;
    let mut finish = |run: &mut Option<Run>, level: Level, pieces: &mut Vec<Piece>| {
        let Some(run) = run.take() else { return };
        let index = words.iter().position(|w| *w == run).unwrap_or_else(|| {
            words.push(run);
            words.len() - 1
        });
        pieces.push(Piece::Word { index: index as u16, level: level.number() });
    };
    for (at, c) in text.char_indices() {
        if let Some((_, value)) = values.iter().find(|(place, _)| *place == at) {
            pieces.push(Piece::Value(*value));
            continue;
        }
        if c == ' ' {
            finish(&mut run, level, &mut pieces);
            pieces.push(Piece::Space);
            continue;
        }
        let font = match &run {
            // Marks that combine stay with the font of their base.
            Some(run) if fonts.font(run.font)?.charmap().map(c).is_some() => run.font,
            _ => fonts.covering(c)?,
        };
        let here = levels[at];
        match &mut run {
            Some(run) if run.font == font && level == here => run.text.push(c),
            _ => {
                finish(&mut run, level, &mut pieces);
                run = Some(Run { text: c.to_string(), right_to_left: here.is_rtl(), font });
                level = here;
            }
        }
    }
    finish(&mut run, level, &mut pieces);
    Ok(pieces)
}

/// A face whose bitmaps are still its own.
struct Drawn {
    face: Face<'static>,
    glyphs: Vec<(u16, u16, Vec<u8>)>,
}

impl Drawn {
    fn face(&self) -> Face<'_> {
        let glyphs =
            self.glyphs.iter().map(|(width, height, runs)| Glyph { width: *width, height: *height, runs }).collect();
        let Face { role, px, ascent, descent, space, words, figures, .. } = &self.face;
        Face {
            role: *role,
            px: *px,
            ascent: *ascent,
            descent: *descent,
            space: *space,
            words: words.clone(),
            figures: figures.clone(),
            glyphs,
        }
    }
}

/// Which bitmap: font, glyph, and position between two pixels.
type Which = (usize, u32, i32);

/// Where a glyph's bitmap lies, relative to the pixel of its origin.
#[derive(Clone, Copy)]
struct Bitmap {
    index: u16,
    left: i16,
    top: i16,
}

/// A face in the making.
struct Drawing<'a> {
    fonts: &'a Fonts,
    px: u16,
    bitmaps: HashMap<Which, Option<Bitmap>>,
    glyphs: Vec<(u16, u16, Vec<u8>)>,
    above: i32,
    below: i32,
}

impl<'a> Drawing<'a> {
    fn new(fonts: &'a Fonts, px: u16) -> Drawing<'a> {
        Drawing { fonts, px, bitmaps: HashMap::new(), glyphs: vec![], above: 0, below: 0 }
    }

    fn face(mut self, runs: &[Run]) -> anyhow::Result<Drawn> {
        let words = runs.iter().map(|run| self.word(run)).collect::<anyhow::Result<_>>()?;
        let mut figures = Vec::new();
        for c in FIGURES.chars() {
            let font = self.fonts.files.len() - 1;
            figures.push(self.word(&Run { text: c.to_string(), right_to_left: false, font })?);
        }
        let face = Face {
            role: self.fonts.role,
            px: self.px,
            ascent: self.above as u16,
            descent: self.below as u16,
            space: (f32::from(self.px) * 0.26).round() as u16,
            words,
            figures,
            glyphs: vec![],
        };
        Ok(Drawn { face, glyphs: self.glyphs })
    }

    fn word(&mut self, run: &Run) -> anyhow::Result<Word> {
        let shaper = ShaperFont::new(&self.fonts.files[run.font].shaping);
        let units =
            f32::from(self.fonts.font(run.font)?.metrics(Size::unscaled(), LocationRef::default()).units_per_em);
        let scale = f32::from(self.px) / units;
        let mut buffer = Buffer::new();
        buffer.push_str(&run.text);
        buffer.guess_segment_properties();
        buffer.set_direction(if run.right_to_left { Direction::RightToLeft } else { Direction::LeftToRight });
        harfrust::shape(&shaper, &mut buffer, ShapeOptions::default())
            .map_err(|e| anyhow::anyhow!("{:?} cannot be shaped ({e:?})", run.text))?;
        let mut placed = Vec::new();
        let mut pen = 0.0;
        for (info, position) in buffer.glyph_infos().iter().zip(buffer.glyph_positions()) {
            let x = (pen + position.x_offset as f32) * scale;
            let y = -(position.y_offset as f32) * scale;
            pen += position.x_advance as f32;
            let quarter = (x * SUBPIXELS as f32).round() as i32;
            let column = quarter.div_euclid(SUBPIXELS);
            let row = y.round() as i32;
            let which = (run.font, info.glyph_id, quarter.rem_euclid(SUBPIXELS));
            if let Some(bitmap) = self.bitmap(which)? {
                let y = row + i32::from(bitmap.top);
                let height = i32::from(self.glyphs[usize::from(bitmap.index)].1);
                self.above = self.above.max(-y);
                self.below = self.below.max(y + height);
                placed.push(Placed { glyph: bitmap.index, x: (column + i32::from(bitmap.left)) as i16, y: y as i16 });
            }
        }
        Ok(Word { advance: (pen * scale).round() as u16, placed })
    }

    /// The bitmap of a glyph; `None` where it has no ink.
    fn bitmap(&mut self, which: Which) -> anyhow::Result<Option<Bitmap>> {
        if let Some(known) = self.bitmaps.get(&which) {
            return Ok(*known);
        }
        let (font, glyph, quarter) = which;
        let font = self.fonts.font(font)?;
        let outline = font.outline_glyphs().get(GlyphId::new(glyph)).context("a glyph without outline")?;
        let settings = DrawSettings::unhinted(Size::new(f32::from(self.px)), LocationRef::default());
        let mut path = Outline { shift: quarter as f32 / SUBPIXELS as f32, commands: vec![] };
        outline.draw(settings, &mut path).map_err(|e| anyhow::anyhow!("a glyph cannot be drawn ({e})"))?;
        let bitmap = if path.commands.is_empty() {
            None
        } else {
            let (alpha, at) = zeno::Mask::new(&path.commands).render();
            let index = self.glyphs.len() as u16;
            let levels = alpha.iter().map(|a| ((u32::from(*a) * 15 + 127) / 255) as u8);
            self.glyphs.push((at.width as u16, at.height as u16, pack(levels)));
            Some(Bitmap { index, left: at.left as i16, top: at.top as i16 })
        };
        self.bitmaps.insert(which, bitmap);
        Ok(bitmap)
    }
}

/// An outline with rows that count downwards, moved to the right by a part of a pixel.
struct Outline {
    shift: f32,
    commands: Vec<zeno::Command>,
}

impl Outline {
    fn point(&self, x: f32, y: f32) -> zeno::Point {
        zeno::Point::new(x + self.shift, -y)
    }
}

impl OutlinePen for Outline {
    fn move_to(&mut self, x: f32, y: f32) {
        self.commands.push(zeno::Command::MoveTo(self.point(x, y)));
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.commands.push(zeno::Command::LineTo(self.point(x, y)));
    }

    fn quad_to(&mut self, cx: f32, cy: f32, x: f32, y: f32) {
        self.commands.push(zeno::Command::QuadTo(self.point(cx, cy), self.point(x, y)));
    }

    fn curve_to(&mut self, ax: f32, ay: f32, bx: f32, by: f32, x: f32, y: f32) {
        self.commands.push(zeno::Command::CurveTo(self.point(ax, ay), self.point(bx, by), self.point(x, y)));
    }

    fn close(&mut self) {
        self.commands.push(zeno::Command::Close);
    }
}
