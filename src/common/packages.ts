// What an uploaded working directory may be at most: checked by who packs it, by the head that keeps it, by nodes that unpack it.

/** Bytes of the archive, and of its files together before they are packed. */
export const PACKAGE_BYTES_MAX = 500 * 1024 * 1024;
export const PACKAGE_ENTRIES_MAX = 50_000;
