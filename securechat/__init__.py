"""SecureChat: end-to-end encrypted messaging for health care. This module imports nothing."""
