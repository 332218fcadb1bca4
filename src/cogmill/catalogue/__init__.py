"""What other software reads beside the pixels: values in, bytes out; no store, no GDAL."""
