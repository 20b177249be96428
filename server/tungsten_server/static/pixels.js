// A picture's own pixels. A camera's turn is a note beside them, which a model does not see: such pictures are shown
// without it (`image-orientation: none`), so that places on the page are places in the model's picture.

/** Width and height of the pixels of a picture that is loaded and shown. */
export function pixelSize(image) {
  const { naturalWidth: width, naturalHeight: height } = image;
  const box = image.getBoundingClientRect();
  // Browsers give these two as after the turn, whatever the style says; the shape on the page tells.
  const shape = box.width / box.height;
  const turned = Math.abs(shape - width / height) > Math.abs(shape - height / width);
  return turned ? { width: height, height: width } : { width, height };
}
