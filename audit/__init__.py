"""A tamper-evident audit log: hash chain, RFC 6962 tree and C2SP checkpoints over canonical entries.

The package stands alone: it imports nothing of the server, so an outside auditor can read it and run
``python -m audit verify`` without the rest. Names are imported from their own modules.
"""
