//! What a screen holds, before any size or language: [`super::layout`] gives it a place on a panel.

use super::mark::Mark;
use super::palette::Tone;
use super::text::{Key, Language};
use crate::image::Picture;

/// A screen's contents.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<'a> {
    /// The shape beside the headline.
    pub mark: Mark,
    /// What it says in a word, to be read at two metres.
    pub headline: Key,
    /// Of mark and headline.
    pub tone: Tone,
    /// The rest, the most important first: where a panel has no room, the last optional ones stay away.
    pub blocks: Vec<Block>,
    /// A picture beside the blocks, where there is room for both.
    pub picture: Option<&'a Picture>,
    /// A line at the foot that no panel leaves out.
    pub foot: Option<Key>,
    /// What the three buttons do, from the side where lines begin.
    pub buttons: [Option<Key>; 3],
}

impl Page<'_> {
    /// A page with nothing but its headline.
    pub fn new(mark: Mark, headline: Key, tone: Tone) -> Page<'static> {
        Page { mark, headline, tone, blocks: vec![], picture: None, foot: None, buttons: [None; 3] }
    }
}

/// A part of a page.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// What it shows.
    pub content: Content,
    /// Its colour.
    pub tone: Tone,
    /// Whether a panel without room may leave it out.
    pub is_optional: bool,
}

impl Block {
    /// `content` that every panel shows.
    pub fn needed(content: Content, tone: Tone) -> Block {
        Block { content, tone, is_optional: false }
    }

    /// `content` for panels with room.
    pub fn optional(content: Content, tone: Tone) -> Block {
        Block { content, tone, is_optional: true }
    }

    /// The string `key`, which every panel shows.
    pub fn text(key: Key, tone: Tone) -> Block {
        Block::needed(Content::text(key), tone)
    }
}

/// What a block shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A string with its values, which are figures.
    Text(Key, Vec<String>),
    /// Figures alone.
    Figures(String),
    /// Names and digests, in ASCII; other characters become question marks.
    Ascii(String),
    /// A probability beside the operating point and the band without answer.
    Probability {
        /// 0 to 1.
        probability: f32,
        /// The operating point.
        threshold: f32,
        /// Probabilities between which there is no answer.
        uncertain: Option<[f32; 2]>,
    },
    /// How much of a work is done, 0 to 1.
    Progress(f32),
    /// A list, of which as many rows are shown as there is room for, the selected one among them.
    Rows {
        /// The rows.
        rows: Vec<Row>,
        /// Which is selected.
        selected: Option<usize>,
    },
}

impl Content {
    /// A string without values.
    pub fn text(key: Key) -> Content {
        Content::Text(key, vec![])
    }
}

/// A row of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// A shape before the words.
    pub mark: Option<(Mark, Tone)>,
    /// What it says.
    pub label: Label,
}

/// What a row says.
#[derive(Debug, Clone, PartialEq)]
pub enum Label {
    /// A string.
    Key(Key),
    /// Figures.
    Figures(String),
    /// A language by its own name.
    Language(Language),
}
