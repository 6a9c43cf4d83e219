"""Plain data in, SVG and HTML out; colours are the style sheet's, so that themes cost nothing."""
