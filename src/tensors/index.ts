// The door of tensors/: memory of devices that actors pass by reference, as Ray's GPU objects.
export { OpenTensor, openTensor, type TensorRoute } from './open-tensor.js';
export { type SharedTensor, shareTensor, type TensorPlace, type TensorType } from './share-tensor.js';
