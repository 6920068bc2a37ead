// Puts a package where nodes fetch it: at the head, under the sha256 of its bytes.
import { ConnectionError } from '../../common/index.js';
import { clusterFetch, type FetchInit, HandshakeError } from '../../protocol/tls/index.js';
import type { Package } from './pack.js';

/** The head's HTTP door. */
export interface PackageDoor {
  readonly url: string;
  readonly token: string;
}

/** Uploads a package that the head does not have; `onUpload` is called before bytes travel. Rejects with {@link ConnectionError}. */
export async function uploadPackage(
  door: PackageDoor,
  { sha256, archive }: Package,
  onUpload: () => void = () => {},
): Promise<void> {
  const address = `${door.url}/api/packages/${sha256}`;
  const send = async (init: FetchInit): Promise<Response> => {
    try {
      return await clusterFetch(address, door.token, init);
    } catch (cause) {
      const detail =
        cause instanceof HandshakeError ? cause.message : 'nothing answers there. Is the head of the cluster running?';
      throw new ConnectionError({ address: door.url, detail }, { cause });
    }
  };
  if ((await send({ method: 'HEAD' })).ok) return;
  onUpload();
  const reply = await send({ method: 'PUT', body: archive });
  if (reply.ok) return;
  const detail = `the head refused the package: ${reply.status} ${await reply.text()}`;
  throw new ConnectionError({ address: door.url, detail });
}
