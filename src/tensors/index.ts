/**
 * Memory of devices that actors pass by reference, as Ray's GPU objects.
 * @module raylite/tensors
 */
export { OpenTensor, openTensor, type TensorRoute } from './open-tensor.js';
export { type SharedTensor, shareTensor, type TensorPlace, type TensorType } from './share-tensor.js';
