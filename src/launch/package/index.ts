// The second door of launch/: a working directory as a package of the cluster.
export { type Package, packDirectory } from './pack.js';
export { type PackageDoor, uploadPackage } from './upload.js';
