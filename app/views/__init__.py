"""One page, one file: each has `as_page()` and draws on the dataset folder through `state`."""
