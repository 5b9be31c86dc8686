// Scores of a TensorFlow.js model for images that come in by stdin: four int32 of the shape, then
// float32. The answers go out the same way. Started by runtimes.py.
const fs = require("fs");
const path = require("path");
const tf = require("@tensorflow/tfjs");

const folder = process.argv[2];

function read(bytes) {
  const buffer = Buffer.alloc(bytes);
  for (let at = 0; at < bytes; ) {
    const count = fs.readSync(0, buffer, at, bytes - at);
    if (count === 0) process.exit(0);
    at += count;
  }
  return buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + bytes);
}

function write(array) {
  const buffer = Buffer.from(array.buffer, array.byteOffset, array.byteLength);
  for (let at = 0; at < buffer.length; ) at += fs.writeSync(1, buffer, at);
}

async function main() {
  await tf.setBackend("cpu");
  const { modelTopology, weightsManifest } = JSON.parse(
    fs.readFileSync(path.join(folder, "model.json")),
  );
  const files = weightsManifest.flatMap((group) => group.paths);
  const weights = Buffer.concat(files.map((name) => fs.readFileSync(path.join(folder, name))));
  const model = await tf.loadGraphModel(
    tf.io.fromMemory({
      modelTopology,
      weightSpecs: weightsManifest.flatMap((group) => group.weights),
      weightData: weights.buffer.slice(weights.byteOffset, weights.byteOffset + weights.length),
    }),
  );
  for (;;) {
    const shape = Array.from(new Int32Array(read(16)));
    const image = new Float32Array(read(4 * shape.reduce((a, b) => a * b)));
    const x = tf.tensor(image, shape);
    const y = await model.executeAsync(x);
    write(Int32Array.from(y.shape));
    write(await y.data());
    tf.dispose([x, y]);
  }
}

main();
