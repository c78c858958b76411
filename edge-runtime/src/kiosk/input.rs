//! Buttons, keyboards and touch screens (evdev), and keys on standard input.

use super::state::Button;
use std::io::BufRead;
use std::sync::mpsc::Sender;

/// What a person does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Input {
    /// A button, or a key that stands for one.
    Button(Button),
    /// A touch; both are shares of the screen, from its left and its top.
    Touch {
        /// From the left.
        x: f32,
        /// From the top.
        y: f32,
    },
    /// The power button.
    Power,
    /// The end of the kiosk.
    Quit,
}

/// The part of the rows at the bottom where a touch is a button: the labels and a finger's width above them.
const TOUCH_ROWS: f32 = 0.22;

impl Input {
    /// The button that is meant.
    pub fn button(self) -> Option<Button> {
        match self {
            Input::Button(button) => Some(button),
            Input::Touch { x, y } if y >= 1.0 - TOUCH_ROWS => Some(match (x * 3.0) as u32 {
                0 => Button::Left,
                1 => Button::Middle,
                _ => Button::Right,
            }),
            Input::Touch { .. } | Input::Power | Input::Quit => None,
        }
    }
}

/// Reads keys from lines of standard input: `left` or `b`, `middle` or `n`, `right` or `m`, `quit` or `q`. Ends with
/// it.
pub fn read_lines(lines: impl BufRead, to: &Sender<Input>) {
    for line in lines.lines().map_while(Result::ok) {
        let input = match line.trim() {
            "left" | "b" => Input::Button(Button::Left),
            "middle" | "n" => Input::Button(Button::Middle),
            "right" | "m" => Input::Button(Button::Right),
            "quit" | "q" => Input::Quit,
            _ => continue,
        };
        if to.send(input).is_err() {
            return;
        }
    }
}

/// Reads every input device that has such keys; gives how many there are now. Each is read by a thread of its own,
/// which ends when the device is unplugged; one that is plugged in later is read too.
#[cfg(all(feature = "panels", target_os = "linux"))]
pub fn read_devices(to: &Sender<Input>) -> usize {
    devices::read(to)
}

/// No input devices are read without the feature `panels`.
#[cfg(not(all(feature = "panels", target_os = "linux")))]
pub fn read_devices(_: &Sender<Input>) -> usize {
    0
}

#[cfg(all(feature = "panels", target_os = "linux"))]
mod devices {
    use super::*;
    use evdev::{AbsoluteAxisCode, Device, EventSummary, KeyCode};
    use std::collections::HashSet;
    use std::path::PathBuf;
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::Duration;

    const FOLDER: &str = "/dev/input";
    /// How often new devices are looked for.
    const LOOK: Duration = Duration::from_secs(2);

    /// The devices that are read, by path; each leaves when its thread ends, so that one that comes back is read again.
    type Followed = Arc<Mutex<HashSet<PathBuf>>>;

    pub(super) fn read(to: &Sender<Input>) -> usize {
        let followed = Followed::default();
        let count = read_new(&followed, to);
        let to = to.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(LOOK);
                read_new(&followed, &to);
            }
        });
        count
    }

    /// Reads the devices that are wanted and not read yet; gives how many those are.
    fn read_new(followed: &Followed, to: &Sender<Input>) -> usize {
        let entries = std::fs::read_dir(FOLDER).into_iter().flatten().flatten();
        let events = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("event"));
        let mut count = 0;
        for path in events.map(|entry| entry.path()) {
            let is_read = followed.lock().unwrap_or_else(PoisonError::into_inner).contains(&path);
            let Some(mut device) = (!is_read).then(|| Device::open(&path).ok()).flatten().filter(is_wanted) else {
                continue;
            };
            count += 1;
            followed.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
            let followed = followed.clone();
            let to = to.clone();
            std::thread::spawn(move || {
                follow(&mut device, &to);
                followed.lock().unwrap_or_else(PoisonError::into_inner).remove(&path);
            });
        }
        count
    }

    fn is_wanted(device: &Device) -> bool {
        let is_meant = |key| button(key).is_some() || key == KeyCode::KEY_POWER;
        device.supported_keys().is_some_and(|keys| keys.iter().any(is_meant)) || is_touch(device)
    }

    fn is_touch(device: &Device) -> bool {
        device.supported_keys().is_some_and(|keys| keys.contains(KeyCode::BTN_TOUCH))
    }

    /// Keys of keyboards, and those that `gpio-keys` gives buttons.
    pub(super) fn button(key: KeyCode) -> Option<Button> {
        match key {
            KeyCode::KEY_LEFT | KeyCode::KEY_ESC | KeyCode::KEY_BACK | KeyCode::KEY_F1 | KeyCode::BTN_0 => {
                Some(Button::Left)
            }
            KeyCode::KEY_ENTER
            | KeyCode::KEY_SPACE
            | KeyCode::KEY_DOWN
            | KeyCode::KEY_OK
            | KeyCode::KEY_SELECT
            | KeyCode::KEY_F2
            | KeyCode::BTN_1 => Some(Button::Middle),
            KeyCode::KEY_RIGHT | KeyCode::KEY_TAB | KeyCode::KEY_NEXT | KeyCode::KEY_F3 | KeyCode::BTN_2 => {
                Some(Button::Right)
            }
            _ => None,
        }
    }

    /// Where a finger is, in the device's units.
    #[derive(Default)]
    struct Finger {
        x: i32,
        y: i32,
    }

    fn follow(device: &mut Device, to: &Sender<Input>) {
        let range = |axis: AbsoluteAxisCode| {
            device.get_absinfo().ok()?.find(|(code, _)| *code == axis).map(|(_, info)| (info.minimum(), info.maximum()))
        };
        let across = range(AbsoluteAxisCode::ABS_X);
        let down = range(AbsoluteAxisCode::ABS_Y);
        let share = |value: i32, range: Option<(i32, i32)>| {
            let (least, most) = range.unwrap_or((0, 1));
            (value - least) as f32 / (most - least).max(1) as f32
        };
        let mut finger = Finger::default();
        while let Ok(events) = device.fetch_events() {
            for event in events {
                let input = match event.destructure() {
                    EventSummary::AbsoluteAxis(_, AbsoluteAxisCode::ABS_X, x) => {
                        finger.x = x;
                        None
                    }
                    EventSummary::AbsoluteAxis(_, AbsoluteAxisCode::ABS_Y, y) => {
                        finger.y = y;
                        None
                    }
                    // Where the finger leaves is what was meant.
                    EventSummary::Key(_, KeyCode::BTN_TOUCH, 0) => {
                        Some(Input::Touch { x: share(finger.x, across), y: share(finger.y, down) })
                    }
                    EventSummary::Key(_, KeyCode::KEY_POWER, 1) => Some(Input::Power),
                    EventSummary::Key(_, key, 1) => button(key).map(Input::Button),
                    _ => None,
                };
                if let Some(input) = input
                    && to.send(input).is_err()
                {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_touch_is_a_button_only_on_the_labels() {
        let at = |x, y| Input::Touch { x, y }.button();
        assert_eq!(at(0.1, 0.95), Some(Button::Left));
        assert_eq!(at(0.5, 0.95), Some(Button::Middle));
        assert_eq!([at(0.99, 0.9), at(1.0, 0.9)], [Some(Button::Right); 2]);
        assert_eq!(at(0.5, 0.3), None);
    }

    #[test]
    fn lines_are_keys() {
        let (to, from) = std::sync::mpsc::channel();
        read_lines(&b"b\nnonsense\nmiddle\n\nm\nq\n"[..], &to);
        drop(to);
        let expected = [Button::Left, Button::Middle, Button::Right].map(Input::Button);
        assert_eq!(from.iter().collect::<Vec<_>>(), [expected.as_slice(), &[Input::Quit]].concat());
    }
}
