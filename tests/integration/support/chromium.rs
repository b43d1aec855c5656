//! A headless Chromium: what a page looks like to it at several widths.
//!
//! # Invariant
//!
//! A test that needs it never passes silently without it, as for servers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// A browser that is here.
#[derive(Debug, Clone)]
pub struct Chromium {
    program: PathBuf,
}

/// What a page was found to be.
#[derive(Debug)]
pub struct Seen {
    /// A value for each width.
    pub frames: Vec<Value>,
    /// What the console said, but for our own line.
    pub console: Vec<String>,
}

/// The browser, or `None` after a line that says what is skipped.
///
/// # Panics
///
/// If `CI=true` and there is none.
pub fn require() -> Option<Chromium> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .flat_map(|folder| {
            ["chromium", "chromium-browser", "google-chrome"].map(|name| folder.join(name))
        })
        .find(|program| program.is_file());
    if let Some(program) = found {
        return Some(Chromium { program });
    }
    let missing = "chromium is not here; `make setup` gets it";
    assert!(
        !std::env::var("CI").is_ok_and(|ci| ci == "true"),
        "{missing}"
    );
    eprintln!("skipped: {missing}");
    None
}

/// Said on the console by the measuring page itself: without it, silence would prove nothing.
const CONTROL: &str = "the console is heard";

impl Chromium {
    /// Shows `page` in a frame of each width and measures it there. The page runs as it is, with what it allows itself.
    pub fn look(&self, page: &str, widths: &[u32]) -> Seen {
        let folder = tempfile::tempdir().unwrap();
        let escaped = page.replace('&', "&amp;").replace('"', "&quot;");
        let frames: String = widths
            .iter()
            .map(|width| {
                format!("<iframe width=\"{width}\" height=\"800\" srcdoc=\"{escaped}\"></iframe>\n")
            })
            .collect();
        let measuring = format!(
            "<!doctype html><meta charset=\"utf-8\"><body>{frames}<pre id=\"result\"></pre><script>{}</script>",
            MEASURE.replace("CONTROL", CONTROL)
        );
        let path = folder.path().join("measure.html");
        std::fs::write(&path, measuring).unwrap();
        let (dom, said) = self.dump(&path, folder.path());
        let result = dom
            .rsplit_once("<pre id=\"result\">")
            .and_then(|(_, rest)| rest.split_once("</pre>"))
            .unwrap_or_else(|| panic!("nothing was measured:\n{said}"))
            .0;
        let result = result
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&");
        let frames: Vec<Value> = serde_json::from_str(&result)
            .unwrap_or_else(|error| panic!("{error} in {result:?}\n{said}"));
        let (ours, console): (Vec<String>, Vec<String>) = said
            .lines()
            .filter(|line| line.contains("CONSOLE"))
            .map(str::to_owned)
            .partition(|line| line.contains(CONTROL));
        assert_eq!(ours.len(), 1, "the console was not heard:\n{said}");
        Seen { frames, console }
    }

    fn dump(&self, page: &Path, profile: &Path) -> (String, String) {
        let output = Command::new(&self.program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--enable-logging=stderr",
                "--window-size=1600,1000",
                "--virtual-time-budget=10000",
                "--dump-dom",
            ])
            .arg(format!(
                "--user-data-dir={}",
                profile.join("profile").display()
            ))
            .arg(format!("file://{}", page.display()))
            .stdin(Stdio::null())
            .output()
            .expect("the browser that was just found");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = text(&output.stderr);
        assert!(output.status.success(), "{}\n{said}", output.status);
        (text(&output.stdout), said)
    }
}

/// For each frame: whether it scrolls sideways, what sticks out of it, what could act in it, and its visible text's length.
const MEASURE: &str = r#"
onload = () => {
  console.error("CONTROL");
  const seen = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, root = page.documentElement;
    const out = [...page.body.querySelectorAll("*")].filter(element => {
      const box = element.getBoundingClientRect();
      return box.width > 0 && (box.right > root.clientWidth + 0.5 || box.left < -0.5);
    });
    const acting = "script, iframe, frame, object, embed, img, audio, video, link, base, form, input, button, a, foreignObject, use, image, animate, set";
    return {
      width: root.clientWidth,
      scroll_width: root.scrollWidth,
      sticking_out: out.map(element => element.outerHTML.slice(0, 200)),
      acting: page.querySelectorAll(acting).length,
      handlers: [...page.querySelectorAll("*")].flatMap(element => [...element.attributes])
        .filter(attribute => /^on|href|^src/i.test(attribute.name)).map(attribute => attribute.name),
      unnamed_images: [...page.querySelectorAll("svg")].filter(svg =>
        svg.getAttribute("aria-hidden") !== "true" && !svg.querySelector("title")).length,
      text: page.body.innerText.length,
    };
  });
  document.getElementById("result").textContent = JSON.stringify(seen);
};
"#;
