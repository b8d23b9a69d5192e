"""Every label that separates one use of a key from another; no two uses share one.

A label enters a KDF as ``info`` or stands before the bytes that are signed.
"""

from enum import Enum


class Label(bytes, Enum):
    """Domain separation, one member for each use."""

    # key derivation
    PQXDH_SECRET = b"SecureChat v1 PQXDH secret"
    SESSION_ROOT = b"SecureChat v1 session root"
    ROOT_STEP = b"SecureChat v1 root step"
    MESSAGE_KEYS = b"SecureChat v1 message keys"
    PQ_EPOCH = b"SecureChat v1 PQ epoch"
    PQ_CHAIN_STEP = b"SecureChat v1 PQ chain step"
    SESSION_ID = b"SecureChat v1 session id"
    STORE_KEY = b"SecureChat v1 store key"
    # hashes and associated data
    ASSOCIATED_DATA = b"SecureChat v1 associated data"
    SAFETY_NUMBER = b"SecureChat v1 safety number"
    DEVICE_LIST_HASH = b"SecureChat v1 device list hash"
    PQ_OFFER_TAG = b"SecureChat v1 PQ offer tag"
    HANDSHAKE_HASH = b"SecureChat v1 handshake hash"
    # signatures
    SIGN_DEVICE_LIST = b"SecureChat v1 signed device list\x00"
    SIGN_DEVICE_RECORD = b"SecureChat v1 signed device record\x00"
    SIGN_PREKEY = b"SecureChat v1 signed prekey\x00"
    SIGN_CHALLENGE = b"SecureChat v1 signed challenge\x00"
