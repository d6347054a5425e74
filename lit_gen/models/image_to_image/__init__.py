"""Image to image, from pairs: translation, super-resolution, inpainting, denoising."""
