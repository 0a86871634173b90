#![doc = include_str!("FORMAT.md")]

#[cfg(test)]
mod tests {
    use crate::codec::{
        ADAPTIVE, RAW,
        image::{DIGITS_MAX, Image},
        scheme::Scheme,
    };

    /// The cells of each row of the page's table that has `column` in its head.
    fn table(column: &str) -> Vec<Vec<&'static str>> {
        let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
        let mut lines = include_str!("FORMAT.md").lines();
        lines.find(|line| line.starts_with('|') && cells(line).contains(&column)).unwrap();
        lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect()
    }

    #[test]
    fn the_page_has_the_tags_of_the_code() {
        let schemes = [
            (Scheme::Raw, "raw"),
            (Scheme::Constant, "constant"),
            (Scheme::Frame, "frame"),
            (Scheme::Delta, "delta"),
            (Scheme::Runs, "runs"),
            (Scheme::Dictionary, "dictionary"),
            (Scheme::Sparse, "sparse"),
        ];
        let rows = table("tag, lower half");
        assert_eq!(rows.len(), schemes.len());
        for (row, (scheme, name)) in rows.iter().zip(schemes) {
            assert_eq!(row[..2], [(scheme as u8).to_string().as_str(), name]);
        }
    }

    #[test]
    fn the_page_has_the_codecs_and_images_of_the_code() {
        let codecs: Vec<_> = table("codec").iter().map(|row| row[0].parse::<u8>().unwrap()).collect();
        assert_eq!(codecs, [RAW, ADAPTIVE]);
        let images: Vec<_> = table("image").iter().map(|row| row[0]).collect();
        let last = Image::Decimal { digits: DIGITS_MAX }.code();
        assert_eq!(images, ["0".to_owned(), format!("1 to {last}")]);
        assert_eq!(Image::Bits.code(), 0);
        assert_eq!(Image::from_code(last + 1), None);
    }
}
