"""A master key provider for `aws-encryption-cli`: raw AES keys out of Sealward's keyring files.

The command line calls the entry point once per `--wrapping-keys`, then
`add_master_key` with each `key=`, which here is the path of a keyring file. A
provider answers for one namespace, so one file per `--wrapping-keys`.
"""

import base64
import json

from aws_encryption_sdk.identifiers import EncryptionKeyType, WrappingAlgorithm
from aws_encryption_sdk.internal.crypto.wrapping_keys import WrappingKey
from aws_encryption_sdk.key_providers.base import MasterKeyProvider, MasterKeyProviderConfig
from aws_encryption_sdk.key_providers.raw import RawMasterKey, RawMasterKeyConfig


class RawAesFile(MasterKeyProvider):
    _config_class = MasterKeyProviderConfig
    provider_id = None
    # The command line's keys are all given up front; none is made from a header.
    vend_masterkey_on_decrypt = False

    def _new_master_key(self, key_id):
        with open(key_id, encoding="utf-8") as file:
            fields = json.load(file)
        if self.provider_id not in (None, fields["namespace"]):
            raise ValueError("one namespace for each --wrapping-keys")
        self.provider_id = fields["namespace"]
        return RawMasterKey(
            config=RawMasterKeyConfig(
                key_id=fields["name"],
                provider_id=fields["namespace"],
                wrapping_key=WrappingKey(
                    wrapping_algorithm=WrappingAlgorithm.AES_256_GCM_IV12_TAG16_NO_PADDING,
                    wrapping_key=base64.b64decode(fields["wrapping_key"], validate=True),
                    wrapping_key_type=EncryptionKeyType.SYMMETRIC,
                ),
            )
        )


def raw_aes(key_ids, **_settings):
    """The entry point. The command line adds the keys itself after this."""
    del key_ids
    return RawAesFile()
