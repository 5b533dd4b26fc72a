"""Using a trained network: images of any kind and size in, results people can use out."""
