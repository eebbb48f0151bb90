import { StorageError } from '../base/errors.ts';

export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

/** Gives the credentials for the next request; renews those that expire. */
export type S3CredentialsProvider = () => Promise<S3Credentials>;

/**
 * The usual AWS chain: environment, profile, process, web identity, container and instance metadata.
 * It is loaded when the first request needs it, for it takes longer than the rest of the driver.
 */
export function createDefaultCredentials(): S3CredentialsProvider {
  let provider: Promise<S3CredentialsProvider> | undefined;
  return async () => {
    provider ??= import('@aws-sdk/credential-provider-node').then(({ defaultProvider }) =>
      defaultProvider(),
    );
    return (await provider)();
  };
}

/** A provider whose failures are errors of the store. What went well once may go well again. */
export function withCredentialErrors(provider: S3CredentialsProvider): S3CredentialsProvider {
  let hadSome = false;
  return async () => {
    try {
      const credentials = await provider();
      hadSome = true;
      return credentials;
    } catch (error) {
      if (hadSome) {
        const message = 'The S3 credentials could not be renewed.';
        throw new StorageError('store-unavailable', message, { cause: error });
      }
      throw new StorageError(
        'store-denied',
        'No S3 credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile.',
        { cause: error },
      );
    }
  };
}
