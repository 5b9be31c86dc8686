// A converted network in TensorFlow.js, on its CPU backend: for each line [file of float32, shape,
// file for the scores] of the input, a line with the shape of the scores, or the error.

const fs = require("fs");
const path = require("path");
const readline = require("readline");
const tf = require("@tensorflow/tfjs-core");
require("@tensorflow/tfjs-backend-cpu");
const { loadGraphModel } = require("@tensorflow/tfjs-converter");

const bytes = (file) => new Uint8Array(fs.readFileSync(file)).buffer;

async function load(folder) {
  const model = JSON.parse(fs.readFileSync(path.join(folder, "model.json")));
  const parts = model.weightsManifest.flatMap((group) => group.paths);
  const weightData = parts.map((part) => bytes(path.join(folder, part)));
  const weightSpecs = model.weightsManifest.flatMap((group) => group.weights);
  return loadGraphModel({ load: async () => ({ ...model, weightSpecs, weightData }) });
}

async function main() {
  await tf.setBackend("cpu");
  const model = await load(process.argv[2]);
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [images, shape, scores] = JSON.parse(line);
    const x = tf.tensor(new Float32Array(bytes(images)), shape);
    const y = await model.executeAsync(x);
    fs.writeFileSync(scores, new Uint8Array((await y.data()).slice().buffer));
    console.log(JSON.stringify(y.shape));
    tf.dispose([x, y]);
  }
}

main().catch((error) => console.log(JSON.stringify(String(error.message))));
