//! Finds the digit among everything that departs from the background: the connected shape with the most ink that does
//! not touch the border.

use image::{GrayImage, imageops};

/// The thresholds tried, as shares of the strongest contrast. The first is the least ink that counts.
const THRESHOLDS: [f64; 8] = [0.1, 0.14, 0.2, 0.27, 0.35, 0.45, 0.55, 0.7];

/// Factor on the ink of a shape for each side of the picture that it touches.
const BORDER_PENALTY: f64 = 0.1;

/// A shape touches a side of the picture if it is closer to it than the picture's shorter side divided by this.
const MARGIN: u32 = 100;

/// A connected shape of pixels.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub bounds: Bounds,
    /// The sum of its contrasts.
    pub ink: u64,
    /// How many sides of the picture it touches, or nearly.
    pub sides: u32,
    /// The indices of its pixels.
    pixels: Vec<usize>,
}

/// The smallest upright rectangle around a shape, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub left: u32,
    pub top: u32,
    pub right: u32,
    pub bottom: u32,
}

impl Bounds {
    pub fn point(x: u32, y: u32) -> Self {
        Self {
            left: x,
            top: y,
            right: x,
            bottom: y,
        }
    }

    pub fn width(&self) -> u32 {
        self.right - self.left + 1
    }

    pub fn height(&self) -> u32 {
        self.bottom - self.top + 1
    }

    /// The longer side.
    pub fn size(&self) -> u32 {
        self.width().max(self.height())
    }

    /// Whether it is more than twice as long as wide.
    pub fn is_slender(&self) -> bool {
        2 * self.width().min(self.height()) < self.size()
    }

    pub fn union(&self, other: &Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }

    /// Whether `other` lies inside and touches no side.
    pub fn encloses(&self, other: &Self) -> bool {
        self.left < other.left
            && self.top < other.top
            && self.right > other.right
            && self.bottom > other.bottom
    }

    /// The empty columns between two rectangles, and the empty rows: the larger number of the two.
    pub fn gap(&self, other: &Self) -> u32 {
        let between = |a_start: u32, a_end: u32, b_start: u32, b_end: u32| {
            b_start
                .saturating_sub(a_end)
                .max(a_start.saturating_sub(b_end))
                .saturating_sub(1)
        };
        between(self.left, self.right, other.left, other.right).max(between(
            self.top,
            self.bottom,
            other.top,
            other.bottom,
        ))
    }
}

/// The digit that a picture shows.
pub(super) struct Found {
    /// The rectangle around it.
    pub bounds: Bounds,
    /// 255 for its pixels, 0 for others.
    pub mask: GrayImage,
    /// The strongest contrast of its pixels.
    pub strongest: u8,
    /// The contrast of anything that touches it and is not its ink, such as ruled lines.
    pub clear_of: u8,
    /// The share of ink between the ends of its rows and columns: 1 if it is convex.
    pub solidity: f64,
    /// The share of ink in the rectangle.
    pub fill: f64,
    /// Whether it touches the border, or nearly.
    pub at_border: bool,
    /// The number of shapes of its size, itself included.
    pub alike: usize,
    /// The ink that was left out, as a share of the ink of the digit.
    pub clutter: f64,
}

/// Finds the digit in a picture of contrasts. `noise` is the standard deviation of the noise in it.
pub(super) fn find(contrasts: &GrayImage, noise: f64) -> Option<Found> {
    let strongest = f64::from(*contrasts.iter().max()?);
    let thresholds = THRESHOLDS.map(|share| {
        (share * strongest)
            .max(4.0 * noise)
            .ceil()
            .clamp(1.0, 255.0) as u8
    });
    // The lowest threshold that separates the digit from everything else keeps the most of its ink.
    let (rung, shapes, main) = thresholds
        .iter()
        .enumerate()
        .filter_map(|(rung, &threshold)| {
            let shapes = shapes(contrasts, threshold);
            let main = main(&shapes)?;
            Some((rung, shapes, main))
        })
        .reduce(
            |best, next| match prominence(&next.1[next.2]) > prominence(&best.1[best.2]) {
                true => next,
                false => best,
            },
        )?;

    let kept = gather(&shapes, main);
    let largest = &shapes[main];
    let alike = (0..shapes.len())
        .filter(|i| !kept.contains(i) && shapes[*i].sides == 0)
        .filter(|&i| {
            5 * shapes[i].ink >= 2 * largest.ink
                && 2 * shapes[i].bounds.size() >= largest.bounds.size()
        })
        .count();
    let (width, height) = contrasts.dimensions();
    let mut mask = GrayImage::new(width, height);
    let mut bounds = largest.bounds;
    let (mut ink, mut area, mut strongest) = (0, 0, 0);
    for &i in &kept {
        bounds = bounds.union(&shapes[i].bounds);
        ink += shapes[i].ink;
        area += shapes[i].pixels.len();
        for &pixel in &shapes[i].pixels {
            mask.as_mut()[pixel] = 255;
            strongest = contrasts.as_raw()[pixel].max(strongest);
        }
    }
    let all: u64 = shapes.iter().map(|it| it.ink).sum();
    Some(Found {
        bounds,
        solidity: solidity(&mask),
        fill: area as f64 / (f64::from(bounds.width()) * f64::from(bounds.height())),
        mask,
        strongest,
        clear_of: match rung {
            0 => 0,
            _ => thresholds[rung - 1],
        },
        at_border: largest.sides > 0,
        alike: alike + 1,
        clutter: (all - ink) as f64 / ink as f64,
    })
}

/// The shape that is most likely the digit or its largest part.
fn main(shapes: &[Shape]) -> Option<usize> {
    let most = |among: &mut dyn Iterator<Item = usize>| {
        among.max_by(|&a, &b| prominence(&shapes[a]).total_cmp(&prominence(&shapes[b])))
    };
    let main = most(&mut (0..shapes.len()))?;
    // A box drawn around a digit has more ink than the digit.
    let inside = most(&mut (0..shapes.len()).filter(|&i| {
        shapes[main].bounds.encloses(&shapes[i].bounds)
            && 3 * shapes[i].bounds.size() >= shapes[main].bounds.size()
            && 6 * shapes[i].ink >= shapes[main].ink
    }));
    inside.or(Some(main))
}

/// How likely a shape is the digit: its ink, reduced for each side of the picture that it touches.
fn prominence(shape: &Shape) -> f64 {
    shape.ink as f64 * BORDER_PENALTY.powi(shape.sides as i32)
}

/// The shapes that belong to the digit whose largest part is `main`.
fn gather(shapes: &[Shape], main: usize) -> Vec<usize> {
    let mut kept = vec![main];
    let main = &shapes[main];
    let crumb = |shape: &Shape| {
        let size = f64::from(main.bounds.size());
        let near = f64::from(main.bounds.gap(&shape.bounds)) <= 0.05 * size;
        near && f64::from(shape.bounds.size()) <= 0.3 * size && 500 * shape.ink >= main.ink
    };
    let mut bounds = main.bounds;
    let belongs = |shape: &Shape, bounds: &mut Bounds| {
        let size = f64::from(bounds.size());
        let near = f64::from(bounds.gap(&shape.bounds)) <= 0.12 * size;
        let stroke =
            near && f64::from(shape.bounds.size()) <= 1.1 * size && 20 * shape.ink >= main.ink;
        if stroke {
            *bounds = bounds.union(&shape.bounds);
        }
        shape.sides <= main.sides && (stroke || crumb(shape))
    };
    // A stroke that has joined may bring the next one into reach.
    loop {
        let found = kept.len();
        for (i, shape) in shapes.iter().enumerate() {
            if !kept.contains(&i) && belongs(shape, &mut bounds) {
                kept.push(i);
            }
        }
        if kept.len() == found {
            return kept;
        }
    }
}

/// The share of the area between the ends of a mask's rows and columns that belongs to the mask: 1 if it is convex.
fn solidity(mask: &GrayImage) -> f64 {
    let area = mask.iter().filter(|&&it| it > 0).count() as f64;
    let spans = |mask: &GrayImage| -> f64 {
        let span = |row: &[u8]| {
            let first = row.iter().position(|&it| it > 0)?;
            let last = row.iter().rposition(|&it| it > 0)?;
            Some((last - first + 1) as f64)
        };
        mask.chunks_exact(mask.width() as usize)
            .filter_map(span)
            .sum()
    };
    area / spans(mask).max(spans(&imageops::rotate90(mask)))
}

/// The connected shapes of pixels of at least `threshold`. Diagonal neighbours are connected.
fn shapes(contrasts: &GrayImage, threshold: u8) -> Vec<Shape> {
    let (width, height) = contrasts.dimensions();
    let mut seen: Vec<bool> = contrasts
        .iter()
        .map(|&contrast| contrast < threshold)
        .collect();
    let margin = width.min(height) / MARGIN;
    let mut shapes = Vec::new();
    for start in 0..seen.len() {
        if seen[start] {
            continue;
        }
        seen[start] = true;
        let mut pixels = vec![start];
        let mut bounds = Bounds::point(start as u32 % width, start as u32 / width);
        let mut ink = 0;
        let mut next = 0;
        while let Some(&pixel) = pixels.get(next) {
            next += 1;
            let (x, y) = (pixel as u32 % width, pixel as u32 / width);
            bounds = bounds.union(&Bounds::point(x, y));
            ink += u64::from(contrasts.as_raw()[pixel]);
            for y in y.saturating_sub(1)..=(y + 1).min(height - 1) {
                for x in x.saturating_sub(1)..=(x + 1).min(width - 1) {
                    let neighbour = (y * width + x) as usize;
                    if !seen[neighbour] {
                        seen[neighbour] = true;
                        pixels.push(neighbour);
                    }
                }
            }
        }
        let sides = [
            bounds.left <= margin,
            bounds.top <= margin,
            bounds.right + margin >= width - 1,
            bounds.bottom + margin >= height - 1,
        ];
        shapes.push(Shape {
            bounds,
            ink,
            sides: sides.iter().map(|&touches| u32::from(touches)).sum(),
            pixels,
        });
    }
    shapes
}
