"""One reader for each format of weight file and each kind of object; `obstruction.models` picks."""
